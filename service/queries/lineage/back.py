"""What something was made of: from a model back to the people who wrote its principles."""

from __future__ import annotations

from constitution.records import Checkpoint, Generation, Id
from service.queries.lineage import nodes
from service.queries.lineage.graph import Fact, Node
from service.queries.lineage.growing import Growing
from service.queries.lineage.nodes import counted, short
from service.queries.lineage.records import Version
from storage.amendments import Amendment
from storage.lineage import Stage
from storage.runs import Run

# Texts of a run that came after the comparisons of a stage, even where they say the same: SQL patterns of stages.
LATER = {"revisions.judged": ("evaluation%", "%samples%")}


class Back:
    """Each method adds a record and all that it was made of, and returns the id of its node."""

    def __init__(self, graph: Growing) -> None:
        self.graph, self.known, self.store = graph, graph.known, graph.store

    # --- models ---

    def checkpoint(self, of: Checkpoint) -> str:
        graph, id = self.graph, self.graph.checkpoint(of)
        if not graph.goes_on("back", id):
            return id
        stage, run = self.known.labels_of(of), self.known.runs.get(self.known.trained_in[of.id] or b"")
        data = graph.add(nodes.data_set(of))
        graph.link(data, id, "trained on it")
        if stage is not None:
            graph.link(self.labels(stage), data, "what they decide")
        elif run is not None:
            graph.link(self.run(run), id, "trained it")
        graph.link(self._parent(of, run), id, "began with its weights")
        return id

    def data_set(self, digest: str) -> str:
        of = [c for c in self.known.checkpoints.values() if c.dataset == digest]
        id = self.graph.add(nodes.data_set(of[0]))
        for stage in dict.fromkeys(map(self.known.labels_of, of)):
            if stage is not None:
                self.graph.link(self.labels(stage), id, "what they decide")
        return id

    def _parent(self, of: Checkpoint, run: Run | None) -> str:
        parent = next((c for c in self.known.checkpoints.values() if c.digest == of.parent), None)
        if parent is not None:
            return self.checkpoint(parent)
        weights: Fact = ("weights", short(of.parent))
        if run is None:
            return self.graph.add(Node(f"model:{of.parent}", "model", f"model {short(of.parent)}", (weights,)))
        return self._start(run, weights)

    def _start(self, run: Run, *facts: Fact) -> str:
        """The model that a run began with: another run's checkpoint, or one that nothing here has made."""
        path = str(run.settings.get("policy", ""))
        found = next((c for c in self.known.checkpoints.values() if c.path == path), None)
        if found is not None:
            return self.checkpoint(found)
        name = self.known.model(run, "policy") or path or "unknown"
        return self.graph.add(Node(f"model:{path}", "model", name, facts))

    # --- labels, and what they rest on ---

    def labels(self, stage: Stage) -> str:
        graph, id = self.graph, self.graph.labels(stage)
        if not graph.goes_on("back", id):
            return id
        asked, run = self.known.asked(stage), self.known.runs[stage[0]]
        if asked is not None:
            graph.link(self.constitution(asked.version, principles=False), id, "says how verdicts are weighed")
            for question, names in asked.principles.items():
                graph.verdicts(asked, question)
                for name in names:
                    self.principle(asked.version, name)
        count, kept = self.known.sizes(run.id)[stage[1]]
        base = self.known.base(run)
        if base is not None and kept:
            graph.link(graph.run(base), id, f"{kept:,} of its comparisons were kept")
        comparisons = Node(
            f"comparisons:{run.id.hex()}:{stage[1]}", "comparison", counted(count, "comparison"),
            (("prompts", self.store.stage_prompts(stage)),),
        )  # fmt: skip
        graph.link(graph.add(comparisons), id, "what was judged")
        self._texts(stage, comparisons.id)
        return id

    def _texts(self, stage: Stage, comparisons: str) -> None:
        """What a stage's comparisons were made of, counted, and the models that wrote it."""
        graph, line = self.graph, list(self.known.line(self.known.runs[stage[0]]))
        makers = {engine: id for run in reversed(line) for engine, id in self._makers(run).items()}
        written = self.store.stage_texts(stage, [run.id for run in line], LATER.get(stage[1], ("evaluation%",)))
        for some in written:
            title, engine = counted(some.count, some.kind), short(some.engine)
            id = f"{comparisons}:{some.kind}:{some.engine}"
            graph.link(graph.add(Node(id, "answer", title, (("engine", engine),))), comparisons, "compared")
            if some.engine in makers:
                graph.link(makers[some.engine], id, "wrote them")

    def _makers(self, run: Run) -> dict[str, str]:
        """By fingerprint, the models that wrote the texts of a run."""
        engines = self.store.stage_engines(run.id)
        trained = {self.known.section(c): c for c in self.known.of(run.id)}
        found: dict[str, str] = {}
        if "sft" in trained and "samples" in engines:
            found[engines["samples"]] = self.checkpoint(trained["sft"])
        if "answers" in engines:
            found[engines["answers"]] = self._start(run)
        critic, name = engines.get("revisions.0"), self.known.model(run, "critic")
        if critic and critic not in found and name:
            found[critic] = self.graph.add(Node(f"model:{name}", "model", name))
        return found

    # --- constitutions ---

    def constitution(self, of: Version, principles: bool = True) -> str:
        """`principles`: with each of them, which nothing else in the graph shows."""
        graph, id = self.graph, self.graph.constitution(of)
        if of.amendment is not None:
            graph.link(self.amendment(of.amendment), id, "put it in force")
        for one in of.constitution if principles else ():
            graph.link(self.principle(of, one.id), id, "is in it")
        return id

    def principle(self, of: Version, name: str) -> str:
        id = self.graph.principle(of, name)
        writer = of.writers[name]
        if writer is not None:
            self.graph.link(self.amendment(writer), id, "last wrote it")
        return id

    def amendment(self, of: Amendment) -> str:
        id = self.graph.add(nodes.amendment(of))
        self.graph.link(self.graph.add(nodes.person(of.who)), id, "ratified it")
        return id

    # --- runs and single texts ---

    def prompt(self, id: Id) -> str:
        facts = [(("split", p.split), ("source", p.source or "unknown")) for p in self.store.prompts(ids=[id])]
        return self.graph.add(nodes.prompt(id, self.store.dialogue(id), facts[0] if facts else ()))

    def run(self, of: Run) -> str:
        graph, id = self.graph, self.graph.run(of)
        if not graph.goes_on("back", id):
            return id
        version, base = self.known.of_run(of), self.known.base(of)
        if version is not None:
            graph.link(self.constitution(version), id, "was in force")
        if base is not None:
            graph.link(graph.run(base), id, "was gone on from")
        if of.settings.get("policy"):
            graph.link(self._start(of), id, "began with it")
        return id

    def comparison(self, id: Id) -> str:
        (pair,) = self.store.pairs([id])
        graph, node = self.graph, self.graph.add(nodes.comparison(pair))
        graph.link(self.prompt(pair.comparison.prompt), node, "is about it")
        for generation in self.store.generations(self.store.origins([id])[id]):
            graph.link(self.generation(generation), node, "is one of its answers")
        return node

    def generation(self, of: Generation) -> str:
        graph, id = self.graph, self.graph.add(nodes.text(of))
        if not graph.goes_on("back", id):
            return id
        graph.link(self.prompt(of.prompt), id, "asked")
        if of.parent is not None:
            why = "criticised" if of.kind == "critique" else "revised"
            graph.link(self.generation(self.store.generations([of.parent])[0]), id, why)
        run = next((self.known.runs[run] for run, _ in self.store.appearances(of.id)), None)
        if run is None:
            return id
        version, maker = self.known.of_run(run), self._makers(run).get(of.engine)
        if maker is not None:
            graph.link(maker, id, "wrote it")
        if version is not None and of.principle is not None and of.principle in version.writers:
            graph.link(self.principle(version, of.principle), id, "was drawn")
        return id
