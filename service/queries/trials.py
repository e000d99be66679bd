"""The trials of judges: which pairs they are tried on, and what the last trial found. Read only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import canonical, text_digest
from pipeline import known, sources
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Judge
from pipeline.sources import known_pairs
from pipeline.sources.file import located
from service.settings import JudgeSettings, Settings
from storage.runs import Run
from storage.store import Store

DOCUMENT = "trial"  # kind of the stored results, by run and role
ROLES = ("judge", "evaluator")
SAME = (
    "kind",
    "revision",
    "base_url",
    "dtype",
    "options",
    "template_args",
    "judge_options",
)  # besides the model's name


def chosen(
    constitution: Constitution,
    settings: Settings,
    judge: Judge | None = None,
    further: Sequence[known_pairs.KnownPair] = (),
) -> known.Chosen:
    """The examples of a constitution, the pairs that the settings name, and further ones, which come first where there
    are more than are asked; without those of principles that this judge decides by code."""
    exact = {p.id for p in constitution if judge is not None and not asks_a_model(judge, p)}
    return known.choose(constitution, named_pairs(settings), settings.trial.most, exact, further)


def named_pairs(settings: Settings) -> list[known_pairs.KnownPair]:
    """The pairs of the files that `trial.pairs` names. Raises UserError for one that cannot be used."""
    return [pair for where in settings.trial.pairs for pair in _read(where)]


def _read(where: str | dict[str, Any]) -> list[known_pairs.KnownPair]:
    given: dict[str, Any] = {"path": where} if isinstance(where, str) else dict(where)
    if isinstance(where, str) and where in sources.names() and not Path(where).is_file():
        given["path"] = str(_of_a_source(where))
    format = given.pop("format", "")
    path, names, skip_bad = located(given, "trial.pairs")
    return known_pairs.found(path, str(format), names=names, skip_bad=skip_bad).pairs


def _of_a_source(name: str) -> Path:
    """The file of known pairs that a source of prompts brings with it."""
    path: Path | None = getattr(sources.load(name), "KNOWN", None)
    if path is None:
        raise UserError(f"the source {name!r} has no pairs with known answers; name a file: trial.pairs")
    return path


def about(settings: JudgeSettings, version: str) -> dict[str, str]:
    """What of a judge's settings says that a stored trial is of the same one, as far as settings tell, and asked under
    the constitution of that version."""
    told = settings.model_dump(mode="json", include=set(SAME))
    return {
        "model": settings.model, "method": settings.method, "answer_prefix": settings.answer_prefix,
        "constitution": version, "settings": text_digest(canonical(told)).hex(),
    }  # fmt: skip


def last(store: Store, settings: Settings, role: str, version: str) -> dict[str, Any] | None:
    """What the newest trial of a role found that was of the judge that these settings describe, under the constitution
    of that version; None where there was none."""
    wanted = about(getattr(settings, role), version)
    found = [
        told
        for key, told in store.documents(DOCUMENT).items()
        if key.endswith(f":{role}") and told.get("about") == wanted
    ]
    return found[-1] if found else None


def of_run(store: Store, run: Run, role: str) -> dict[str, Any] | None:
    """What the trial of a role found in a run, or None where it was not tried."""
    found: dict[str, Any] | None = store.document(DOCUMENT, f"{run.id.hex()}:{role}")
    return found


def said(
    told: dict[str, Any] | None,
    role: str,
    required: bool | Literal["checks"],
    *,
    by_code: bool = False,
    checked: bool = True,
    no_model: bool = False,
) -> str:
    """What there is to say of a role's last trial, in a sentence, and what follows for a run. `required`: the setting
    `trial.required`; `by_code`: code decides every principle; `checked`: it decides one, at least; `no_model`: the
    evaluator names no model."""
    if by_code:
        return f"code decides every principle: there is nothing to try the {role} on"
    if no_model:
        return f"the {role} has no model: what code checks is measured, and there is nothing to try it on"
    if told is None:
        option = " --evaluator" if role == "evaluator" else ""
        return f"the {role} was not tried yet: the run begins with it, and `precept judge trial{option}` tells now"
    follows = ""
    if not told["believed"] and required == "checks" and checked:
        follows = "; only what code checks decides"
    elif not told["believed"] and required:
        follows = "; a run stops at its trial" if role == "judge" else "; it promotes nothing"
    return f"{told['says'][0]}{follows}"
