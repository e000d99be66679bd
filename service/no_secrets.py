"""That settings hold no key: they are stored with a run, shown in its report, and given to child processes.

Names of mappings are looked at, at any depth, and addresses: a name and a password before the host, a key after the
question mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAMED = re.compile(r"(^|[_-])(api[_-]?key|(access|auth|hub|hf)[_-]token|secret|password|authorization|bearer)$|^token$")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
IN_QUERY = re.compile(r"[?&][^=&]*(key|token|secret|password|passwd|sig)[^=&]*=[^&]", re.IGNORECASE)


def refuse_secrets(value: Any) -> None:
    """Raises ValueError, without the secret in it, where a setting's value holds one."""
    if isinstance(value, str) and ADDRESS.match(value):
        host = value.split("://", 1)[1].split("/", 1)[0]
        if "@" in host or IN_QUERY.search(value):
            raise ValueError(
                "an address with a password or a key in it does not belong in settings: take it out, and put the key "
                "where api_key_env says, in the environment"
            )
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str) and inner and isinstance(inner, str) and NAMED.search(name.lower()):
                raise ValueError("a key does not belong in settings: put it where api_key_env says, in the environment")
            refuse_secrets(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_secrets(inner)
