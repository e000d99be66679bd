"""The preview of an amendment and its ratification, on 2,000 comparisons and a judge that is a hash (`pools.py`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.principles import Constitution, draw
from constitution.records import Checkpoint, Id, Prompt, make_id
from pipeline import label
from service.actions.ratify import ratify
from service.queries import preview
from service.queries.preview import Preview
from service.work.progress import Silent
from service.work.sample import sampled
from storage.amendments import Superseded
from storage.runs import Run
from storage.store import Store
from tests.flows import pools
from tests.flows.pools import HashWiring, principle, write

Entries = list[dict[str, Any]]
PROMPTS = 200  # ten pairs each


def entries() -> Entries:
    """The constitution in force, anew for each who edits it."""
    return [
        principle("kind", 3), principle("short"), principle("fair", 2), principle("calm", 0.5), principle("clear")
    ]  # fmt: skip


@dataclass
class Place:
    wiring: HashWiring
    prompts: list[Prompt]
    comparisons: list[Id]
    run: Run

    @property
    def store(self) -> Store:
        return self.wiring.store

    @property
    def asked(self) -> int:
        return len(self.wiring.hash_judge.asked)

    def preview(self, draft: Constitution, **options: Any) -> Preview:
        sample = options.pop("sample", 0)
        if sample:
            return sampled(self.wiring, draft, sample, who="ada", report=Silent(), **options)
        return preview.preview(self.wiring, draft, "ada", **options)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """2,000 comparisons, all judged under the five principles in force. Tests leave that text in force."""
    home = tmp_path_factory.mktemp("amending")
    url = f"sqlite:///{home}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres").new_schema()
    wiring = HashWiring(url, home)
    now = write(entries())
    prompts, ids = pools.fill(wiring.store, PROMPTS)
    run = pools.base_run(wiring, now, prompts, ids)
    wiring.store.ratify(now.version, "ada", "the first", "first", text=now.source)
    assert len(ids) == 2_000
    yield Place(wiring, prompts, ids, run)
    wiring.close()


# --- what costs nothing --------------------------------------------------------------------------------------------


def edited(name: str, **fields: Any) -> Entries:
    return [{**entry, **fields} if entry["id"] == name else entry for entry in entries()]


def without(*ids: str) -> Entries:
    return [entry for entry in entries() if entry["id"] not in ids]


FREE: dict[str, Callable[[], Constitution]] = {
    "retitled": lambda: write(edited("fair", title="Be fair to all")),
    "critique": lambda: write(edited("fair", critique="Where is it unfair?")),
    "revision": lambda: write(edited("fair", revision="Mend what is unfair.")),
    "tagged": lambda: write(edited("fair", tags="[tone]", applies="always")),
    "removed": lambda: write(without("fair")),
    "two removed": lambda: write(without("kind", "calm")),
    "reweighted": lambda: write(edited("fair", weight=9)),
    "reordered": lambda: write(reversed(entries()), comment="# the last shall be first\n"),
    "renamed": lambda: write(edited("fair", id="just")),
    "said twice": lambda: write([*entries(), principle("just", 4, comparison="Which is fair?")]),
    "all at once": lambda: write(
        [*edited("kind", weight=0.5, title="K")[1:], principle("k", 2, comparison="Which is kind?")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_what_is_free_is_priced_at_no_verdict_and_its_flips_are_exact(place: Place, name: str) -> None:
    draft, before = FREE[name](), place.asked
    found = place.preview(draft)
    shown = found.as_dict()
    truth = pools.flips(write(entries()), draft, place.comparisons)
    assert (shown["cost"]["verdicts"], shown["missing"], found.labels.open) == (0, {}, 0)
    assert shown["flips"] == len(truth)
    assert (found.labels.expected, found.labels.low, found.labels.high) == (len(truth),) * 3
    assert place.asked == before
    moves = {"removed", "two removed", "reweighted", "said twice", "all at once"}
    assert (shown["flips"] > 100) == (name in moves)  # the test would see a preview that says 0 to all
    assert found.difference.same_version == (name in {"retitled", "reordered"})


def test_the_clearest_flips_are_shown_with_what_did_it(place: Place) -> None:
    old, new = write(entries()), write(edited("fair", weight=9))
    found = place.preview(new)
    labels = {i: (pools.outcome(old, i), pools.outcome(new, i)) for i in pools.flips(old, new, place.comparisons)}

    def rank(id: Id) -> tuple[bool, int, Id]:
        (was, p), (now, q) = labels[id]
        return (was, now) != ("decided", "decided"), -abs(q - p), id

    assert [flip.comparison for flip in found.examples] == sorted(labels, key=rank)[: preview.SHOWN]
    for flip in found.examples:
        was, now = labels[flip.comparison]
        assert (flip.before, flip.after) == (pools.side(*was), pools.side(*now))
        assert (flip.p_before, flip.p_after) == (was[1] / 1e9, now[1] / 1e9)
        assert flip.principles == ("fair",)
        (pair,) = place.store.pairs([flip.comparison])
        assert (flip.prompt, flip.first, flip.second) == (pair.messages[0].content, pair.first, pair.second)


# --- what has to be asked ------------------------------------------------------------------------------------------


def test_a_reworded_principle_costs_its_share_of_all_verdicts_in_both_orders(place: Place) -> None:
    shown = place.preview(write(edited("short", comparison="Which one is shorter?"))).as_dict()
    every = len(place.comparisons) * len(entries())
    assert shown["cost"]["verdicts"] == every // len(entries()) == 2_000
    assert shown["missing"] == {"short": 2_000}
    assert shown["principles"]["changed"] == ["short"]
    default = shown["ways"]["default"]
    held = PROMPTS // 10
    assert (default["verdicts"], default["evaluation"], default["generated"]) == (2_000, held * 5, held)
    assert default["requests"] == held + 2 * (2_000 + held * 5)
    assert shown["cost"]["seconds"] == pytest.approx(0.02 * held + 2 * 0.001 * (2_000 + held * 5))
    assert shown["cost"]["tokens"] > 2_000


def test_an_added_principle_costs_one_verdict_a_comparison(place: Place) -> None:
    shown = place.preview(write([*entries(), principle("brave")])).as_dict()
    assert shown["cost"]["verdicts"] == len(place.comparisons)
    assert shown["principles"]["added"] == ["brave"]


def test_new_words_are_paid_for_once_however_many_principles_say_them(place: Place) -> None:
    both = [principle("brave"), principle("bold", comparison="Which is brave?")]
    reworded = [*edited("short", comparison="Which is brief?"), *both]
    assert place.preview(write([*entries(), *both])).as_dict()["cost"]["verdicts"] == 2_000
    assert place.preview(write(reworded)).as_dict()["cost"]["verdicts"] == 4_000


def test_the_old_wording_put_back_costs_nothing(place: Place) -> None:
    old, new = write(entries()), write(edited("kind", comparison="Which is the kinder one?"))
    priced = place.preview(new).as_dict()["cost"]["verdicts"]
    first = place.store.amendment("ratified")
    ratify(place.store, new, first, "bob", "kinder")
    assert place.wiring.label(place.run, new, place.comparisons) == priced == 2_000
    assert place.preview(new).as_dict()["cost"]["verdicts"] == 0  # a comment more would cost as little
    back = place.preview(old, base="ratified")
    assert (back.as_dict()["cost"]["verdicts"], back.labels.open) == (0, 0)
    assert back.labels.flips == len(pools.flips(new, old, place.comparisons)) > 100
    ratify(place.store, old, place.store.amendment("ratified"), "bob", "as it was")
    assert place.wiring.label(place.run, old, place.comparisons) == 0


def test_what_another_stage_asked_already_is_not_priced_again(place: Place) -> None:
    draft = write([*entries(), principle("early")])
    assert place.wiring.label(place.run, draft, place.comparisons[:700]) == 700
    assert place.preview(draft).as_dict()["missing"] == {"early": 1_300}


# --- a sample ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reworded", "added"])
def test_a_sample_asks_so_many_and_its_interval_holds_the_truth(place: Place, kind: str) -> None:
    if kind == "reworded":
        name, draft = "fair", write(edited("fair", comparison="Which is more just?"))
    else:
        name, draft = "wise", write([*entries(), principle("wise", 1)])
    blind = place.preview(draft)
    assert blind.labels.expected is None and blind.labels.open > 300
    before = place.asked
    found = place.preview(draft, sample=300)
    asked = place.wiring.hash_judge.asked[before:]
    new = place.wiring.hash_judge.question(draft[name]).id
    assert len(asked) == 300 and {question for question, _ in asked} == {new}
    truth = len(pools.flips(write(entries()), draft, place.comparisons))
    labels = found.labels
    assert labels.low is not None and labels.high is not None and labels.expected is not None
    assert labels.low < truth < labels.high and labels.low < labels.expected < labels.high
    assert labels.high - labels.low < 0.5 * blind.labels.open  # it says more than "some of those that may"
    assert (labels.total, labels.sampled) == (2_000, 300)
    assert found.as_dict()["cost"]["verdicts"] == 1_700

    again = place.preview(draft, sample=300)
    assert len(place.wiring.hash_judge.asked) == before + 300  # the same sample: nothing is left to be asked
    assert again.as_dict() == found.as_dict()
    more = place.preview(draft, sample=350)
    assert len(place.wiring.hash_judge.asked) == before + 350
    assert more.labels.sampled == 350

    whole = place.preview(draft, sample=10_000)  # all that may flip: the others are exact zeros
    assert place.asked - before == blind.labels.open
    assert (whole.labels.expected, whole.labels.low, whole.labels.high) == (truth,) * 3
    assert whole.labels.flips == truth and whole.labels.open == 0


# --- what becomes stale --------------------------------------------------------------------------------------------


def test_where_principles_are_drawn_the_counts_are_of_those(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, ids, old = place.wiring.settings, place.comparisons, write(entries())
    compare = settings.compare.model_copy(update={"principles": "sampled"})
    monkeypatch.setitem(place.wiring.__dict__, "settings", settings.model_copy(update={"compare": compare}))

    def alone(constitution: Constitution, comparison: Id) -> Constitution:
        return Constitution("x", (label.drawn(list(constitution), comparison),))

    fewer = write(entries()[1:])  # every verdict is there
    found = place.preview(fewer)
    truth = {c for c in ids if pools.flips(alone(old, c), alone(fewer, c), [c])}
    assert found.sampled and found.as_dict()["sampled_principles"] and not found.missing
    assert (found.labels.total, found.labels.flips, found.labels.open) == (len(ids), len(truth), 0)
    assert 0 < len(truth) < 0.3 * len(ids)  # a fifth of the draws moves
    assert {flip.comparison for flip in found.examples} <= truth

    more = write([*entries(), principle("drawn-new")])
    drawn = {c for c in ids if label.drawn(list(more), c).id == "drawn-new"}
    found = place.preview(more)
    assert found.missing == {"drawn-new": len(drawn)} and found.as_dict()["cost"]["verdicts"] == len(drawn)
    assert found.labels.flips + found.labels.open <= len(drawn)
    before = place.asked
    sampled = place.preview(more, sample=40)
    assert place.asked - before == 40 and sampled.labels.sampled == 40
    truth = {c for c in ids if pools.flips(alone(old, c), alone(more, c), [c])}
    assert sampled.labels.low is not None and sampled.labels.high is not None
    assert sampled.labels.low <= len(truth) <= sampled.labels.high


def test_stale_chains_are_those_whose_draws_meet_the_edit(place: Place) -> None:
    train = [p for p in place.prompts if p.split == "train"]
    old = write(entries())
    drawn = {p.id: [draw(old, pools.SEED, p.id, r).id for r in range(pools.ROUNDS)] for p in train}
    stale = place.preview(FREE["critique"]()).as_dict()["stale"]
    firsts = [rounds.index("fair") for rounds in drawn.values() if "fair" in rounds]
    assert 0 < len(firsts) < len(train)
    assert (stale["chains"], stale["of"]) == (len(firsts), len(train))
    assert stale["steps"] == 2 * sum(pools.ROUNDS - first for first in firsts)
    assert stale["checkpoints"] == ["sft", "reward", "dpo"]
    assert place.preview(FREE["removed"]()).as_dict()["stale"]["chains"] == len(firsts)
    for name, checkpoints in (("reweighted", ["reward", "dpo"]), ("retitled", []), ("reordered", [])):
        stale = place.preview(FREE[name]()).as_dict()["stale"]
        assert (stale["chains"], stale["steps"], stale["checkpoints"]) == (0, 0, checkpoints), name


def test_the_ways_are_priced_from_the_cheapest(place: Place) -> None:
    shown = place.preview(write([*entries(), principle("brave")])).as_dict()
    assert list(shown["ways"]) == ["default", "top-up", "revise", "scratch"]
    assert shown["cost"] == {k: shown["ways"]["default"][k] for k in ("verdicts", "tokens", "seconds")}
    requests = [way["requests"] for way in shown["ways"].values()]
    assert requests[0] < requests[1]


# --- which labels --------------------------------------------------------------------------------------------------


def test_the_pool_is_that_of_the_run_a_retrain_starts_from(tmp_path: Path) -> None:
    """A retrain that was refused is newer, but no retrain starts from it: the promoted model's run is priced."""
    wiring = HashWiring(f"sqlite:///{tmp_path}/a.db", tmp_path)
    try:
        store, now = wiring.store, write(entries())
        prompts, ids = pools.fill(store, 4)
        base = pools.base_run(wiring, now, prompts, ids)
        store.ratify(now.version, "ada", "first", "k", text=now.source)
        made = Checkpoint(
            make_id("job", n=1), "policy", "dpo", "/models/somewhere", "d" * 64, "p" * 64, "r" * 64, now.version
        )
        store.add_checkpoint(made, run=base.id)
        store.promote(made, who="ada", why="good", key="p", evidence={})
        other = store.start_run("refused", "retrain", base.settings, now.version)
        store.add_members(other.id, "feedback", ids[:3])
        store.finish_run(other.id, "finished", result={**pools.RESULT, "model": "elsewhere"})
        found = preview.preview(wiring, write([*entries(), principle("brave")]), "ada")
        assert found.pool.run is not None and found.pool.run.id == base.id
        assert found.as_dict()["cost"]["verdicts"] == len(ids) == 40
        named = preview.preview(wiring, write([*entries(), principle("brave")]), "ada", run=other.id.hex())
        assert named.as_dict()["cost"]["verdicts"] == 3
    finally:
        wiring.close()


