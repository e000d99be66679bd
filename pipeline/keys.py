"""Keys for servers: the only thing that a process other than the command line reads from the environment by itself.

Settings and job files hold the name of a variable, never what is in it; whoever talks to the server looks it up.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr


class Key(SecretStr):
    """A secret that knows the variable it is from, for messages. An empty one is a key that is not there."""

    def __init__(self, value: str, variable: str) -> None:
        super().__init__(value)
        self.variable = variable


def secret(name: str) -> Key | None:
    """A secret from the environment, or from the file that `NAME_FILE` names."""
    if os.environ.get(name):
        return Key(os.environ[name], name)
    file = os.environ.get(f"{name}_FILE")
    return Key(Path(file).read_text().strip(), name) if file else None
