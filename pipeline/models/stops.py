"""Which tokens end an answer, written where servers look: a model folder's generation_config.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.models import checkpoint

NAME = "generation_config.json"


def write_stop_ids(folder: Path, parent: Path, stops: Sequence[int]) -> None:
    """Give `folder`, a model's or an adapter's on `parent`, a generation_config.json whose `eos_token_id` has `stops`
    beside those that it or its parent names. One that has them all is left as it is.

    Some tokenizers name only the end of text, and a server that stops there alone goes on into the next turn.
    """
    path = folder / NAME
    settings: dict[str, Any] = {}
    for place in (folder, *checkpoint.stack(parent)):
        settings = _read(place / NAME)
        if settings:
            break
    named = settings.get("eos_token_id", _read(checkpoint.stack(parent)[-1] / "config.json").get("eos_token_id"))
    known = [token for token in (named if isinstance(named, list) else [named]) if isinstance(token, int)]
    wanted = [*known, *(token for token in stops if token not in known)]
    if not wanted or (wanted == known and path.is_file()):
        return
    settings.pop("_from_model_config", None)  # with it the library writes it anew from config.json
    settings["eos_token_id"] = wanted if len(wanted) > 1 else wanted[0]
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
