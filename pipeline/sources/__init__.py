"""Where prompts come from, by name: a file, the sandbox, whatever a module or an installed package gives.

sources.read("prompts.jsonl", splits)                        a path is the `file` source
sources.read("sandbox", splits)                              a source by name
sources.read({"source": "x", "topic": "letters"}, splits)    a source with options of its own
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from constitution.errors import UserError
from constitution.records import Id, Prompt, Split
from constitution.streams import Stream
from pipeline import plugins
from pipeline.sources import public
from pipeline.sources.source import Generate, Source, Splits

__all__ = ["Generate", "Source", "Splits", "load", "names", "read"]

FILE = "file"


def names() -> list[str]:
    """The names that `prompts` may have in the settings, besides a path."""
    return plugins.names(__name__, "prompts")


def load(name: str) -> Source:
    """The module of a source. Raises UserError for a name that is none."""
    if name.replace("-", "_") in public.SETS and name not in names():
        raise UserError(
            f"{name} is a public set, of a file on your disk: name that, too: "
            f'{{source = "public", set = "{name}", path = "FILE"}}'
        )
    return cast(Source, plugins.load(__name__, "prompts", name, "prompt source"))


def read(where: str | Mapping[str, Any], splits: Splits, generate: Generate | None = None) -> Sequence[Prompt]:
    """The prompts of a path, of a source by name, or of a table with the key `source`; the first of those that repeat.
    `generate`: has a model make texts, for the sources that ask one.

    Raises UserError where there are none, and where the source says that it cannot.
    """
    name, options = _named(where)
    found: dict[Id, Prompt] = {}
    try:
        source = load(name)
        if "generate" not in inspect.signature(source.prompts).parameters:
            given = source.prompts(options, splits)
        elif generate is None:
            raise UserError(
                f"the prompt source {name!r} asks a model, and there is none here: export its prompts first"
            )
        else:
            given = cast(Any, source).prompts(options, splits, generate)
        if not isinstance(given, Stream):
            given = list(given)
    except UserError:
        raise
    except Exception as error:  # another's code may raise anything
        raise UserError(f"the prompt source {name!r} failed: {type(error).__name__}: {error}; mend it") from error
    for prompt in given:
        if not isinstance(prompt, Prompt) or not prompt.messages:
            raise UserError(f"the prompt source {name!r} gave something that is no prompt; mend it")
        if prompt.split not in get_args(Split):  # what is not held out may be trained on
            raise UserError(f"the prompt source {name!r} gave a prompt of split {prompt.split!r}")
        if isinstance(given, Stream):
            continue  # none comes twice
        found.setdefault(prompt.id, prompt)
    if not given:
        raise UserError(f"the prompt source {name!r} gave no prompts: look at its options, prompts = in precept.toml")
    return given if isinstance(given, Stream) else list(found.values())


def _named(where: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if not where:
        raise UserError(
            "there are no prompts: name a file (.jsonl, .json, .csv or .parquet) with prompts = in precept.toml"
        )
    if isinstance(where, str):
        if where not in names() and (Path(where).suffix or len(Path(where).parts) > 1 or Path(where).is_file()):
            return FILE, {"path": where}
        return where, {}
    if "source" not in where and "path" in where:
        return FILE, where
    if not isinstance(where.get("source"), str):
        raise UserError(f'a table of prompts names its source: prompts = {{source = "x"}}, x of {", ".join(names())}')
    return where["source"], {key: value for key, value in where.items() if key != "source"}
