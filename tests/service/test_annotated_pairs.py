"""A run as annotated pairs and back: what was said is what is read, by every reader of pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from constitution.errors import UserError
from constitution.records import LabelRule, Message
from pipeline.sources import annotated_pairs, known_pairs, rows
from pipeline.sources.annotated_pairs import DEFAULT, Annotated, Said
from service.actions import annotated_pairs as exporting
from service.actions.data_files import Split
from service.actions.imports import What, bring_in
from service.settings import SplitSettings
from storage.store import Store
from tests.service import reviewed_run

SPLITS = {"heldout": 0.2, "dev": 0.1}


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        yield store


def test_each_principle_the_judge_and_people_are_annotators(store: Store, tmp_path: Path) -> None:
    about = reviewed_run.build(store, kind=[0.95, 0.1, (0.9, 0.1), None, 0.95], short=[0.5, 0.5, 0.5, 0.5, 0.1])
    done = exporting.export(store, tmp_path / "out.json", split=Split.all)
    text = json.loads((tmp_path / "out.json").read_text())
    assert text["metadata"]["version"] == "2.0" and text["metadata"]["default_annotator"] == DEFAULT
    assert done.default == "judge" and done.annotators == {"ai": 1, "principle": 2} and done.comparisons == 5
    assert text["annotators"]["principle-kind"]["description"] == "Which is kinder?"
    by_id = {bytes.fromhex(c["id"]): c["annotations"] for c in text["comparisons"]}
    said = [{who: a["pref"] for who, a in by_id[pair].items()} for pair in about.pairs]
    assert [s["principle-kind"] for s in said] == ["a", "b", None, None, "a"]
    assert said[0][DEFAULT] == "a" and said[1][DEFAULT] == "b"
    reasons = [by_id[pair]["principle-kind"].get("no_pref_reason") for pair in about.pairs]
    assert reasons == [None, None, "neither", "invalid", None]  # the two orders cancel out exactly
    assert by_id[about.pairs[0]]["principle-short"] == {"pref": None, "no_pref_reason": "not_applicable", "p": 0.5}
    assert {c["metadata"]["split"] for c in text["comparisons"]} == {"train"}


def test_every_annotator_named_has_said_something(store: Store, tmp_path: Path) -> None:
    """A reader makes a column of each, and looks for it in the comparisons."""
    reviewed_run.build(store, kind=[0.95, 0.9])
    exporting.export(store, tmp_path / "out.json", split=Split.all)
    text = json.loads((tmp_path / "out.json").read_text())
    spoke = {name for c in text["comparisons"] for name in c["annotations"]}
    assert set(text["annotators"]) == spoke
    assert all("pref" in a for c in text["comparisons"] for a in c["annotations"].values())


def test_what_is_written_is_read_alike_by_every_reader(store: Store, tmp_path: Path) -> None:
    about = reviewed_run.build(store, kind=[0.95, 0.1, None, 0.97, 0.02])
    file = tmp_path / "out.json"
    exporting.export(store, file, split=Split.all)
    labels = store.labels(
        about.pairs, {q.id: 1 for q in about.questions.values()}, LabelRule(min_mass=0.5, min_margin=0.5)
    )
    wanted = {}
    for label, pair in zip(labels, store.pairs(about.pairs), strict=True):
        if label.preferred_first is not None:
            texts = (pair.first, pair.second)
            wanted[pair.messages] = texts if label.preferred_first else texts[::-1]
    assert len(wanted) == 4
    known = known_pairs.found(file)
    assert {p.messages: (p.better, p.worse) for p in known.pairs} == wanted and len(known.ties) == 1
    assert known_pairs.read(file, "annotated_pairs") == known.pairs
    assert rows.pair_kind(file) == "preferences"
    found = rows.read(file, "preferences", **SPLITS)
    assert {r.prompt.messages: r.answers for r in found.rows} == wanted and len(found.tied) == 1
    assert len(rows.read(file, "pairs", **SPLITS).rows) == 5
    assert len(rows.read_prompts(file, **SPLITS)) == 5
    with Store.open(f"sqlite:///{tmp_path / 'other.db'}") as other:
        kept = bring_in(other, What.preferences, file, SplitSettings())
        assert kept.stored == {"prompts": 4, "pairs": 4, "preferences": 4} and len(kept.ties) == 1
        again = tmp_path / "again.json"
        done = exporting.export(other, again, kept.run, Split.all)
        assert done.default == "people" and done.annotators == {"human": 1}
        assert {p.messages: (p.better, p.worse) for p in known_pairs.read(again)} == wanted


def test_people_come_first_and_are_numbered(store: Store, tmp_path: Path) -> None:
    about = reviewed_run.build(store, kind=[0.95, 0.9, 0.9])
    for who, answer in (("ada", "first"), ("bob", "second"), ("cyd", "second"), ("dan", "skip")):
        store.add_spot_check(who, about.pairs[0], answer, reason="", sampled_by="random", key=who)
    done = exporting.export(store, tmp_path / "out.json", split=Split.all)
    text = json.loads((tmp_path / "out.json").read_text())
    said = next(c for c in text["comparisons"] if c["id"] == about.pairs[0].hex())["annotations"]
    assert done.default == "people" and said[DEFAULT]["pref"] == "b" and said["judge"]["pref"] == "a"
    assert [said[f"person-{n}"]["pref"] for n in (1, 2, 3)] == ["a", "b", "b"]
    assert "bob" not in (tmp_path / "out.json").read_text()


@pytest.mark.parametrize(
    "messages",
    [
        (Message("user", "Why?"),),
        (Message("user", "One."), Message("assistant", "Two."), Message("user", "Three?")),
        (Message("system", "Be brief."), Message("user", "Why?")),
        (Message("user", "A trap:\n\nHuman: no\n\nAssistant: yes"),),
        (Message("user", " spaces \n"), Message("assistant", " a\n\nHuman: b"), Message("user", "c")),
    ],
)
def test_a_prompt_comes_back_as_it_was(messages, tmp_path: Path) -> None:
    one = Annotated("c", messages, "x", "y", {DEFAULT: Said("b")})
    person = annotated_pairs.Annotator(DEFAULT, "people", "", "human")
    (tmp_path / "f.json").write_text(json.dumps(annotated_pairs.document([one], [person], default=DEFAULT)))
    (pair,) = known_pairs.read(tmp_path / "f.json")
    assert (pair.messages, pair.better, pair.worse) == (messages, "y", "x")


def test_files_as_the_tools_write_them_and_their_mistakes(tmp_path: Path) -> None:
    def written(**changes) -> Path:
        comparison = {
            "id": "4b", "prompt": "Write a story.", "response_a": {"text": "Once", "model": "X"},
            "response_b": {"text": "Twice", "model": "Y"}, "annotations": {"h": {"pref": "a"}, "p": {"pref": None}},
            "metadata": {"index": "0"},
        }  # fmt: skip
        file = {
            "metadata": {"version": "2.0", "default_annotator": "h"},
            "annotators": {"h": {"name": "Human", "type": "human"}, "p": {"description": "d", "type": "principle"}},
            "comparisons": [comparison, {**comparison, "id": "5", "prompt": "Another.", **changes}],
        }
        path = tmp_path / f"{random.random()}.json"
        path.write_text(json.dumps(file, indent=2))
        return path

    assert [r.answers for r in rows.read(written(), "preferences", **SPLITS).rows] == [("Once", "Twice")] * 2
    tied = rows.read(written(annotations={"h": {"pref": None, "no_pref_reason": "both"}}), "preferences", **SPLITS)
    assert len(tied.rows) == 1 and "comparison 2: a tie" in tied.ties[0]
    with pytest.raises(UserError, match=r"comparison 2: 'response_b' has to have a text"):
        rows.read(written(response_b={"model": "Y"}), "preferences", **SPLITS)
    bad = rows.read(written(response_b={}), "preferences", **SPLITS, skip_bad=True)
    assert len(bad.rows) == 1 and len(bad.problems) == 1
    nobody = json.loads(written().read_text())
    del nobody["metadata"]["default_annotator"]
    nobody["annotators"]["g"] = {"type": "human"}
    (tmp_path / "nobody.json").write_text(json.dumps(nobody))
    with pytest.raises(UserError, match="default_annotator"):
        rows.read(tmp_path / "nobody.json", "preferences", **SPLITS)
    assert rows.pair_kind(tmp_path / "nobody.json") == "pairs"


def test_what_cannot_be_exported(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give a \.json file"):
        exporting.export(store, tmp_path / "out.jsonl")
    reviewed_run.build(store, kind=[0.9])
    with pytest.raises(UserError, match=r"no comparison of run .* in the split heldout"):
        exporting.export(store, tmp_path / "out.json", split=Split.heldout)
