"""What a constitution says that is no mistake, and yet does nothing, here or anywhere: told by `constitution check` as
notices. Nothing is loaded and nobody is asked.

A folder of a model that is not on this machine may be on the one that runs, and a tag that no prompt has today may come
with the next file; so a notice fails no check.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from constitution.difference import WORDLESS
from constitution.errors import UserError, meant
from constitution.principles import Constitution, Principle
from constitution.problems import Problem
from constitution.records import Prompt
from pipeline import plugins, sources
from pipeline.judges.by_principle import ANOTHER
from pipeline.metrics.wording import asks
from service.queries.declared import Said, placed
from service.settings import Settings
from service.wiring import CHECKPOINT, PROMOTED
from storage.store import Store

ROLES = (ANOTHER, "large", "reference")  # options that are the settings of a role


def notices(constitution: Constitution, settings: Settings | None = None) -> list[Problem]:
    """In the order of the file. `settings`: of a project, whose prompts and judge are looked at too."""
    own = settings.judge.method if settings is not None else "choice"
    tags = _known_tags(settings) if settings is not None and _by_tag(constitution) else None
    first: dict[tuple[Any, ...], str] = {}
    said: dict[int, list[Said]] = {}
    for number, principle in enumerate(constitution):
        said[number] = [
            *_voice(principle, constitution),
            *_words(principle, own),
            *_twice(principle, first, own),
            *_models(principle),
            *_tags(principle, tags),
        ]
    return placed(constitution, said)


def _voice(principle: Principle, constitution: Constitution) -> Iterator[Said]:
    if principle.tier and principle.hard:
        hint = "Remove `tier`, or remove `hard`."
        yield ("tier",), "`hard` decides before every tier, so this tier orders nothing but its own ties", hint
    elif principle.tier and len({(p.tier, p.hard) for p in constitution}) == 1:
        hint = "Give the others another tier, or leave it out."
        yield ("tier",), f"every principle is of tier {principle.tier}, so tiers decide nothing", hint


def _words(principle: Principle, own: str) -> Iterator[Said]:
    """What nobody reads because of who judges."""
    method = principle.judge.method if principle.judge is not None else own
    if principle.twin and not asks(principle, own):
        yield ("twin",), f"the judge `{method}` puts no question, so nobody reads its twin", "Remove it."
    shots = principle.judge.options.get("shots") if principle.judge is not None else None
    if isinstance(shots, int) and shots > 0 and not any(e.better != e.worse for e in principle.examples):
        hint = "Write `examples`, pairs whose better answer is known, or remove `shots`."
        yield ("judge", "shots"), "there is no example to be shown before the question", hint


def _twice(principle: Principle, first: dict[tuple[Any, ...], str], own: str) -> Iterator[Said]:
    """Two principles that ask the same of the same are one question, whose weights add."""
    method = principle.judge.method if principle.judge is not None else own
    words = () if method in WORDLESS else (principle.comparison, principle.why, principle.overridable)
    key = (words, principle.judge, principle.when)
    if key in first and method != "contrast":
        message = f"it asks what `{first[key]}` asks: one question, whose verdict counts with the weights of both"
        at = ("judge",) if method in WORDLESS and principle.judge is not None else ("comparison",)
        yield at, message, "Reword one of the two, or keep one, with the weight that you mean."
    first.setdefault(key, principle.id)


def _models(principle: Principle) -> Iterator[Said]:
    """Folders of models that are not on this machine."""
    if principle.judge is None:
        return
    for path, name in _named(principle.judge.options):
        if not _is_here(name):
            hint = "Check the path; a run tells it, too, before it begins."
            yield ("judge", *path), f"on this machine there is no model folder {name}", hint


def _named(options: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The models of roles in a judge's options, however deep, but those of servers and of other engines."""
    for key, value in options.items():
        if not isinstance(value, Mapping):
            continue
        if key in ROLES and not value.get("base_url") and value.get("kind", "transformers") == "transformers":
            yield from [((*above, key, "model"), str(value["model"]))] if value.get("model") else []
        yield from _named(value, (*above, key))


def _is_here(name: str) -> bool:
    if name == PROMOTED or CHECKPOINT.fullmatch(name) or name.partition(":")[0] in plugins.installed("models"):
        return True  # the store, or the package, knows it
    return Path(name).is_dir()


def _tags(principle: Principle, known: Collection[str] | None) -> Iterator[Said]:
    if principle.when is None or known is None:
        return
    for number, tag in enumerate(principle.when.tags):
        if tag not in known:
            message = f"no prompt of this project has the tag {tag!r}" + meant(tag, known)
            more = "" if set(principle.when.tags) & set(known) else ", and so the principle votes on none of them"
            there = f"They have {', '.join(sorted(known)[:12])}" if known else "They have none"
            hint = f"{there}: tag the prompts that it is for, or mend `when`."
            yield ("when", "tags", number), message + more, hint


def _by_tag(constitution: Constitution) -> bool:
    return any(p.when is not None and p.when.tags for p in constitution)


def _known_tags(settings: Settings) -> frozenset[str] | None:
    """The tags of the prompts of the settings, where no model has to make them, and of those in the store (a file).
    None where no prompt is to be had, so that nothing can be told."""
    prompts: list[Prompt] = []
    with suppress(UserError):  # it is told of where they are read
        prompts += sources.read(settings.prompts, sources.Splits(**settings.splits.model_dump()))
    url = settings.store.get_secret_value()
    if url.startswith("sqlite:///") and Path(url.removeprefix("sqlite:///")).is_file():
        with suppress(UserError), closing(Store.open(url, create=False, patience=2.0)) as store:
            prompts += store.prompts()
    return frozenset(tag for prompt in prompts for tag in prompt.tags) if prompts else None
