"""The embedded default: a small world whose right answers are known, and a tiny language model that learnt it.

It plugs into precept like any model and any list of prompts. Nothing in `pipeline` or `flows` has a branch for it.
"""
