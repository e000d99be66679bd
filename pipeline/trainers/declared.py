"""What TRL, transformers and peft say of the type of each argument, read from their source: importing them takes
seconds, and a mistake is to be told before that.

A class of arguments is a dataclass: its annotated fields are the arguments, those of its bases among them. An enum
stands for its values. What this module does not know stands for anything: the library then tells of it as it did.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Optional, Union

TRAINERS = {  # the class, by the method that passes its arguments on to it
    "sft": "SFTConfig",
    "best_of_n": "SFTConfig",
    "reward": "RewardConfig",
    "dpo": "DPOConfig",
    "orpo": "DPOConfig",
    "kto": "KTOConfig",
    "rloo": "RLOOConfig",
    "grpo": "GRPOConfig",
}
_FILES = {  # where a class is
    **{name: ("trl", f"trainer/{name.removesuffix('Config').lower()}_config.py") for name in TRAINERS.values()},
    "_BaseConfig": ("trl", "trainer/base_config.py"),
    "TrainingArguments": ("transformers", "training_args.py"),
    "OptimizerNames": ("transformers", "training_args.py"),
    "SchedulerType": ("transformers", "trainer_utils.py"),
    "DebugOption": ("transformers", "debug_utils.py"),
    "LoraConfig": ("peft", "tuners/lora/config.py"),
    "PeftConfig": ("peft", "config.py"),
}
_KNOWN = {
    **{kind.__name__: kind for kind in (int, float, str, bool, dict, list)},
    **{"None": None, "Any": Any, "Literal": Literal, "Optional": Optional, "Union": Union},
}


@cache
def fields(name: str) -> Mapping[str, Any]:
    """The types of a class's arguments by name; none where its source cannot be read."""
    found: dict[str, Any] = {}
    body = _classes(*_FILES[name]).get(name) if name in _FILES else None
    if body is None:
        return found
    for base in body.bases:
        if isinstance(base, ast.Name):
            found |= fields(base.id)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_argument(node):
            found[node.target.id] = _type(node.annotation)
    return found


@cache
def choices(name: str) -> tuple[str, ...]:
    """The values of an enum; none where it is not known."""
    body = _classes(*_FILES[name]).get(name) if name in _FILES else None
    assigned = [node.value for node in body.body if isinstance(node, ast.Assign)] if body else []
    return tuple(v.value for v in assigned if isinstance(v, ast.Constant) and isinstance(v.value, str))


def _is_argument(node: ast.AnnAssign) -> bool:
    """Not a class variable, nor a field that the class fills in itself."""
    if "ClassVar" in ast.unparse(node.annotation):
        return False
    given = node.value.keywords if isinstance(node.value, ast.Call) else []
    return not any(k.arg == "init" and isinstance(k.value, ast.Constant) and not k.value.value for k in given)


@cache
def _classes(package: str, path: str) -> Mapping[str, ast.ClassDef]:
    """The classes of a package's file. The package is found, not imported."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        try:
            body = ast.parse(Path(folder, path).read_text(encoding="utf-8")).body
        except (OSError, SyntaxError, ValueError):
            continue
        return {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    return {}


def _type(node: ast.expr) -> Any:
    """An annotation as a type: unions of plain types, of lists and of dictionaries; anything else is Any."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts = [*_parts(node)]
        if any(choices(p.id) for p in parts if isinstance(p, ast.Name)):  # `SchedulerType | str`: one of its values
            parts = [p for p in parts if not (isinstance(p, ast.Name) and p.id == "str")]
        return Union[tuple(_type(part) for part in parts)]  # noqa: UP007  of as many as there are
    if isinstance(node, ast.Name) and (values := choices(node.id)):
        return Literal[values]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a type in quotes
        try:
            return _type(ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            return Any
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Subscript):
        return _subscripted(node)
    return _KNOWN.get(node.id, Any) if isinstance(node, ast.Name) else Any


def _subscripted(node: ast.Subscript) -> Any:
    base = _KNOWN.get(node.value.id) if isinstance(node.value, ast.Name) else None
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if base is Literal:
        return Literal[tuple(part.value for part in inner if isinstance(part, ast.Constant))]
    if base in (Union, Optional):
        return Union[(*map(_type, inner), *([None] if base is Optional else []))]
    if base is list:
        return list[_type(inner[0])]  # type: ignore[misc]  # a type made here
    if base is dict:
        return dict[_type(inner[0]), _type(inner[1])]  # type: ignore[misc]
    return Any


def _parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_parts(node.left), *_parts(node.right)]
    return [node]
