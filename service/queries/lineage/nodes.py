"""Nodes of a lineage: what is said of each record. How they hang together is in `back.py` and `forward.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from constitution.principles import Principle
from constitution.records import WEIGHT, Checkpoint, Event, Generation, Id, Messages
from pipeline.metrics.words import number
from service.queries.lineage.graph import Fact, Node
from service.queries.lineage.names import SHORT
from service.queries.lineage.records import Version
from storage.amendments import Amendment
from storage.runs import Run
from storage.texts import Pair

TEXT = 60  # characters of a prompt or an answer that are shown


def short(id: Id | str) -> str:
    return (id.hex() if isinstance(id, bytes) else id)[:SHORT]


def counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def title_of(text: str) -> str:
    """A text on one line, cut."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT else f"{line[: TEXT - 1]}…"


def person(who: str) -> Node:
    return Node(f"person:{who}", "person", who)


def amendment(of: Amendment) -> Node:
    before: tuple[Fact, ...] = (("after", f"amendment {of.number - 1}"),) if of.number > 1 else ()
    facts = (("by", of.who), ("on", of.at[:10]), ("version", short(of.version)), *before, ("why", of.message))
    return Node(f"amendment:{of.number}", "amendment", f"amendment {of.number}", facts)


def constitution(of: Version, amendments: Sequence[Amendment]) -> Node:
    """`amendments`: all, of which several may have put it in force."""
    numbers = [str(a.number) for a in amendments if a.version == of.version]
    when = f"in amendment {' and '.join(numbers)}" if numbers else "never"
    facts = (("principles", len(of.constitution)), ("ratified", when), ("name", of.constitution.name))
    return Node(f"constitution:{of.version}", "constitution", f"constitution {short(of.version)}", facts)


def principle(of: Version, one: Principle) -> Node:
    """A wording, named by the amendment that wrote it: another wording under the same id is another node."""
    by = of.writers[one.id]
    wrote: tuple[Fact, ...] = (("by", by.who), ("in", f"amendment {by.number}"), ("why", by.message)) if by else ()
    facts: tuple[Fact, ...] = (("id", one.id), ("weight", one.weight / WEIGHT), *wrote)
    return Node(f"principle:{one.id}@{by.number if by else short(of.version)}", "principle", one.title, facts)


def run(of: Run) -> Node:
    facts = (("flow", of.kind), ("status", of.status), ("begun", of.created[:16].replace("T", " ")))
    return Node(f"run:{of.id.hex()}", "run", f"run {short(of.id)}", facts)


def checkpoint(of: Checkpoint, run: Id | None, promoted: bool) -> Node:
    what = "reward model" if of.kind == "reward_model" else f"{of.method} policy"
    facts: list[Fact] = [("weights", short(of.digest)), ("folder", PurePath(of.path).name)]
    facts += [("run", short(run))] if run else []
    facts += [("now", "promoted")] if promoted else []
    return Node(f"checkpoint:{of.id.hex()}", "checkpoint", f"{what} {short(of.id)}", tuple(facts))


def data_set(of: Checkpoint) -> Node:
    rows = of.metrics.get("rows")
    facts: tuple[Fact, ...] = (("rows", rows),) if isinstance(rows, int) else ()
    return Node(f"dataset:{of.dataset}", "data set", f"data set {short(of.dataset)}", facts)


def text(of: Generation) -> Node:
    facts: list[Fact] = [("text", title_of(of.text)), ("sample", str(of.sample)), ("engine", short(of.engine))]
    facts += [("principle", of.principle), ("round", str(of.round + 1))] if of.principle else []
    return Node(f"generation:{of.id.hex()}", "answer", f"{of.kind} {short(of.id)}", tuple(facts))


def prompt(id: Id, messages: Messages, facts: tuple[Fact, ...] = ()) -> Node:
    said = next((m.content for m in reversed(messages) if m.role == "user"), "")
    return Node(f"prompt:{id.hex()}", "prompt", f"prompt {short(id)}", (("text", title_of(said)), *facts))


def comparison(of: Pair) -> Node:
    id, facts = of.comparison.id, (("first", title_of(of.first)), ("second", title_of(of.second)))
    return Node(f"comparison:{id.hex()}", "comparison", f"comparison {short(id)}", facts)


def promotion(of: Event) -> Node:
    facts = (("by", of.who), ("on", of.at[:10]), ("why", str(of.payload.get("why", ""))))
    return Node(f"promotion:{of.id}", "promotion", "roll-back" if of.kind == "roll_back" else "promotion", facts)


def decision(run: Id, of: Mapping[str, Any]) -> Node:
    reasons = [str(reason).partition(": ") for reason in of.get("reasons", ())]
    failed = [rest for mark, _, rest in reasons if mark == "failed"]
    facts: list[Fact] = [("held", len(reasons) - len(failed)), ("failed", len(failed))]
    facts += [("because", "; ".join(failed))] if failed else []
    word = "promoted" if of.get("promoted") else "proposed" if of.get("proposed") else "refused"
    return Node(f"decision:{run.hex()}", "decision", word, tuple(facts))


def evaluation(run: Id, of: Mapping[str, Any], evaluator: str | None) -> Node:
    facts: list[Fact] = [("prompts", of["prompts"])] if isinstance(of.get("prompts"), int) else []
    win = of.get("win_rate") or {}
    if all(isinstance(win.get(name), int | float) for name in ("mean", "low", "high")):
        facts.append(("win rate", f"{number(win['mean'])} ({number(win['low'])} to {number(win['high'])})"))
    facts += [("evaluator", evaluator)] if evaluator else []
    return Node(f"evaluation:{run.hex()}", "evaluation", f"evaluation in run {short(run)}", tuple(facts))
