"""Plans and prompts that are not held: the batches are those of a list, and memory grows by ids alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

from constitution.records import Message, Prompt, make_id
from constitution.streams import Ids, Stream, batched, picked
from pipeline import asking
from pipeline.asking import Ask, Role
from pipeline.engines.engine import Capabilities
from pipeline.engines.unloaded import Unloaded
from pipeline.respond import respond
from pipeline.sources.openings import Openings
from pipeline.sources.spool import Spool

FEW, MANY = 2_000, 6_000
ROLE = Role(Unloaded("engine", Capabilities()))


def prompt(number: int) -> Prompt:
    return Prompt((Message("user", f"{'word ' * (number % 7)}question {number} " * 3),), "train", "test")


def plan(count: int) -> Any:
    return respond(Stream(range(count), lambda some: [prompt(n) for n in some]), ROLE, seed=0)


def grown(work: Callable[[int], object]) -> float:
    """Bytes that one more record takes at the most, between FEW and MANY of them."""
    peaks = []
    for count in (FEW, MANY):
        tracemalloc.start()
        kept = work(count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del kept
    return (peaks[1] - peaks[0]) / (MANY - FEW)


def test_a_plan_takes_its_ids_and_no_requests() -> None:
    assert grown(lambda count: [len(some) for some in asking.batches(plan(count), 64)]) < 150
    assert grown(lambda count: list(plan(count))) > 500  # as it was held before


def test_prompts_of_a_file_lie_on_disk() -> None:
    def spooled(count: int) -> object:
        spool = Spool()
        for number in range(count):
            spool.put(prompt(number), "train" if number % 2 else None)
        return [p.id for p in spool.prompts()][:0], spool

    assert grown(spooled) < 250


def test_the_batches_of_a_stream_are_those_of_a_list() -> None:
    asks: list[Ask] = list(plan(300))
    asks += asks[:5]  # asked for twice, cut once
    stream = Stream(range(len(asks)), lambda some: [asks[n] for n in some])
    unique = {a.id: a for a in asks}.values()
    ordered = sorted(unique, key=lambda a: (sum(len(m.content) for m in a.request.chat.messages), a.id))
    wanted = [ordered[start : start + 16] for start in range(0, len(ordered), 16)]
    for given in (asks, stream):
        found = asking.batches(given, 16)
        assert list(found) == wanted and [found[n] for n in (7, 2, 18)] == [wanted[n] for n in (7, 2, 18)]
        assert [[asks[place] for place in found.places(n)] for n in range(len(found))] == wanted
        assert found.distinct == list(range(300))


def test_ids_are_kept_whole_in_order_and_once() -> None:
    ids = [make_id("test", n=n) for n in range(50)] + [b"\0" * 16, b"a" * 15 + b"\0", b"a" * 16]
    kept = Ids([*ids, *ids[:9]])
    assert kept == [*ids, *ids[:9]] and kept[3:5] == ids[3:5] and kept[-1] == ids[8]
    assert list(kept.in_order()) == sorted(set(ids)) and len(Ids().in_order()) == 0
    assert [kept[place] for place in sorted(kept.first_places().tolist())] == ids


def test_a_stream_is_made_where_it_is_looked_at() -> None:
    made: list[int] = []
    stream = Stream(range(5_000), lambda some: [made.append(n) or n * n for n in some])  # type: ignore[func-returns-value]
    assert stream[7] == 49 and stream[2:4] == [4, 9] and made == [7, 2, 3]
    assert picked(stream, [9, 1])[1] == 1 and sum(map(len, batched(stream, 7))) == 5_000


def test_what_opens_alike_has_the_most_held_out_split() -> None:
    spool = Spool()
    given: list[tuple[str, Any]] = [
        ("Tell me.", "train"),
        ("tell me", "heldout"),
        ("Other.", None),
        ("TELL ME!", "dev"),
    ]
    for text, split in given:
        spool.put(Prompt((Message("user", text),), split or "train", "test"), split)
    assert [p.split for p in spool.prompts()] == ["heldout", "heldout", "train", "heldout"]
    known = Openings(spool.prompts())
    assert known.split((Message("user", "tell  me"),), "dev") == "heldout"
    assert known.split((Message("user", "new"),), "dev") == "dev"
