"""What a judge's two orders say of it: one that always says A, one that guesses, one that reads."""

from __future__ import annotations

from constitution.records import PROBABILITY, Verdict, make_id
from pipeline.metrics import consistency


def verdict(p1: float, p2: float, mass: float = 1.0, question: bytes = b"q" * 16) -> Verdict:
    return Verdict(question, make_id("c", p=[p1, p2, mass]), *(round(x * PROBABILITY) for x in (p1, p2, mass, mass)))


def test_a_judge_that_always_says_a_is_never_consistent_and_its_probes_are_at_chance() -> None:
    always = [verdict(0.9, 0.1 + n / 1000) for n in range(50)]
    found = consistency.consistency(always, 0.5)[b"q" * 16]
    assert found.consistent == 0 and found.first_chosen == 1.0
    assert consistency.probe([(v, n % 2 == 0) for n, v in enumerate(always)], 0.5).at_chance


def test_probes_tell_a_judge_that_guesses_from_one_that_reads() -> None:
    every = [(verdict(p1, p2), first) for p1 in (0.1, 0.9) for p2 in (0.1, 0.9) for first in (True, False)] * 20
    assert consistency.probe(every, 0.5).at_chance
    # Consistent on half of the pairs only, but there it names the revision: it reads.
    reads = [(verdict(0.9, 0.9), True)] * 10 + [(verdict(0.1, 0.1), False)] * 10 + [(verdict(0.9, 0.1), True)] * 20
    found = consistency.probe(reads, 0.5)
    assert (found.readable, found.consistent, found.revision) == (40, 0.5, 1.0) and not found.at_chance
    assert consistency.probe([(verdict(0.9, 0.9, mass=0.1), True)], 0.5).readable == 0


def test_of_a_few_pairs_nothing_is_said_against_a_judge_and_of_more_it_is() -> None:
    said = {(n, k): consistency.Probe(n, k / n, 1.0) for n in (1, 3, 6, 7, 40) for k in range(n + 1)}
    few = {seen for seen, found in said.items() if found.too_few}
    assert {(1, 1), (3, 3), (6, 4), (6, 5)} <= few  # all of three agree: guessing does that, and so does a reader
    assert not few & {(3, 0), (6, 2), (7, 1), (40, 20)}  # orders that agree on 80% would not
    assert not any(found.too_few for found in said.values() if not found.at_chance)


def test_consistency_counts_unreadable_apart() -> None:
    found = consistency.consistency([verdict(0.9, 0.8)] * 60 + [verdict(0.9, 0.9, mass=0.1)] * 40, 0.5)
    assert (found[b"q" * 16].readable, found[b"q" * 16].unreadable, found[b"q" * 16].consistent) == (60, 40, 1.0)


def test_exact_halves_in_both_orders_are_counted_apart_and_say_nothing_of_the_orders() -> None:
    said = [verdict(0.9, 0.1)] * 10 + [verdict(0.5, 0.5)] * 30 + [verdict(0.5, 0.5, mass=0.1)] * 5
    found = consistency.consistency(said, 0.5)[b"q" * 16]
    assert (found.readable, found.unreadable, found.abstained) == (10, 5, 30)
    assert (found.consistent, found.first_chosen) == (0.0, 1.0)
    probed = consistency.probe([(v, True) for v in said], 0.5)
    assert (probed.readable, probed.consistent, probed.abstained) == (10, 0.0, 30)
