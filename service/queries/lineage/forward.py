"""What became of something: from a principle forward to all that was trained on it, measured and promoted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from constitution.records import PROBABILITY, Checkpoint, Generation, Id
from service.queries.lineage import nodes
from service.queries.lineage.graph import Fact, Node
from service.queries.lineage.growing import Growing
from service.queries.lineage.names import LEAST
from service.queries.lineage.nodes import short
from service.queries.lineage.records import QUESTIONS, Version
from storage.amendments import Amendment
from storage.lineage import Stage
from storage.runs import Run

MOST = 12  # runs that are followed, the newest; the others are counted
EVALUATION = "evaluation.pairs"  # the stage of the pairs that measure a model
PROBES = "revisions.probes"  # of those that measure a judge


class Forward:
    """Each method adds a record and all that came of it, and returns the id of its node."""

    def __init__(self, graph: Growing) -> None:
        self.graph, self.known, self.store = graph, graph.known, graph.store

    # --- models ---

    def checkpoint(self, of: Checkpoint) -> str:
        graph, id = self.graph, self.graph.checkpoint(of)
        if not graph.goes_on("forward", id):
            return id
        for run, found in self._measured(of):
            graph.link(id, self._evaluation(run, found), "was measured")
        for event in self.known.promotions:
            by_gate = graph.has(f"decision:{event.key.removeprefix('run:')}")
            if of.digest in (event.payload.get("digest"), event.payload.get("to")) and not by_gate:
                graph.link(id, graph.add(nodes.promotion(event)), "was promoted by hand")
        for child in self.known.checkpoints.values():
            if child.parent == of.digest:
                graph.link(id, self.checkpoint(child), "training went on from its weights")
        began = [run for run in self.known.runs.values() if run.settings.get("policy") == of.path]
        self.runs(id, [run for run in began if self._trains(run)], "a run began with it")
        return id

    def data_set(self, digest: str) -> str:
        of = [c for c in self.known.checkpoints.values() if c.dataset == digest]
        id = self.graph.add(nodes.data_set(of[0]))
        for checkpoint in of:
            self.graph.link(id, self.checkpoint(checkpoint), "trained on it")
        return id

    def _measured(self, of: Checkpoint) -> Iterable[tuple[Run, Any]]:
        """The runs that measured a checkpoint, each with what it found."""
        for run in self.known.runs.values():
            decision = self.known.decisions.get(run.id.hex(), {})
            if self._is_called(of, str(decision.get("model", "")), run):
                yield run, self.store.document("evaluation", run.id.hex()) or {}
            candidate = self.known.settings(run, "evaluate", "candidate") if run.kind == "evaluate" else ""
            if self._is_called(of, str(candidate or ""), run) and isinstance(run.result, dict):
                yield run, run.result

    def _is_called(self, of: Checkpoint, name: str, run: Run) -> bool:
        """Whether a run meant a checkpoint: by its folder (which may have been moved with its run), id or digest."""
        moved = self.known.trained_in[of.id] == run.id and PurePath(name).name == PurePath(of.path).name
        by_digits = len(name) >= LEAST and any(id.startswith(name) for id in (of.id.hex(), of.digest))
        return name == of.path or moved or by_digits

    def _evaluation(self, run: Run, found: Any) -> str:
        """An evaluation, what was decided on it, and the promotion that followed."""
        graph = self.graph
        id = graph.add(nodes.evaluation(run.id, found, self.known.model(run, "evaluator")))
        decision = self.known.decisions.get(run.id.hex())
        if decision is not None:
            decided = graph.add(nodes.decision(run.id, decision))
            graph.link(id, decided, "was held against the gate")
            for event in self.known.promotions:
                if event.key == f"run:{run.id.hex()}":
                    graph.link(decided, graph.add(nodes.promotion(event)), "by the gate")
        return id

    # --- runs and labels ---

    def runs(self, source: str, runs: Sequence[Run], why: str) -> None:
        """Follow the newest of some runs."""
        for run in runs[-MOST:]:
            self.graph.link(source, self.run(run), why)
        if len(runs) > MOST:
            older = self.graph.add(Node(f"runs:{source}", "run", f"{len(runs) - MOST} older runs"))
            self.graph.link(source, older, why)

    def run(self, of: Run) -> str:
        graph, id = self.graph, self.graph.run(of)
        if not graph.goes_on("forward", id):
            return id
        for stage in self.known.stages(of):
            graph.link(id, self.labels(stage), "labelled")
        for checkpoint in self.known.of(of.id):
            if self.known.labels_of(checkpoint) is None:
                graph.link(id, self.checkpoint(checkpoint), "trained it")
        evaluation = self.store.document("evaluation", of.id.hex())
        if evaluation is not None and not graph.has(f"evaluation:{of.id.hex()}"):
            graph.link(id, self._evaluation(of, evaluation), "measured")
        retrains = [run for run in self.known.runs.values() if self.known.base(run) is of]
        self.runs(id, retrains, "a retrain went on from it")
        return id

    def labels(self, stage: Stage) -> str:
        graph, id = self.graph, self.graph.labels(stage)
        if not graph.goes_on("forward", id):
            return id
        for checkpoint in self.known.of(stage[0]):
            if self.known.labels_of(checkpoint) == stage:
                graph.link(id, self.data_set(checkpoint.dataset), "what they decide")
        return id

    def _trains(self, run: Run) -> bool:
        return bool(self.known.of(run.id) or self.known.stages(run))

    # --- constitutions ---

    def constitution(self, of: Version) -> str:
        id = self.graph.constitution(of)
        self.runs(id, self._under(of), "was in force")
        return id

    def _under(self, of: Version) -> list[Run]:
        return [run for run in self.known.runs.values() if run.constitution == of.version and self._trains(run)]

    def amendment(self, of: Amendment) -> str:
        graph, id, version = self.graph, self.graph.add(nodes.amendment(of)), self.known.amended(of)
        for name, writer in version.writers.items():
            if writer == of:
                graph.link(id, graph.principle(version, name), "last wrote it")
        graph.link(id, self.constitution(version), "put it in force")
        return id

    def principle(self, of: Version, name: str) -> str:
        """With what judges answered to it in the runs that are followed."""
        id = self.graph.principle(of, name)
        self.graph.link(id, self.constitution(of), "is in it")
        for run in self._under(of)[-MOST:]:
            for asked in filter(None, map(self.known.asked, self.known.stages(run))):
                for question in (q for q, names in asked.principles.items() if name in names):
                    self.graph.verdicts(asked, question)
        return id

    # --- single texts ---

    def prompt(self, id: Id) -> str:
        graph, node = self.graph, self.graph.add(nodes.prompt(id, self.store.dialogue(id)))
        for generation in self.store.generations(self.store.answers_to(id)):
            text = self.generation(generation)
            if generation.parent is None:
                graph.link(node, text, "asked")
        return node

    def generation(self, of: Generation) -> str:
        graph, id = self.graph, self.graph.add(nodes.text(of))
        if not graph.goes_on("forward", id):
            return id
        for child in self.store.generations(self.store.written_from(of.id)):
            graph.link(id, self.generation(child), "was criticised" if child.kind == "critique" else "was revised")
        for comparison in self.store.comparisons_with(of.id):
            graph.link(id, self.comparison(comparison, verdicts=False), "was compared")
        return id

    def comparison(self, id: Id, verdicts: bool = True) -> str:
        """`verdicts`: with each one."""
        graph, node = self.graph, self.graph.add(nodes.comparison(self.store.pairs([id])[0]))
        if not graph.goes_on("forward", node):
            return node
        for stage in self.store.appearances(id):
            run, name = stage
            if name == EVALUATION:
                found = self.store.document("evaluation", run.hex()) or self.known.runs[run].result or {}
                graph.link(node, self._evaluation(self.known.runs[run], found), "was judged for it")
            elif name + QUESTIONS in self.known.sizes(run) and not name.startswith(PROBES):
                self._labelled(node, id, stage, verdicts)
        return node

    def _labelled(self, node: str, id: Id, stage: Stage, verdicts: bool) -> None:
        """A comparison in a stage whose labels are trained on: only where its label is decided does it go further."""
        asked = self.known.asked(stage)
        if asked is None:
            return
        (label,) = self.known.labels(asked, [id])
        labels = self.labels(stage) if label.state == "decided" else self.graph.labels(stage)
        self.graph.link(node, labels, f"its label is {label.state}")
        sides = {True: " for the first", False: " for the second", None: ""}
        self.graph.say(node, f"label in run {short(stage[0])}", label.state + sides[label.preferred_first])
        found = {v.question: v for v in self.store.verdicts([id], list(asked.principles))} if verdicts else {}
        reasons: dict[Id, list[Fact]] = {}
        for reason in self.store.reasons([id], list(found)):
            given = (f"reasons, the first shown as {'AB'[reason.shown - 1]}", reason.text)
            reasons.setdefault(reason.question, []).append(given)
        for question in (q for q in asked.principles if q in found):
            both = " and ".join(f"{p / PROBABILITY:.2f}" for p in (found[question].p1, found[question].p2))
            names = asked.principles[question]
            writer = asked.version.writers[names[0]]
            words = f"amendment {writer.number}" if writer else "a draft"
            facts: tuple[Fact, ...] = (("p of the first", both), ("words of", words), ("judge", short(asked.judge)))
            facts += tuple(reasons.get(question, ()))
            one = Node(f"verdict:{question.hex()}:{id.hex()}", "verdicts", f"verdict on {' and '.join(names)}", facts)
            self.graph.link(node, self.graph.add(one), "was judged")
            self.graph.link(one.id, labels, "counts")