def test_where_the_loop_never_ran_all_judged_comparisons_are_priced(store_url: str, tmp_path: Path) -> None:
    wiring = HashWiring(store_url, tmp_path)
    try:
        _, ids = pools.fill(wiring.store, 3)
        now = write(entries())
        with pytest.raises(UserError, match="nothing has been ratified"):
            preview.preview(wiring, now, "ada")
        wiring.store.ratify(now.version, "ada", "first", "k", text=now.source)
        judged = wiring.store.start_run("judge", "judge", {}, now.version)
        wiring.label(judged, now, ids[:20])
        shown = preview.preview(wiring, write([*entries(), principle("brave")]), "ada").as_dict()
        assert (shown["run"], shown["labels"]["total"], shown["cost"]["verdicts"]) == (None, 20, 20)
        assert list(shown["ways"]) == ["default"] and shown["cost"]["seconds"] is None
        assert shown["stale"] == {"chains": 0, "of": 0, "steps": 0, "checkpoints": []}
    finally:
        wiring.close()


# --- ratifying -----------------------------------------------------------------------------------------------------

FIRST = write(entries())
THEIRS = write(edited("short", weight=2))
YOURS = write(edited("calm", comparison="Which is calmer?"))
SAME_LINE = write(edited("short", weight=4))


