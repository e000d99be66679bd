"""vLLM's servers for whoever has none: the environment that they run in, what they are told, and their lives.

The environment is vLLM's own (`environment.py`): its pins of fastapi and transformers are not ours.
"""
