"""What people touch: the command line `precept`. `main.py` is the entry; each other module is one job at the terminal."""
