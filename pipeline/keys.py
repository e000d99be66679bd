"""Keys for servers: the only thing that a process other than the command line reads from the environment by itself.

Settings and job files hold the name of a variable, never what is in it; whoever talks to the server looks it up.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr


def secret(name: str) -> SecretStr | None:
    """A secret from the environment, or from the file that `NAME_FILE` names."""
    if os.environ.get(name):
        return SecretStr(os.environ[name])
    file = os.environ.get(f"{name}_FILE")
    return SecretStr(Path(file).read_text().strip()) if file else None