def test_ratifying_is_one_amendment_with_its_file_reason_and_parent(store: Store) -> None:
    first = ratify(store, FIRST, None, "ada", "to begin with")
    second = ratify(store, YOURS, first, "bob", "calmer")
    assert (second.number, second.version, second.parent, second.text) == (
        2,
        YOURS.version,
        FIRST.version,
        YOURS.source,
    )
    assert (second.who, second.message) == ("bob", "calmer")
    assert store.amendments() == [first, second]


@pytest.mark.parametrize("message", ["", "  ", "\n\t"])
def test_an_amendment_without_a_reason_is_refused(store: Store, message: str) -> None:
    first = ratify(store, FIRST, None, "ada", "to begin with")
    with pytest.raises(UserError, match="-m"):
        ratify(store, YOURS, first, "bob", message)
    with pytest.raises(UserError, match="nothing to ratify"):
        ratify(store, FIRST, first, "bob", "again")
    assert store.amendments() == [first]


def test_an_amendment_that_was_overtaken_is_refused(store: Store) -> None:
    first = ratify(store, FIRST, None, "ada", "to begin with")
    theirs = ratify(store, THEIRS, first, "bob", "heavier")
    with pytest.raises(Superseded, match="bob ratified amendment 2 meanwhile") as refused:
        ratify(store, YOURS, first, "cy", "calmer")
    assert refused.value.now == theirs and store.amendments() == [first, theirs]


