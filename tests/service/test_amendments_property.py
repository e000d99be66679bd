"""Whatever is amended, in whatever order: the store's labels are those of a fresh store in which the last constitution
alone was ever judged, each question is asked once, and the preview said how many that would be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitution.principles import Constitution
from constitution.records import Id, Prompt
from service.actions.ratify import ratify
from service.queries import preview
from service.queries.preview import Preview
from storage.store import Store
from tests.flows import pools
from tests.flows.pools import HashWiring, principle, write

Entries = list[dict[str, Any]]
WORDS = tuple(f"Which {word}?" for word in ("is kind", "is short", "is fair", "is calm"))  # few, so that they come back
PROMPTS = 2  # twenty comparisons
BOUNDED = {"deadline": None, "derandomize": True, "database": None,
           "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}  # fmt: skip

# An amendment: what is done, to which principle (counted round), and with which words or weight.
amendments = st.lists(
    st.tuples(
        st.sampled_from(
            "add|remove|reword|reword back|reweight|rename|retitle|say the same|recritique|move".split("|")
        ),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def amended(before: list[Entries], edit: tuple[str, int, int], fresh: Iterator[int]) -> Entries:
    """The next text, of all those before. `fresh` numbers give ids and titles that nothing had."""
    kind, which, what = edit
    now = [dict(entry) for entry in before[-1]]
    entry = now[which % len(now)]
    if kind == "add":
        now.insert(which % (len(now) + 1), principle(f"new{next(fresh)}", 1 + what % 3, comparison=WORDS[what % 4]))
    elif kind == "remove" and len(now) > 1:
        now.remove(entry)
    elif kind == "reword":
        entry["comparison"] = WORDS[what % 4] if what < 4 else f"Which is best, {next(fresh)}?"
    elif kind == "reword back":
        entry["comparison"] = before[what % len(before)][0]["comparison"]
    elif kind == "reweight":
        entry["weight"] = (0.5, 2, 9, 1)[what % 4]
    elif kind == "rename":
        entry["id"] = f"other{next(fresh)}"
    elif kind == "retitle":
        entry["title"] = f"Title {next(fresh)}"
    elif kind == "say the same":
        entry["comparison"] = now[what % len(now)]["comparison"]
    elif kind == "recritique":
        entry["critique"] = f"What is wrong, {next(fresh)}?"
    else:
        now.append(now.pop(which % len(now)))
    return now


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Prompt], list[Id]]:
    """A store's file with the comparisons and nothing else, to be copied."""
    file = tmp_path_factory.mktemp("blank") / "blank.db"
    with Store.open(f"sqlite:///{file}") as store:
        prompts, ids = pools.fill(store, PROMPTS)
    return file, prompts, ids


@pytest.fixture
def opened(blank: tuple[Path, list[Prompt], list[Id]], tmp_path: Path) -> Callable[[], HashWiring]:
    """A fresh store with the comparisons, each time it is called."""
    number = count()

    def open_one() -> HashWiring:
        file = tmp_path / f"{next(number)}.db"
        shutil.copy(blank[0], file)
        return HashWiring(f"sqlite:///{file}", tmp_path)

    return open_one


def follow(wiring: HashWiring, opened: Callable[[], HashWiring], prompts: Any, ids: list[Id], edits: Any) -> None:
    """Amend step by step, and look after each."""
    store, judge, fresh = wiring.store, wiring.hash_judge, count()
    before: list[Entries] = [[principle("kind", 3, comparison=WORDS[0]), principle("short", comparison=WORDS[1])]]
    now = write(before[-1])
    run = pools.base_run(wiring, now, prompts, ids)
    store.ratify(now.version, "ada", "the first", "first", text=now.source)
    for edit in edits:
        before.append(amended(before, edit, fresh))
        draft = write(before[-1])
        if draft.source == now.source:
            continue
        found = preview.preview(wiring, draft, "ada", base="ratified")
        ratify(store, draft, store.amendment("ratified"), "ada", str(edit))
        asked = wiring.label(run, draft, ids)
        assert asked == found.as_dict()["cost"]["verdicts"] == sum(words_asked(found).values())
        labels = wiring.labels(draft, ids)
        assert labels == {i: pools.outcome(draft, i) for i in ids}
        assert labels == from_scratch(opened(), draft, prompts, ids)
        check_flips(found, now, draft, ids)
        now = draft
    assert len(judge.asked) == len(set(judge.asked))  # nothing was ever asked twice


def words_asked(found: Preview) -> dict[str, int]:
    """What is missing, by words: principles that say the same are asked about once."""
    return {found.draft[name].comparison: number for name, number in found.missing.items()}


def from_scratch(wiring: HashWiring, now: Constitution, prompts: Any, ids: list[Id]) -> dict[Id, tuple[str, int]]:
    try:
        run = pools.base_run(wiring, now, prompts, ids)
        assert wiring.store.run(run.id).status == "finished"
        return wiring.labels(now, ids)
    finally:
        wiring.close()


def check_flips(found: Preview, old: Constitution, new: Constitution, ids: list[Id]) -> None:
    """What was sure came true; what was not said to be open stayed."""
    truth = pools.flips(old, new, ids)
    assert found.labels.total == len(ids)
    assert found.labels.flips <= len(truth) <= found.labels.flips + found.labels.open
    assert {flip.comparison for flip in found.examples} <= truth
    if not found.missing:
        assert (found.labels.flips, found.labels.open) == (len(truth), 0)


@settings(max_examples=15, **BOUNDED)  # type: ignore[arg-type]
@given(edits=amendments)
def test_labels_are_those_of_a_fresh_store(opened: Any, blank: Any, edits: list[tuple[str, int, int]]) -> None:
    _, prompts, ids = blank
    wiring = opened()
    try:
        follow(wiring, opened, prompts, ids, edits)
    finally:
        wiring.close()


@settings(max_examples=3, **BOUNDED)  # type: ignore[arg-type]
@given(edits=amendments.filter(lambda edits: len(edits) > 3))
def test_labels_are_those_of_a_fresh_store_on_postgres(
    opened: Any, postgres: Any, tmp_path: Path, edits: list[tuple[str, int, int]]
) -> None:
    wiring = HashWiring(postgres.new_schema(), tmp_path)
    try:
        prompts, ids = pools.fill(wiring.store, PROMPTS)
        follow(wiring, opened, prompts, ids, edits)
    finally:
        wiring.close()


def test_each_kind_of_amendment_once() -> None:
    """The generator does what it says, so that the properties are about something."""
    start: Entries = [principle("kind", comparison=WORDS[0]), principle("short", comparison=WORDS[1])]
    seen = {}
    for kind in ("add", "remove", "reword", "reweight", "rename", "retitle", "say the same", "recritique", "move"):
        seen[kind] = write(amended([start], (kind, 0, 1), count()))
    base = write(start)
    assert {kind for kind, c in seen.items() if c.version == base.version} == {"retitle", "move"}
    assert {kind for kind, c in seen.items() if len(c) != 2} == {"add", "remove"}
    assert [p.comparison for p in seen["say the same"]] == [WORDS[1]] * 2
