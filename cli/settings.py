"""`precept settings`: every value, and where it came from. Secrets and passwords are never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.options import Json, Set, SettingsFile, flags_of
from cli.screen import put_json, put_table


def settings(file: SettingsFile = None, set_: Set = None, as_json: Json = False) -> None:
    """Every setting with its value and origin: default, the file, environment or flag.

    Example: precept settings --set judge.model=models/judge
    """
    from service import settings as module

    loaded, origins = module.load(file, flags_of(set_))
    values = loaded.model_dump(mode="json") | {"store": module.redact(loaded.store.get_secret_value())}
    found = [
        {"name": name, "value": _hidden(name, value), "origin": _origin(name, origins)}
        for name, value in _leaves(values)
    ]
    if as_json:
        put_json(found)
    else:
        rows = [(str(f["name"]), "" if f["value"] is None else str(f["value"]), str(f["origin"])) for f in found]
        put_table(("setting", "value", "origin"), rows)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _origin(name: str, origins: Mapping[str, str]) -> str:
    """A table given whole (`lora = {}`) is the origin of all that is in it."""
    while name:
        if name in origins:
            return origins[name]
        name = name.rpartition(".")[0]
    return "default"


def _hidden(name: str, value: Any) -> Any:
    """Engine options are free text, and somebody will put a key there."""
    last = name.rpartition(".")[2].lower()
    if last.endswith(("_env", "tokens")):  # the name of a variable, and max_tokens
        return value
    return "***" if value and any(word in last for word in ("key", "token", "secret", "password")) else value
