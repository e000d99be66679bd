"""Model folders on disk: whether one is safe to load, and checkpoints: their manifest, digest, adapters, merging."""
