"""What people touch: the command line `precept`. `main.py` is the entry, every other module one job."""
