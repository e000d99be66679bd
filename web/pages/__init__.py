"""Found by name: every module has a `router`."""
