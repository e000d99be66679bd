"""What is wrong with a job can be said before anything heavy is loaded: its rows and its model folder.

Every message is one line: file, line, what is wrong. Token lengths need the tokenizer and are checked in `fitting`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError

ROLES = ("system", "user", "assistant")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a JSONL data set, cut to `columns`, each with its line number as `line`.

    Raises UserError for the first bad row, telling how many more there are.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except OSError as error:
        raise UserError(f"{path}: the data set cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the data set is not UTF-8 text; it must be JSON Lines") from None
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row, problem = _parse(line, columns)
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            rows.append({**row, "line": number})
    if problems:
        more = f" ({len(problems) - 1} more bad rows)" if len(problems) > 1 else ""
        raise UserError(f"{path}, {problems[0]}{more}")
    if not rows:
        raise UserError(f"{path}: the data set is empty; it needs rows with {', '.join(columns)}")
    return rows


def check_preferences(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError where there are preference rows and none of them prefers one answer to the other."""
    if rows and all(row.get("p") == 0.5 for row in rows):
        raise UserError(
            f"{path}: every row is a tie (p is 0.5), so there is nothing to learn; label the pairs with a judge that "
            "tells them apart"
        )


def _parse(line: str, columns: Sequence[str]) -> tuple[dict[str, Any], str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        return {}, f"not JSON: {error}"
    if not isinstance(row, dict):
        return {}, "a row is one JSON object"
    if missing := [column for column in columns if column not in row]:
        return {}, f"the row lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}"
    row = {column: row[column] for column in columns}
    for column in columns:
        if column not in ("p", "label", "answer") and (problem := _check_messages(row[column])):
            return {}, f"{column}: {problem}"
    if "prompt" in row and row["prompt"][-1]["role"] == "assistant":
        return {}, "prompt: the last message is the assistant's; it must be the one that is answered"
    for column in ("completion", "chosen", "rejected"):
        if column in row and row[column][0]["role"] != "assistant":
            return {}, f"{column}: the first message must be the assistant's, not the {row[column][0]['role']}'s"
    if "chosen" in row and row["chosen"] == row.get("rejected"):
        return {}, "chosen and rejected are the same answer"
    if "answer" in row and not isinstance(row["answer"], str):
        return {}, f"answer must be a text, not {type(row['answer']).__name__}"
    if "label" in row and not isinstance(row["label"], bool):
        return {}, f"label must be true (a good answer) or false, not {row['label']!r}"
    if "p" in row and (problem := _check_probability(row["p"])):
        return {}, problem
    return row, ""


def _check_messages(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return 'must be a list of messages like [{"role": "user", "content": "..."}]'
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return 'every message must be like {"role": "user", "content": "..."}'
        if message.get("role") not in ROLES:
            return f"unknown role {message.get('role')!r}; the roles are {', '.join(ROLES)}"
    return ""


def _check_probability(p: Any) -> str:
    if isinstance(p, bool) or not isinstance(p, int | float) or not math.isfinite(p):
        return f"p must be a number, not {p!r}"
    if not 0.5 <= p <= 1:
        return f"p is {p}; it is the probability that `chosen` is the better, in [0.5, 1]: swap the two if it is less"
    return ""


def check_model_folder(folder: Path) -> None:
    """A Hugging Face model folder (or a LoRA folder) in safetensors, whole, that asks for no code of its own.

    Raises UserError. Nothing is loaded: a pickle would run code while being looked at.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such model folder")
    adapter = (folder / "adapter_config.json").is_file()
    config = _read_json(folder / ("adapter_config.json" if adapter else "config.json"))
    tokenizer_config = _read_json(folder / "tokenizer_config.json")
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
        if content.get("auto_map"):
            raise UserError(
                f"{folder / name}: asks for code of its own (auto_map), which is never run; use a model "
                "that transformers knows"
            )
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise UserError(f"{folder}: tokenizer.json is missing; copy the tokenizer's files beside the weights")
    _check_weights(folder, "adapter_model" if adapter else "model")
    vocabulary = _vocabulary(folder)
    if adapter:
        base = Path(str(config.get("base_model_name_or_path")))
        check_model_folder(base)
        if vocabulary and (below := _vocabulary(base)) and vocabulary != below:
            raise UserError(
                f"{folder}: its tokenizer has another vocabulary than the model it adapts, {base}; an adapter works "
                "only on the model that it was trained on"
            )


def _check_weights(folder: Path, stem: str) -> None:
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = set(_read_json(index).get("weight_map", {}).values())
    else:
        shards = {f"{stem}.safetensors"}
    missing = sorted(shard for shard in shards if not (folder / shard).is_file())
    if not missing:
        for shard in sorted(shards):
            read_header(folder / shard)
        return
    if pickles := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        raise UserError(
            f"{folder}: the weights are a pickle ({pickles[0]}), which can run code when it is loaded; "
            "convert them to safetensors"
        )
    raise UserError(f"{folder}: {missing[0]} is missing; the folder is incomplete, copy or download it again")


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Of each tensor in a safetensors file its `dtype` and `shape`, from the file's beginning alone.

    Raises UserError where the file is cut short or is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            header = json.loads(file.read(length)) if length <= size else {}
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        whole = 8 + length + max(entry["data_offsets"][1] for entry in tensors.values())
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: is damaged, it does not begin as a safetensors file; copy it again") from None
    if size != whole:
        raise UserError(f"{path}: is damaged, {size} bytes of {whole}; copy it again")
    return tensors


def _vocabulary(folder: Path) -> Any:
    """What tokenizer.json numbers its tokens by; None where the tokenizer is kept in another form."""
    if not (folder / "tokenizer.json").is_file():
        return None
    model = _read_json(folder / "tokenizer.json").get("model")
    return model.get("vocab") if isinstance(model, dict) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: {path.name} is missing; the folder is incomplete, copy it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold one JSON object")
    return content
