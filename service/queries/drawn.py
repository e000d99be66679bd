"""One principle a label, drawn for each comparison, where `compare.principles = "sampled"` (CAI section 4.1): the judge
is asked about that one, and the label is what it says. The evaluator is asked about all.

What decides before others goes on doing so: every hard principle is asked, and one is drawn of each tier, so that no
draw passes over a veto or puts a lower tier in the place of a higher one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from constitution.principles import Principle
from constitution.records import Id, Label, LabelRule, Voice
from pipeline import label
from storage.outlook import Outlook, Prospects
from storage.runs import Run
from storage.store import Store

SAMPLED = "sampled"
AS_IF_ALL = (  # where a question is about several principles on the same pairs, no draw is looked at
    "one principle is drawn for each label (compare.principles); here labels are counted as if all had been asked, and "
    "what is not judged is open"
)


def is_sampled(run: Run | None, now: str) -> bool:
    """Whether a run's labels are each of one principle; of no run, by the setting as it is `now`."""
    of_run = run.settings.get("settings", {}).get("compare", {}) if run is not None else {}
    return bool(of_run.get("principles", now) == SAMPLED)


class Drawn(Mapping[Id, set[Id]]):
    """By comparison, its questions: drawn when they are looked up."""

    def __init__(
        self,
        heard: Sequence[Principle],
        asked: Mapping[str, Id],
        comparisons: Sequence[Id],
        named: Mapping[Id, Sequence[str]],
    ) -> None:
        self._asked, self._comparisons, self._named = asked, comparisons, named
        self._always = {asked[p.id] for p in heard if p.hard}
        self._tiers: dict[int, list[Principle]] = {}
        for principle in heard:
            if not principle.hard:
                self._tiers.setdefault(principle.tier, []).append(principle)

    def __getitem__(self, comparison: Id) -> set[Id]:
        wanted = self._named.get(comparison, ())
        among = ([p for p in some if p.id in wanted] or some for some in self._tiers.values())
        return self._always | {self._asked[label.drawn(some, comparison).id] for some in among}

    def __iter__(self) -> Iterator[Id]:
        return iter(self._comparisons)

    def __len__(self) -> int:
        return len(self._comparisons)


def questions(
    heard: Sequence[Principle],
    asked: Mapping[str, Id],
    comparisons: Sequence[Id],
    named: Mapping[Id, Sequence[str]] | None = None,
) -> Drawn:
    """By comparison, the questions of the principles that label it, of those that are heard: one that is drawn of each
    tier, and all that are hard. `asked`: by principle's id. `named`: by comparison, the principles that its prompt
    names: of a tier that has some of these, one of them is drawn."""
    return Drawn(heard, asked, comparisons, named or {})


def labels(store: Store, of: Mapping[Id, Set[Id]], voices: Mapping[Id, Voice], rule: LabelRule) -> list[Label]:
    """The labels of comparisons, each by its own questions alone."""
    by_questions: dict[tuple[Id, ...], list[Id]] = {}
    for comparison, asked in of.items():
        by_questions.setdefault(tuple(sorted(asked)), []).append(comparison)
    found: list[Label] = []
    for mine, some in sorted(by_questions.items()):
        found += store.labels(sorted(some), {question: voices[question] for question in mine}, rule, whole=True)
    return found


def outlook(
    store: Store,
    before: Mapping[Id, Voice],
    after: Mapping[Id, Voice],
    rule: LabelRule,
    was: Mapping[Id, set[Id]],
    now: Mapping[Id, set[Id]],
) -> Prospects:
    """As `Store.outlook`, each label by the questions that were drawn for it (`was`) and those that will be (`now`), by
    comparison. An edit moves a draw only to a principle that came, or away from one that went."""
    groups: dict[tuple[tuple[Id, ...], tuple[Id, ...]], list[Id]] = {}
    for comparison, questions in was.items():
        groups.setdefault((tuple(sorted(questions)), tuple(sorted(now[comparison]))), []).append(comparison)
    same = 0
    flips: list[Outlook] = []
    opened: list[Outlook] = []
    for (old, new), some in groups.items():
        found = store.outlook(some, {q: before[q] for q in old}, {q: after[q] for q in new}, rule)
        same += found.same
        flips += found.flips
        opened += found.open
    place = {comparison: number for number, comparison in enumerate(was)}
    return Prospects(same, *(sorted(each, key=lambda o: place[o.comparison]) for each in (flips, opened)))
