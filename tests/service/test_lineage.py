"""Lineage on a store in which every link is known (`traced.py`): names, both directions, text and pictures."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from constitution import loading
from constitution.blame import authors
from constitution.errors import UserError
from constitution.records import Checkpoint, make_id
from service.pictures.lineage import picture
from service.pictures.lineage.layout import HEIGHT, Layout, arrange
from service.pictures.lineage.text import WIDTH, lines
from service.queries.lineage import Graph, trace
from service.queries.lineage.forward import MOST
from service.queries.lineage.graph import KINDS, Edge, Node
from service.queries.lineage.names import find
from service.queries.lineage.records import Records
from storage.store import Store
from tests.service import traced
from tests.service.traced import CALM, DRAFT, FIRST, HEAD, HOSTILE, KIND, KINDER, SECOND, SHORT, SHOWN, Traced


@pytest.fixture
def world(store: Store) -> Traced:
    return traced.build(store)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """The same, for tests that ask nothing of the database, and change nothing."""
    with Store.open(tmp_path_factory.mktemp("lineage") / "precept.db") as store:
        yield traced.build(store)


def named(world: Traced, graph: Graph) -> dict[str, str]:
    """By node, what the tests call it."""
    runs = {
        run.id.hex(): name for name, run in (("loop", world.loop), ("retrain", world.retrain), ("draft", world.draft))
    }
    versions = {loading.parse(text).version: n for n, text in (("1", FIRST), ("2", SECOND), ("draft", DRAFT))}
    names = {f"checkpoint:{c.id.hex()}": name for name, c in world.checkpoints.items()}
    names |= {f"verdicts:{q.id.hex()}": f"verdicts {name}" for name, q in reversed(world.questions.items())}
    names |= {f"comparison:{id.hex()}": f"comparison {number}" for number, id in enumerate(world.comparisons)}
    names |= {f"generation:{g.id.hex()}": name for name, g in world.texts.items()}
    names |= {f"prompt:{p.id.hex()}": f"prompt {number}" for number, p in enumerate(world.prompts)}
    names[f"promotion:{world.promotion.id}"] = "promotion"
    for name in ("sft", "dpo", "retrained", "drafted"):
        names[f"dataset:{world.checkpoints[name].dataset}"] = f"rows of {name}"
    found = {}
    for node in graph.nodes:
        name = names.get(node.id, node.id)
        for id, short in (runs | versions).items():
            name = name.replace(id, short)
        found[node.id] = name
    return found


def links(world: Traced, graph: Graph) -> set[str]:
    names = named(world, graph)
    return {f"{names[edge.source]} > {names[edge.target]}" for edge in graph.edges}


BACK_TO_PEOPLE = {
    "person:ada > amendment:1", "amendment:1 > constitution:1", "amendment:1 > principle:kind@1",
    "amendment:1 > principle:short@1", "principle:kind@1 > verdicts kind1", "principle:short@1 > verdicts short1",
}  # fmt: skip
OF_SFT = {
    "verdicts kind1 > labels:loop:revisions.judged", "verdicts short1 > labels:loop:revisions.judged",
    "constitution:1 > labels:loop:revisions.judged", "labels:loop:revisions.judged > rows of sft", "rows of sft > sft",
    "comparisons:loop:revisions.judged > labels:loop:revisions.judged", "model:/models/base > sft",
    "comparisons:loop:revisions.judged:response:base-engine > comparisons:loop:revisions.judged",
    "comparisons:loop:revisions.judged:revision:base-engine > comparisons:loop:revisions.judged",
    "model:/models/base > comparisons:loop:revisions.judged:response:base-engine",
    "model:/models/base > comparisons:loop:revisions.judged:revision:base-engine",
}  # fmt: skip
OF_DPO = {
    "verdicts kind1 > labels:loop:feedback", "verdicts short1 > labels:loop:feedback",
    "constitution:1 > labels:loop:feedback", "labels:loop:feedback > rows of dpo", "rows of dpo > dpo", "sft > dpo",
    "comparisons:loop:feedback > labels:loop:feedback",
    "comparisons:loop:feedback:response:sft-engine > comparisons:loop:feedback",
    "sft > comparisons:loop:feedback:response:sft-engine",
}  # fmt: skip
AFTER_DPO = {"dpo > evaluation:loop", "evaluation:loop > decision:loop", "decision:loop > promotion"}


def test_a_model_is_traced_back_to_the_people_who_wrote_its_principles(world: Traced) -> None:
    graph = trace(world.store, "promoted", forward=False)
    assert links(world, graph) == BACK_TO_PEOPLE | OF_SFT | OF_DPO
    facts = {name: dict(graph.by_id[id].facts) for id, name in named(world, graph).items()}
    assert facts["labels:loop:feedback"] | {"decided": 1, "tied": 1, "unreadable": 1} == facts["labels:loop:feedback"]
    assert facts["labels:loop:revisions.judged"]["decided"] == 1
    assert facts["verdicts kind1"]["verdicts"] == 4  # three of feedback, one revision
    assert facts["verdicts kind1"]["judge"] == "judge-model"
    assert facts["comparisons:loop:feedback"] == {"prompts": 3}
    assert facts["principle:kind@1"] == {
        "id": "kind",
        "weight": 3,
        "by": "ada",
        "in": "amendment 1",
        "why": "to begin with",
    }
    assert facts["rows of dpo"] == {"rows": 1}
    assert facts["dpo"]["now"] == "promoted"


def test_both_ways_is_the_two_together(world: Traced) -> None:
    assert links(world, trace(world.store, "promoted")) == BACK_TO_PEOPLE | OF_SFT | OF_DPO | AFTER_DPO
    assert links(world, trace(world.store, "promoted", back=False)) == AFTER_DPO


def test_a_retrain_goes_on_from_its_base(world: Traced) -> None:
    graph = trace(world.store, f"checkpoint:{world.checkpoints['retrained'].id.hex()}")
    found, names = links(world, graph), named(world, graph)
    assert found >= BACK_TO_PEOPLE | OF_SFT
    assert not found & OF_DPO - {"sft > comparisons:loop:feedback:response:sft-engine"}
    assert found - BACK_TO_PEOPLE - OF_SFT == {
        "person:bob > amendment:2", "amendment:2 > constitution:2", "constitution:2 > labels:retrain:feedback",
        "amendment:2 > principle:kind@2", "amendment:2 > principle:calm@2",
        "principle:kind@2 > verdicts kind2", "principle:calm@2 > verdicts calm2",
        "verdicts kind2 > labels:retrain:feedback", "verdicts calm2 > labels:retrain:feedback",
        "verdicts short1 > labels:retrain:feedback",  # asked and answered before the amendment
        "run:loop > labels:retrain:feedback", "comparisons:retrain:feedback > labels:retrain:feedback",
        "comparisons:retrain:feedback:response:sft-engine > comparisons:retrain:feedback",
        "sft > comparisons:retrain:feedback:response:sft-engine",
        "labels:retrain:feedback > rows of retrained", "rows of retrained > retrained", "sft > retrained",
        "retrained > evaluation:retrain", "evaluation:retrain > decision:retrain",
    }  # fmt: skip
    why = {f"{names[e.source]} > {names[e.target]}": e.why for e in graph.edges}
    assert why["run:loop > labels:retrain:feedback"] == "3 of its comparisons were kept"
    assert why["verdicts kind2 > labels:retrain:feedback"] == "weight 3"


@pytest.mark.parametrize("where", ["base", "retrain"])
def test_the_base_is_found_where_a_run_keeps_it(store: Store, where: str) -> None:
    base = store.start_run("base", "improve", {})
    more = {"base": base.id.hex()} if where == "base" else {"settings": {"retrain": {"base": base.id.hex()[:12]}}}
    run = store.start_run("retrain", "retrain", more)
    other = store.start_run("other", "improve", more)
    known = Records(store)
    assert [r.id for r in known.line(run)] == [run.id, base.id]
    assert [r.id for r in known.line(other)] == [other.id]
    graph = trace(store, f"run:{run.id.hex()}")
    assert [(e.source, e.target) for e in graph.edges] == [(f"run:{base.id.hex()}", f"run:{run.id.hex()}")]


def test_a_principle_is_followed_to_all_that_was_trained_on_it(world: Traced) -> None:
    graph = trace(world.store, "short", back=False)
    found, names = links(world, graph), set(named(world, graph).values())
    assert {"sft", "reward", "dpo", "retrained", "promotion", "decision:retrain"} <= names
    assert "drafted" not in names and "person:ada" not in names
    assert {
        "principle:short@1 > constitution:1", "principle:short@1 > constitution:2", "constitution:1 > run:loop",
        "constitution:2 > run:retrain", "run:loop > run:retrain", "run:loop > labels:loop:feedback",
        "run:retrain > labels:retrain:feedback", "principle:short@1 > verdicts short1",
        "verdicts short1 > labels:retrain:feedback", "labels:retrain:feedback > rows of retrained",
    } <= found  # fmt: skip


def test_each_wording_of_a_principle_leads_to_its_own_labels(world: Traced) -> None:
    graph = trace(world.store, "principle:kind")
    found = links(world, graph)
    assert graph.focus == ("principle:kind@1", "principle:kind@2")
    assert {n for n in found if n.startswith("verdicts kind1")} == {
        "verdicts kind1 > labels:loop:feedback", "verdicts kind1 > labels:loop:revisions.judged",
    }  # fmt: skip
    assert {n for n in found if n.startswith("verdicts kind2")} == {
        "verdicts kind2 > labels:retrain:feedback", "verdicts kind2 > labels:draft:feedback",
    }  # fmt: skip
    assert {
        "amendment:1 > principle:kind@1",
        "amendment:2 > principle:kind@2",
        "run:draft > labels:draft:feedback",
    } <= found


def test_a_draft_is_a_change_of_what_was_in_force(world: Traced) -> None:
    graph = trace(world.store, "/home/drafted", forward=False)
    assert {n.fact("ratified") for n in graph.nodes if n.kind == "constitution"} == {"never"}
    assert {n.id for n in graph.nodes if n.kind in ("principle", "amendment")} == {"principle:kind@2", "amendment:2"}
    version = loading.parse(HEAD + KIND + CALM).version  # a wording that was never in force
    world.store.put_constitution(version, HEAD + CALM.replace("calmer", "calmest"))
    assert "principle:calm@" in trace(world.store, f"constitution:{version}").nodes[0].id


@pytest.mark.parametrize("what", ["ratified", "2", "amendment:2", "version"])
def test_an_amendment_and_what_it_led_to(still: Traced, what: str) -> None:
    version = loading.parse(SECOND).version
    graph = trace(still.store, f"constitution:{version[:6]}" if what == "version" else what)
    assert graph.what == "amendment:2" and graph.focus == ("amendment:2",)
    found = links(still, graph)
    assert {"person:bob > amendment:2", "amendment:2 > principle:calm@2", "amendment:2 > constitution:2"} <= found
    assert "amendment:2 > principle:short@1" not in found  # it was there before
    assert "rows of retrained > retrained" in found and "rows of dpo > dpo" not in found


def test_a_run_and_a_data_set(still: Traced) -> None:
    found = links(still, trace(still.store, still.loop.id.hex()[:8]))
    assert {"principle:kind@1 > constitution:1", "constitution:1 > run:loop", "model:/models/base > run:loop"} <= found
    assert {"run:loop > labels:loop:feedback", "run:loop > run:retrain", "dpo > evaluation:loop"} <= found
    rows = still.checkpoints["dpo"].dataset
    graph = trace(still.store, f"dataset:{rows[:9]}")
    assert graph.what == f"dataset:{rows}"
    assert {"rows of dpo > dpo", "rows of dpo > reward", *OF_DPO - {"sft > dpo"}} <= links(still, graph)


def test_a_comparison_goes_no_further_than_its_label(world: Traced) -> None:
    decided, tied, _, heldout, _ = (f"comparison:{id.hex()}" for id in world.comparisons)
    found = links(world, trace(world.store, decided))
    assert {"00 > comparison 0", "01 > comparison 0", "prompt 0 > comparison 0", "sft > 00"} <= found
    assert {"comparison 0 > labels:loop:feedback", "labels:loop:feedback > rows of dpo"} <= found
    graph = trace(world.store, tied)
    found = links(world, graph)
    assert "comparison 1 > labels:loop:feedback" in found and "labels:loop:feedback > rows of dpo" not in found
    label = f"label in run {world.loop.id.hex()[:12]}"
    assert graph.by_id[tied].fact(label) == "tied"
    assert str(trace(world.store, decided).by_id[decided].fact(label)).startswith("decided for the ")
    verdicts = {
        n.title: n.fact("p of the first") for n in graph.nodes if n.kind == "verdicts" and n.id.startswith("verdict:")
    }
    assert verdicts == {
        "verdict on kind": "0.50 and 0.50",
        "verdict on short": "0.50 and 0.50",
        "verdict on calm": "0.50 and 0.50",
    }
    assert "comparison 3 > evaluation:loop" in links(world, trace(world.store, heldout))


def test_a_text_its_chain_and_its_prompt(world: Traced) -> None:
    found = links(world, trace(world.store, f"generation:{world.texts['revision'].id.hex()}"))
    assert {"answer > revision", "prompt 0 > revision", "model:/models/base > revision"} <= found
    assert {"principle:kind@1 > revision", "amendment:1 > principle:kind@1", "revision > comparison 4"} <= found
    assert "comparison 4 > labels:loop:revisions.judged" in found and "rows of sft > sft" in found
    found = links(world, trace(world.store, f"prompt:{world.prompts[0].id.hex()}"))
    assert {
        "prompt 0 > answer",
        "answer > revision",
        "answer > critique",
        "00 > comparison 0",
        "rows of dpo > dpo",
    } <= found


def test_a_promotion_by_hand_and_a_checkpoint_of_no_run(world: Traced) -> None:
    store = world.store
    alone = Checkpoint(make_id("job", name="alone"), "policy", "dpo", "/home/alone", "digest", "parent", "rows of mine")
    store.add_checkpoint(alone)
    event = store.promote(alone, "eve", "by hand", "key")
    store.roll_back("eve", "it was bad", "another")
    found = links(world, trace(store, "/home/alone"))
    name = f"checkpoint:{alone.id.hex()}"
    assert found == {f"model:parent > {name}", f"dataset:rows of mine > {name}", f"{name} > promotion:{event.id}"}
    graph = trace(store, "promoted", back=False)  # what was rolled back to
    assert [n.title for n in graph.nodes if n.kind == "promotion"] == ["promotion", "roll-back"]


def test_old_runs_are_counted(store: Store) -> None:
    traced.build(store)
    version = loading.parse(SECOND).version
    for number in range(MOST + 2):
        run = store.start_run(f"run {number}", "improve", {"settings": traced.SETTINGS}, version)
        traced._checkpoint(store, run, "dpo", f"model {number}", "parent", f"rows {number}")
    graph = trace(store, "calm", back=False)
    under = [n.title for n in graph.nodes if n.kind == "run" and "older" in n.title]
    assert under == ["3 older runs"]  # with the retrain
    assert sum(n.kind == "checkpoint" for n in graph.nodes) == MOST + 1  # and the draft's


def test_a_model_that_began_with_many_others(tmp_path: Path) -> None:
    with Store.open(tmp_path / "precept.db") as store:
        for number in range(90):  # each night from the model of the night before
            name = f"model {number:03}"
            parent = f"model {number - 1:03}"
            store.add_checkpoint(Checkpoint(make_id("job", n=number), "policy", "dpo", f"/{name}", name, parent, name))
        for what, last in (("/model 089", "model 049"), ("/model 000", "model 040")):
            graph = trace(store, what)
            models = [n for n in graph.nodes if n.kind == "checkpoint"]
            ends = [n for n in models if n.fact("go on with")]
            assert len(models) == 41 and [n.fact("weights") for n in ends] == [last]
            assert ends[0].fact("go on with") == f"precept model lineage {ends[0].id}"
            assert max(map(len, lines(graph))) <= WIDTH
            assert_apart(drawn(graph))


# --- authors ----------------------------------------------------------------------------------------------------------


def test_writers_are_those_that_blame_names(tmp_path: Path) -> None:
    entries = {"kind": (KIND, KINDER, KIND.replace("Be kind,", "Retitled,")), "short": (SHORT,), "calm": (CALM, "")}
    random_ = random.Random(0)
    with Store.open(tmp_path / "precept.db") as store:
        texts: list[str] = []
        while len(texts) < 12:
            text = HEAD + "".join(random_.choice(choices) for choices in entries.values())
            if not texts or text != texts[-1]:
                texts.append(text)
                store.ratify(loading.parse(text).version, "me", "why", f"{len(texts)}", text=text)
        known = Records(store)
        for amendment in known.amendments:
            wrote = {p: a.number - 1 for p, a in known.amended(amendment).writers.items() if a}
            assert wrote == authors(texts[: amendment.number])


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, said",
    [
        ("nothing", "nothing in the store is called 'nothing'; write a checkpoint (its folder, `promoted`), an amend"),
        ("", "nothing in the store is called ''"),
        ("\0", "nothing in the store"),
        ("99", "nothing in the store"),
        (
            "run:abcd",
            "there is no run 'abcd' in the store; write at least 4 digits of its id: `precept run list` shows",
        ),
        ("principle:nobody", "there is no principle 'nobody' in the store; write the id of a principle of any amend"),
        ("amendment:7", "there is no amendment '7' in the store; `precept constitution log` shows them"),
        ("comparison:zz", "there is no comparison 'zz' in the store; write the first digits of its id, at least 4"),
        ("generation:" + "a" * 40, "there is no generation"),
    ],
)
def test_a_name_that_nothing_has(still: Traced, name: str, said: str) -> None:
    with pytest.raises(UserError) as found:
        find(still.store, name)
    assert str(found.value).startswith(said)


def test_a_name_that_several_things_have(tmp_path: Path) -> None:
    with Store.open(tmp_path / "precept.db") as store:
        ids = [bytes.fromhex(digits.ljust(32, "0")) for digits in ("cafe1", "cafe2")]
        for id in ids:
            store.add_checkpoint(Checkpoint(id, "policy", "sft", f"/{id.hex()}", id.hex()[::-1], "parent", "cafe rows"))
        text = HEAD + KIND.replace("id: kind", "id: cafe")
        store.ratify(loading.parse(text).version, "me", "why", "key", text=text)
        with pytest.raises(
            UserError, match=r"can be several things .checkpoint:cafe10000000, checkpoint:cafe20000000, "
        ):
            find(store, "cafe")
        with pytest.raises(UserError, match="nothing is promoted yet"):
            find(store, "promoted")
        assert find(store, "cafe1").name == f"checkpoint:{ids[0].hex()}"
        assert find(store, "principle:cafe").name == "principle:cafe"
        with pytest.raises(UserError, match="write more of it"):
            find(store, "checkpoint:cafe")
        assert find(store, "dataset:cafe").key == "cafe rows"


def test_one_of_each_noun_needs_the_noun_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "precept.db") as store:
        id = bytes.fromhex("cafe".ljust(32, "0"))
        store.add_checkpoint(Checkpoint(id, "policy", "sft", "/folder", "digest", "parent", "cafe rows"))
        with pytest.raises(UserError, match=r"write one of checkpoint:cafe, dataset:cafe$"):
            find(store, "cafe")


# --- text -------------------------------------------------------------------------------------------------------------


def test_text_is_narrow_and_inert(still: Traced) -> None:
    ids = [f"generation:{g.id.hex()}" for g in still.texts.values()]
    for what in ("promoted", "/home/kinder", "kind", "1", "2", f"prompt:{still.prompts[0].id.hex()}", *ids):
        graph = trace(still.store, what)
        said = list(lines(graph))
        assert max(map(len, said)) <= WIDTH
        assert not any(ord(c) < 32 or c == "\u202e" for line in said for c in line)


def test_text_tells_of_everything_once(still: Traced) -> None:
    graph = trace(still.store, "/home/kinder", forward=False)
    said = list(lines(graph))
    assert said[0] == f"dpo policy {still.checkpoints['retrained'].id.hex()[:12]}"
    assert said[2] == "comes from" and "led to" not in said
    assert '      3 verdicts on kind <- "<b>Be very kind $x$": weight 3, by bob, in amendment 2' in said
    assert any("verdicts on short (above)" in line for line in said)
    for node in graph.nodes:
        if node.kind in ("labels", "data set", "constitution", "comparison") and node.id not in graph.focus:
            told = [line for line in said if line.strip().startswith(f"{node.title}: ")]
            assert told, node


def test_many_of_a_kind_are_counted_in_text() -> None:
    nodes = [Node("run:0", "run", "run 0"), *(Node(f"prompt:{n}", "prompt", f"prompt {n}") for n in range(50))]
    graph = Graph("run:0", ("run:0",), tuple(nodes), tuple(Edge("run:0", n.id, "") for n in nodes[1:]))
    said = list(lines(graph))
    assert said[:3] == ["run 0", "led to", "  prompt 0"] and said[-1] == "  and 10 more prompts" and len(said) == 43


# --- pictures ---------------------------------------------------------------------------------------------------------


def drawn(graph: Graph) -> Layout:
    shown = graph.without("person").at_most(picture.MOST)
    return arrange(shown, {node.id: 90.0 + 7 * len(node.kind) for node in shown.nodes})


@pytest.mark.parametrize("what", ["promoted", "/home/kinder", "kind", "short", "2", "run", "prompt"])
def test_boxes_and_lines_keep_apart(still: Traced, what: str) -> None:
    exact = {"run": f"run:{still.loop.id.hex()}", "prompt": f"prompt:{still.prompts[0].id.hex()}"}
    found = drawn(trace(still.store, exact.get(what, what)))
    assert_apart(found)


def assert_apart(found: Layout) -> None:
    boxes = found.boxes.values()
    for box in boxes:
        assert box.x >= 0 and box.y >= 0
        assert box.x + box.width <= found.width and box.y + HEIGHT <= found.height
    for one, other in combinations(boxes, 2):
        beside = one.x + one.width < other.x or other.x + other.width < one.x
        assert beside or abs(one.y - other.y) >= HEIGHT + 4
    for line in found.lines:
        if line.way == "on":
            through = line.points[1:-1]
            for (left, y), (right, _) in zip(through[::2], through[1::2], strict=True):
                assert not any(b.x <= left <= right <= b.x + b.width and b.y < y < b.y + HEIGHT for b in boxes)
        assert found.lines.count(line) == 1


def test_random_graphs_are_drawn_without_overlap() -> None:
    random_ = random.Random(1)
    for _ in range(20):
        nodes = tuple(Node(f"{n}", random_.choice(list(KINDS)), f"node {n}") for n in range(40))
        pairs = {tuple(random_.sample(range(40), 2)) for _ in range(60)}  # in any direction, and round in circles
        found = arrange(
            Graph("", ("0",), nodes, tuple(Edge(f"{a}", f"{b}", "") for a, b in sorted(pairs))),
            {node.id: random_.uniform(60, 160) for node in nodes},
        )
        assert_apart(found)


def test_too_many_are_drawn_as_one() -> None:
    nodes = [Node(f"principle:{n}", "principle", f"p{n}") for n in range(30)]
    nodes += [Node(f"verdicts:{n}", "verdicts", f"v{n}", (("verdicts", 10),)) for n in range(30)]
    edges = [Edge(f"principle:{n}", f"verdicts:{n}", "asked") for n in range(30)]
    graph = Graph("principle:3", ("principle:3",), tuple(nodes), tuple(edges)).at_most(40)
    assert len(graph.nodes) == 31 and graph.by_id["verdicts:all"].title == "30 sets of verdicts"
    assert graph.by_id["verdicts:all"].fact("verdicts") == 300
    assert len(graph.edges) == 30
    smaller = graph.at_most(5)
    assert [n.id for n in smaller.nodes] == ["principle:all", "principle:3", "verdicts:all"]
    assert smaller.at_most(1) == smaller  # the one asked about stays


def test_an_svg_is_inert_and_has_a_title(still: Traced, tmp_path: Path) -> None:
    graph = trace(still.store, "/home/kinder")
    picture.save(graph, tmp_path / "lineage.svg")
    text = (tmp_path / "lineage.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert (
        root.get("role") == "img" and root[0].tag == f"{space}title" and "Lineage of dpo policy" in (root[0].text or "")
    )
    assert not list(root.iter(f"{space}script")) and "onload" not in text and "javascript:" not in text
    said = ["".join(element.itertext()).strip() for element in root.iter(f"{space}text")]
    assert "<b>Be very kind $x$" in said and "amendment 2" in said and "3 verdicts" in said
    assert not any(placeholder in text for placeholder in picture._PAPER)


def test_a_hostile_title_is_cut_text(tmp_path: Path) -> None:
    long = Node("principle:x@1", "principle", HOSTILE + "字" * 500 + "\x00\ud800\n", (("id", "x"),))
    person = Node("amendment:1", "amendment", "amendment 1", (("by", HOSTILE), ("on", "2026-01-01")))
    graph = Graph("principle:x", (long.id,), (person, long), (Edge(person.id, long.id, "wrote"),))
    for name in ("x.svg", "x.png"):
        picture.save(graph, tmp_path / name)
    text = (tmp_path / "x.svg").read_text(encoding="utf-8")
    said = ["".join(e.itertext()).strip() for e in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert any(line.startswith(SHOWN[:12]) and line.endswith("…") for line in said)
    assert all(picture._width(line, picture.FACTS) <= picture.WIDE for line in said)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    page = picture.inline(graph, "drawing")
    assert "<script" not in page and 'id="drawing-' in page and "var(--card)" in page and 'class="lineage"' in page
    assert page == picture.inline(graph, "drawing")


def test_a_picture_that_cannot_be_written(still: Traced, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        picture.save(trace(still.store, "1"), tmp_path / "file" / "x.svg")
