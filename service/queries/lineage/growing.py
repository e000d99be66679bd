"""A graph while it is being found: nodes and edges are added by whoever meets them first, each only once."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from constitution.records import WEIGHT, Checkpoint, Id
from service.queries.lineage import nodes
from service.queries.lineage.graph import KINDS, Edge, Fact, Graph, Node
from service.queries.lineage.nodes import counted, short
from service.queries.lineage.records import Asked, Records, Version
from service.queries.runs import as_it_is
from storage.lineage import Stage
from storage.runs import Run

MOST = 40  # models, and runs, that one lineage follows each way
_ENDLESS = ("checkpoint", "run")


class Growing:
    """Methods that add a record return the id of its node."""

    def __init__(self, known: Records) -> None:
        self.known, self.store = known, known.store
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str], Edge] = {}
        self._been: defaultdict[str, dict[str, str]] = defaultdict(dict)  # by way, the kind of each node gone on from
        self._verdicts: dict[Id, str] = {}  # by question, the node that counts them
        self._stages: set[Stage] = set()  # about whose comparisons they are

    def graph(self, what: str, focus: tuple[str, ...]) -> Graph:
        """All that was found, in the order in which values become a model."""
        counts = self.store.stage_verdicts(self._stages, list(self._verdicts))
        for question, id in self._verdicts.items():
            node, count = self._nodes[id], counts[question]
            title = f"{counted(count, 'verdict')} on {node.title}"
            self._nodes[id] = replace(node, title=title, facts=(("verdicts", count), *node.facts))
        order = list(KINDS)
        found = sorted(self._nodes.values(), key=lambda node: order.index(node.kind))
        return Graph(what, focus, tuple(found), tuple(self._edges.values()))

    def goes_on(self, way: str, id: str) -> bool:
        """Whether the graph grows from this node that way: not twice, and not without end where each model began with
        the one before. Where it ends, the node says how to go on."""
        if id in self._been[way]:
            return False
        kind = self._nodes[id].kind
        self._been[way][id] = kind
        if Counter(self._been[way].values())[kind] <= MOST or kind not in _ENDLESS:
            return True
        self.say(id, "go on with", f"precept model lineage {id}")
        return False

    def add(self, node: Node) -> str:
        self._nodes.setdefault(node.id, node)
        return node.id

    def has(self, id: str) -> bool:
        return id in self._nodes

    def say(self, id: str, name: str, value: str) -> None:
        """One more fact about a node."""
        self._nodes[id] = replace(self._nodes[id], facts=(*self._nodes[id].facts, (name, value)))

    def link(self, source: str, target: str, why: str) -> None:
        self._edges.setdefault((source, target), Edge(source, target, why))

    # --- nodes that need the store ---

    def checkpoint(self, of: Checkpoint) -> str:
        """With its line to what it began with, or went on to, where that is in the graph."""
        now, others = self.known.promoted, self.known.checkpoints.values()
        id = self.add(nodes.checkpoint(of, self.known.trained_in[of.id], now is not None and now.id == of.id))
        for other in others:
            for parent, child in ((other, of), (of, other)):
                if child.parent == parent.digest and self.has(f"checkpoint:{other.id.hex()}"):
                    self.link(f"checkpoint:{parent.id.hex()}", f"checkpoint:{child.id.hex()}", "began with its weights")
        return id

    def constitution(self, of: Version) -> str:
        return self.add(nodes.constitution(of, self.known.amendments))

    def principle(self, version: Version, name: str) -> str:
        return self.add(nodes.principle(version, version.constitution[name]))

    def labels(self, stage: Stage) -> str:
        """The labels of a stage as they are now, under the constitution and the rule of its run."""
        run, name = stage
        id = f"labels:{run.hex()}:{name}"
        if id not in self._nodes:
            asked, counts = self.known.asked(stage), dict[str, int]()
            model = self.known.model(self.known.runs[run], "judge")
            judge: tuple[Fact, ...] = (("judge", model),) if model else ()
            if asked is not None:
                states = Counter(x.state for x in self.known.labels(asked, self.store.stage_members(run, name)))
                counts = {state: states[state] for state in ("decided", "tied", "unreadable")}
            facts: tuple[Fact, ...] = (*counts.items(), ("run", short(run)), *judge)
            self.add(Node(id, "labels", f"labels of {name}", facts))
        return id

    def verdicts(self, asked: Asked, question: Id) -> str:
        """What a judge answered to one question about the comparisons of all the stages in the graph."""
        names, run = asked.principles[question], self.known.runs[asked.stage[0]]
        self._stages.add(asked.stage)
        facts = (("judge", self.known.model(run, "judge") or "unknown"), ("fingerprint", short(asked.judge)))
        id = self.add(Node(f"verdicts:{question.hex()}", "verdicts", " and ".join(names), facts))
        self._verdicts[question] = id
        weight = asked.weight(question) / WEIGHT
        self.link(id, self.labels(asked.stage), f"weight {weight:g}")
        for name in names:
            self.link(self.principle(asked.version, name), id, "asked in its words")
        return id

    def run(self, of: Run) -> str:
        return self.add(nodes.run(as_it_is(self.store, of)))
