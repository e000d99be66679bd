"""The store as lineage reads it: runs, checkpoints and constitutions, and which of them belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from constitution import loading
from constitution.blame import READ, counterparts
from constitution.principles import Constitution
from constitution.records import Checkpoint, Event, Id, Label, LabelRule, Voice
from pipeline import label
from pipeline.judges.by_principle import asked_most
from service.queries import rulings
from storage.amendments import Amendment
from storage.lineage import Stage
from storage.runs import Run
from storage.store import Store

RETRAIN = "retrain"  # the kind of a run that keeps what another has made
QUESTIONS = ".questions"  # the stage of the questions that a stage's comparisons were asked
# Which stage's labels a training was made from, by the section of the settings that names its method.
LABELS = {"sft": "revisions.judged", "reward": "feedback", "optimise": "feedback"}


@dataclass(frozen=True)
class Version:
    """A constitution as a run used it. `amendment`: what put it in force; None for a draft. `writers`: by principle,
    the amendment that last changed what models read of it or its weight; None where only the draft did."""

    version: str
    constitution: Constitution
    amendment: Amendment | None
    writers: Mapping[str, Amendment | None]


@dataclass(frozen=True)
class Asked:
    """A stage whose comparisons were judged. `principles`: by question, all that have its words."""

    stage: Stage
    version: Version
    judge: str  # fingerprint
    principles: Mapping[Id, tuple[str, ...]]
    voices: Mapping[Id, Voice]  # of those that the judge's trial left out there is none

    def weight(self, question: Id) -> int:
        return self.voices[question].weight if question in self.voices else 0


class Records:
    """The store as lineage reads it: each list once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._parsed: dict[str, Constitution] = {}
        self._sizes: dict[Id, dict[str, tuple[int, int]]] = {}

    @cached_property
    def runs(self) -> dict[Id, Run]:
        """The oldest first."""
        return {run.id: run for run in reversed(self.store.runs())}

    @cached_property
    def checkpoints(self) -> dict[Id, Checkpoint]:
        """Of several attempts at one job the last."""
        return {c.id: c for c in self.store.checkpoints()}

    @cached_property
    def trained_in(self) -> dict[Id, Id | None]:
        """The run of each checkpoint."""
        found = self.store.trained_in()
        return {c.id: found[c.id, c.digest][0] for c in self.checkpoints.values()}

    @cached_property
    def promoted(self) -> Checkpoint | None:
        return self.store.promoted()

    @cached_property
    def promotions(self) -> list[Event]:
        return self.store.promotions()

    @cached_property
    def decisions(self) -> dict[str, Any]:
        """By run, in hex."""
        return self.store.documents("decision")

    @cached_property
    def amendments(self) -> list[Amendment]:
        return self.store.amendments()

    # --- constitutions ---

    def constitution(self, text: str) -> Constitution:
        if text not in self._parsed:
            self._parsed[text] = loading.parse(text)
        return self._parsed[text]

    @cached_property
    def _writers(self) -> list[dict[str, int]]:
        """For each amendment, by principle, the index of the amendment that wrote it: `blame.authors` for every one of
        them in one pass."""
        found: list[dict[str, int]] = []
        for index, amendment in enumerate(self.amendments):
            before = self.constitution(self.amendments[index - 1].text) if index else None
            found.append(_written(before, self.constitution(amendment.text), found[-1] if found else {}, index))
        return found

    def amended(self, amendment: Amendment) -> Version:
        wrote = self._writers[amendment.number - 1]
        by = {principle: self.amendments[index] for principle, index in wrote.items()}
        return Version(amendment.version, self.constitution(amendment.text), amendment, by)

    def version(self, version: str, at: str) -> Version | None:
        """A version as it was in force at that time, or else as a draft. None where its text is not stored."""
        known = [a for a in self.amendments if a.version == version]
        before = [a for a in known if a.at <= at]
        return self.amended((before or known)[-1 if before else 0]) if known else self.drafts.get(version)

    @cached_property
    def drafts(self) -> dict[str, Version]:
        """Versions that were tried and never ratified, each as a change of what was in force when it was."""
        ratified, drafts = {a.version for a in self.amendments}, dict[str, Version]()
        for version, text in self.store.constitutions().items():
            if version not in ratified:
                used = [run.created for run in self.runs.values() if run.constitution == version]
                past = [a for a in self.amendments if not used or a.at <= used[0]]
                drafts[version] = self._draft(version, self.constitution(text), past)
        return drafts

    def _draft(self, version: str, draft: Constitution, past: Sequence[Amendment]) -> Version:
        base = self.amended(past[-1]) if past else None
        numbers = {p: a.number for p, a in base.writers.items() if a} if base else {}
        wrote = _written(base.constitution if base else None, draft, numbers, 0)
        return Version(version, draft, None, {p: self.amendments[n - 1] if n else None for p, n in wrote.items()})

    def versions(self) -> Iterator[Version]:
        """All amendments, the oldest first, then all drafts."""
        yield from map(self.amended, self.amendments)
        yield from self.drafts.values()

    # --- runs ---

    def of_run(self, run: Run) -> Version | None:
        return self.version(run.constitution, run.created) if run.constitution else None

    def sizes(self, run: Id) -> dict[str, tuple[int, int]]:
        """By stage, how many records it has, and how many of them were stored before."""
        if run not in self._sizes:
            self._sizes[run] = self.store.stage_sizes(run)
        return self._sizes[run]

    def base(self, run: Run) -> Run | None:
        """The run that a retrain started from."""
        return self._bases.get(run.id)

    @cached_property
    def _bases(self) -> dict[Id, Run | None]:
        found: dict[Id, Run | None] = {}
        for run in self.runs.values():
            digits = str(run.settings.get("base") or self.settings(run, "retrain", "base") or "")
            if run.kind == RETRAIN and digits:
                fitting = (other for id, other in self.runs.items() if id.hex().startswith(digits) and id != run.id)
                found[run.id] = next(fitting, None)
        return found

    def settings(self, run: Run, *names: str) -> Any:
        """A setting of a run, or None: a run of an old version or of a script may lack it."""
        value: Any = run.settings.get("settings")
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def model(self, run: Run, role: str) -> str | None:
        """What the settings of a run call the model of a role."""
        name = self.settings(run, role, "model")
        return str(name) if name else None

    def line(self, run: Run) -> Iterator[Run]:
        """A run, the run that it kept the answers of, and so on."""
        seen: set[Id] = set()
        at: Run | None = run
        while at is not None and at.id not in seen:
            seen.add(at.id)
            yield at
            at = self.base(at)

    def of(self, run: Id) -> list[Checkpoint]:
        """The checkpoints of a run."""
        return [c for c in self.checkpoints.values() if self.trained_in[c.id] == run]

    def section(self, checkpoint: Checkpoint) -> str | None:
        """The section of its run's settings that a checkpoint was trained by, on labels of that run."""
        run = self.runs.get(self.trained_in[checkpoint.id] or b"")
        if run is None:
            return None
        stages = [stage for _, stage in self.stages(run)]
        fitting = [s for s in LABELS if self.settings(run, s, "method") == checkpoint.method and LABELS[s] in stages]
        return fitting[0] if fitting else None

    def stages(self, run: Run) -> list[Stage]:
        """The stages of a run whose labels models are trained on."""
        return [(run.id, stage) for stage in dict.fromkeys(LABELS.values()) if stage in self.sizes(run.id)]

    def labels_of(self, checkpoint: Checkpoint) -> Stage | None:
        """The stage whose labels its data set was made of, where a run says so."""
        run, section = self.trained_in[checkpoint.id], self.section(checkpoint)
        return (run, LABELS[section]) if run and section else None

    def asked(self, stage: Stage) -> Asked | None:
        """What the judge was asked about a stage; None where nothing is known of it."""
        run = self.runs[stage[0]]
        version, questions = self.of_run(run), self.store.stage_members(run.id, stage[1] + QUESTIONS)
        if version is None or not questions:
            return None
        known = self.store.clauses(version.version)
        principles = {q: tuple(p.id for p in version.constitution if q in known.get(p.id, ())) for q in questions}
        asked = {q: names for q, names in principles.items() if names}  # a stage can ask about other versions besides
        if not asked:
            return None
        judge, ruling = asked_most(self.store.questions(questions)), rulings.of(self.store, run)
        of = version.constitution
        voices = label.combined(((of[p], q) for q in self.store.questions(list(asked)) for p in asked[q.id]), ruling)
        return Asked(stage, version, judge, asked, voices)

    def labels(self, asked: Asked, comparisons: Sequence[Id]) -> list[Label]:
        """Labels under the constitution and the rule of the stage's run."""
        rule = self.settings(self.runs[asked.stage[0]], "label") or {}
        rule = LabelRule(**{k: v for k, v in rule.items() if k in LabelRule.__dataclass_fields__})
        ruled = rulings.of(self.store, self.runs[asked.stage[0]]).rule
        return self.store.labels(comparisons, asked.voices, ruled or rule)


def _written(before: Constitution | None, now: Constitution, wrote: Mapping[str, int], index: int) -> dict[str, int]:
    """By principle, who wrote it: `index`, or who wrote the one that it was in the constitution before."""
    found = dict.fromkeys(now.weights(), index)
    if before is None:
        return found
    for old, new in counterparts(before, now).items():
        if old in wrote and all(getattr(before[old], name) == getattr(new, name) for name in READ):
            found[new.id] = wrote[old]
    return found
