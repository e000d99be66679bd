"""What the store's verdicts say against a constitution: gathers what `pipeline.metrics.lint` reads.

No model is loaded and nothing is asked: principles whose words no judge has seen are told of as not judged yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from constitution.principles import Constitution
from constitution.records import Id
from pipeline.metrics import lint as linting
from pipeline.metrics import wording
from pipeline.metrics.consistency import Probe, probe
from pipeline.metrics.finding import SEVERITIES, Finding
from pipeline.metrics.lint import Lint
from pipeline.metrics.voting import Votes
from service.queries import attribution, pool, revisions
from service.queries.drawn import is_sampled
from service.queries.pool import Pool
from service.wiring import Wiring
from storage.runs import Run
from storage.store import Store

LOOKED_UP = 5_000  # comparisons whose answers are looked up to see what a principle's votes stand by
SHOWN = 3  # prompts to a finding
PROBES = "revisions.probes"


@dataclass(frozen=True)
class Linted:
    """`shown`: of comparisons that a finding names, what was asked last."""

    constitution: Constitution
    pool: Pool
    lint: Lint
    shown: Mapping[Id, str]
    wordings: Sequence[Finding] = ()  # what the questions show by themselves
    sampled: bool = False  # in the pool's run one principle was drawn for each label, of each tier

    @property
    def findings(self) -> Sequence[Finding]:
        found = [*self.lint.findings, *self.wordings]
        return sorted(found, key=lambda each: SEVERITIES.index(each.severity))

    def as_dict(self) -> dict[str, Any]:
        run = self.pool.run
        return {
            "constitution": self.constitution.name,
            "version": self.constitution.version,
            "run": run.id.hex() if run else None,
            "comparisons": self.lint.comparisons,
            "sampled_principles": self.sampled,
            "principles": [
                {
                    "principle": f.principle,
                    "weight": f.weight / 1000,
                    "judged": f.judged,
                    "unreadable": f.unreadable,
                    "bears_on": f.bears,
                    "flips": f.flips.count,
                    **f.orders.as_dict(),
                }
                for f in self.lint.figures
            ],
            "pairings": [p.as_dict() for p in self.lint.pairings],
            "findings": [found.as_dict() for found in self.findings],
        }


def lint(wiring: Wiring, name: str = "", run: str = "") -> Linted:
    """Findings about the constitution of that name (a file or a revision; the settings' file) on the pool of a run."""
    store = wiring.store
    constitution = revisions.read(name, store) if name else wiring.constitution
    found = pool.find(store, run)
    votes = attribution.votes(wiring, constitution, found.comparisons, "judge", found.run)
    doubted = linting.unproven(votes)
    wanted = dict.fromkeys(id for ids in doubted.values() for id in islice(ids, LOOKED_UP))
    known = {comparison.id: comparison for comparison in store.comparisons(list(wanted))}
    result = linting.lint(votes, known, _probes(store, votes, doubted))
    clearest = [id for finding in result.findings for id in finding.comparisons[:SHOWN]]
    pairs = store.pairs(list(dict.fromkeys(clearest)))
    shown = {pair.comparison.id: pair.messages[-1].content if pair.messages else "" for pair in pairs}
    drawn = is_sampled(found.run, wiring.settings.compare.principles)
    return Linted(constitution, found, result, shown, wording.findings(constitution), drawn)


def _probes(store: Store, votes: Votes, names: Mapping[str, object]) -> dict[str, Probe]:
    """By principle, what the judge said of its probes in the newest run that asked it under these words."""
    found: dict[str, Probe] = {}
    runs = store.runs() if names else []
    for name, question in zip(votes.principles, votes.questions, strict=True):
        for run in runs if name in names else []:
            first = _revision_first(store, run, name)
            verdicts = list(store.verdicts(list(first), [question])) if first else []
            if verdicts:
                found[name] = probe([(v, first[v.comparison]) for v in verdicts], votes.rule.min_mass)
                break
    return found


def _revision_first(store: Store, run: Run, principle: str) -> dict[Id, bool]:
    """Of a run's probes of a principle, whether the comparison's first answer is the revision."""
    ids = store.stage_members(run.id, f"{PROBES}.{principle}")
    origins = store.origins(ids)
    made = store.have_generations(sorted({id for some in origins.values() for id in some}))
    first: dict[Id, bool] = {}
    for comparison in store.comparisons(ids):
        for g in (made[id] for id in origins[comparison.id] if id in made):
            if g.principle == principle and g.parent in origins[comparison.id]:
                first[comparison.id] = comparison.first == g.content
    return first