def test_what_a_draft_was_made_from(store: Store) -> None:
    first = ratify(store, FIRST, None, "ada", "to begin with")
    theirs = ratify(store, THEIRS, first, "bob", "heavier")
    both = write([{**e, "weight": 2} if e["id"] == "short" else e for e in edited("calm", comparison="Calmer?")])
    assert preview.made_from(store, YOURS.source, "ada") == first
    assert preview.made_from(store, both.source, "ada") == theirs
    assert preview.made_from(store, YOURS.source, "ada", "2") == theirs


def test_a_line_that_somebody_else_has_just_written_is_not_taken_for_ones_own(store: Store) -> None:
    """A draft that changes the same lines is as near to the text before as to theirs. The one who wrote those lines
    amends them again; anybody else is shown both."""
    first = ratify(store, FIRST, None, "ada", "to begin with")
    theirs = ratify(store, THEIRS, first, "bob", "heavier")
    assert preview.made_from(store, SAME_LINE.source, who="bob") == theirs
    assert preview.made_from(store, SAME_LINE.source, who="cy") == first


def test_of_two_who_ratify_at_one_moment_one_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ratify(store, FIRST, None, "ada", "to begin with")
    won, refused = race(store, monkeypatch, {"bob": THEIRS, "cy": YOURS, "dee": SAME_LINE}, first)
    (made,) = won
    assert [type(error) for error in refused] == [Superseded] * 2
    assert store.amendments() == [first, made] and made.text in {d.source for d in (THEIRS, YOURS, SAME_LINE)}


def test_of_two_who_ratify_the_first_at_one_moment_one_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    won, refused = race(store, monkeypatch, {"bob": THEIRS, "cy": YOURS}, None)
    assert [type(error) for error in refused] == [Superseded]
    assert store.amendments() == won and won[0].parent is None


def race(
    store: Store, monkeypatch: pytest.MonkeyPatch, drafts: dict[str, Constitution], base: Any
) -> tuple[list[Any], list[Exception]]:
    """All ratify at once: each has seen what is in force before any of them writes."""
    ready = threading.Barrier(len(drafts))
    seen = store.ratify

    def late(*args: Any, **more: Any) -> Any:
        ready.wait(timeout=30)
        return seen(*args, **more)

    monkeypatch.setattr(store, "ratify", late)
    won: list[Any] = []
    refused: list[Exception] = []

    def one(who: str, draft: Constitution) -> None:
        try:
            won.append(ratify(store, draft, base, who, f"{who} says so"))
        except Exception as error:
            refused.append(error)

    threads = [threading.Thread(target=one, args=item) for item in drafts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return won, refused
