"""That settings hold no key: they are stored with a run, shown in its report, and given to child processes.

Names of mappings are looked at, at any depth, and addresses: a name and a password before the host, a key after the
question mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_KEYS = "api|access|private|secret|signing|openai|anthropic|azure|hf|hub|account|service|subscription|master|admin"
_TOKENS = "api|access|auth|bearer|hub|hf|id|refresh|session|secret|openai|github|service|csrf|private"
NAMED = re.compile(  # by the words of a name: max_tokens, pad_token, tokenizer and author are none
    rf"(^|[_-])((({_KEYS})[_-]?key)|(({_TOKENS})[_-]?token)|secrets?|pass(word|wd|phrase|code)|pwd"
    r"|credentials?|auth(orization)?|bearer|cookie)$|^(token|pass)$"
)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
IN_QUERY = re.compile(r"[?&][^=&]*(key|token|secret|password|passwd|sig)[^=&]*=[^&]", re.IGNORECASE)


def _said(value: Any) -> bool:
    """Whether a value says something that may be a key: a text, a number, or a list with one in it."""
    if isinstance(value, list | tuple):
        return any(_said(inner) for inner in value)
    return bool(value) and isinstance(value, str | int | float) and not isinstance(value, bool)


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
            if isinstance(name, str) and NAMED.search(name.lower()) and _said(inner):
                raise ValueError("a key does not belong in settings: put it where api_key_env says, in the environment")
            refuse_secrets(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_secrets(inner)
