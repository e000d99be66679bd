"""`precept model lineage`: text, JSON and pictures of a store in which every link is known."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from storage.store import Store
from tests.cli.conftest import Precept
from tests.service import traced
from tests.service.traced import Traced


@pytest.fixture
def world(store: Store) -> Traced:
    return traced.build(store)


def test_a_model_and_who_wrote_what_it_was_made_of(world: Traced, precept: Precept) -> None:
    found = precept("model", "lineage", "promoted")
    assert found.code == 0 and found.err == ""
    said = found.out.splitlines()
    assert said[0] == f"dpo policy {world.checkpoints['dpo'].id.hex()[:12]}"
    assert '      4 verdicts on kind <- "Be kind": weight 3, by ada, in amendment 1' in said
    assert "  sft policy" in found.out and "led to" in said
    assert "      promotion: by the gate, on " in found.out
    assert all(len(line) <= 100 for line in said)


def test_one_way_alone(world: Traced, precept: Precept) -> None:
    back, forward, both = (
        precept("model", "lineage", "promoted", *way).out
        for way in (["--back"], ["--forward"], ["--back", "--forward"])
    )
    assert "led to" not in back and "comes from" in back
    assert "led to" in forward and "comes from" not in forward
    assert both == precept("model", "lineage", "promoted").out


def test_json_is_the_graph(world: Traced, precept: Precept) -> None:
    found = precept("model", "lineage", "principle:kind", "--json").json
    assert found["what"] == "principle:kind" and found["focus"] == ["principle:kind@1", "principle:kind@2"]
    nodes = {node["id"]: node for node in found["nodes"]}
    assert nodes["principle:kind@2"]["kind"] == "principle" and nodes["principle:kind@2"]["facts"]["by"] == "bob"
    assert {"from": "amendment:2", "to": "principle:kind@2", "why": "last wrote it"} in found["edges"]
    assert all(edge["from"] in nodes and edge["to"] in nodes for edge in found["edges"])


def test_every_node_that_is_named_can_be_asked_about(world: Traced, precept: Precept) -> None:
    askable = ("checkpoint:", "run:", "dataset:", "amendment:", "constitution:", "prompt:", "generation:")
    nodes = precept("model", "lineage", f"prompt:{world.prompts[0].id.hex()}", "--json").json["nodes"]
    nodes += precept("model", "lineage", "promoted", "--json").json["nodes"]
    asked = {n["id"] for n in nodes if n["id"].startswith(askable)}
    assert {id.partition(":")[0] for id in asked} >= {"checkpoint", "dataset", "amendment", "prompt", "generation"}
    for id in asked:
        assert precept("model", "lineage", id).code == 0


def test_what_people_wrote_reaches_the_terminal_as_text(world: Traced, precept: Precept) -> None:
    for what in ("ratified", "/home/kinder", f"prompt:{world.prompts[0].id.hex()}"):
        out = precept("model", "lineage", what).out
        assert "<U+001B>" in out and "\x1b" not in out and "\u202e" not in out
        assert "\x1b" not in precept("model", "lineage", what, "--json").out


@pytest.mark.parametrize("name, begins", [("lineage.svg", b"<?xml"), ("lineage.PNG", b"\x89PNG")])
def test_a_picture(world: Traced, precept: Precept, project: Path, name: str, begins: bytes) -> None:
    found = precept("model", "lineage", "promoted", "--picture", project / "new" / name)
    assert found.code == 0 and "drawn into" in found.err and found.out.startswith("dpo policy")
    assert (project / "new" / name).read_bytes().startswith(begins)


def test_a_run_whose_process_is_gone_is_not_running_here_either(labelled, precept: Precept) -> None:
    found = precept("model", "lineage", f"run:{labelled.run.id.hex()}", "--json")
    assert found.code == 0, found.err
    assert '"stopped"' in found.out and '"running"' not in found.out


def test_mistakes(world: Traced, precept: Precept, project: Path) -> None:
    found = precept("model", "lineage", "promoted", "--picture", "lineage.jpg")
    assert found.code == 2 and "an .svg or a .png file" in found.err
    found = precept("model", "lineage", "nothing\x1b[31m")
    assert found.code == 2 and "write a checkpoint" in found.err and "\x1b" not in found.err
    both = world.loop.id.hex()[:4]
    twin = replace(world.checkpoints["sft"], id=bytes.fromhex(both.ljust(32, "0")), digest="other", path="/home/other")
    world.store.add_checkpoint(twin)
    found = precept("model", "lineage", both)
    assert (
        found.code == 2 and found.err == f"'{both}' can be several things; write one of checkpoint:{both}, run:{both}\n"
    )
    assert precept("model", "lineage", f"run:{both}").out.startswith(f"run {world.loop.id.hex()[:12]}")
    assert not list(project.glob("*.jpg"))


def test_in_an_empty_store(store: Store, precept: Precept) -> None:
    found = precept("model", "lineage", "promoted")
    assert found.code == 2 and "nothing is promoted yet" in found.err
    found = precept("model", "lineage", "ratified")
    assert found.code == 2 and "nothing in the store is called 'ratified'" in found.err


def test_text_needs_no_model_and_no_plots(world: Traced) -> None:
    code = """
import sys
from cli.main import run
assert run(["model", "lineage", "promoted"]) == 0
print({"torch", "transformers", "prefect", "matplotlib", "trl"} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
