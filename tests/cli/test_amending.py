"""`precept constitution amend`: what it shows, and that whatever goes wrong is told in one message and leaves in force
what was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import constitution
from constitution import loading
from constitution.records import Comparison, Generation, Id, make_id
from pipeline.sources.rows import read_prompts
from service import settings as settings_module
from service.actions.ratify import ratify
from service.queries import preview
from service.wiring import Wiring
from service.work.progress import Silent
from service.work.work import Work
from storage.amendments import Amendment
from storage.store import Store
from tests.cli.conftest import PROMPTS, SETTINGS

HOSTILE = "\x1b[31m[red]\u202e"
TEXT = """\
# ours
constitution: two
version: 1

principles:
  # first of all
  - id: kind
    title: Kind
    critique: Is it rude?
    revision: Be kind.
    comparison: Which is kinder?
    weight: 3

  # people are busy
  - id: short
    title: Short
    critique: Is it long?
    revision: Be short.
    comparison: Which is shorter?
"""
CALM = """
  - id: calm
    title: Calm
    critique: Is it loud?
    revision: Be calm.
    comparison: Which is calmer?
"""
LIGHTER = TEXT.replace("weight: 3", "weight: 0.5")
REWORDED = TEXT.replace("Which is shorter?", "Which says it in fewer words?")
RETITLED = TEXT.replace("title: Kind", "title: Kind to all")
PAIRS = 36  # six prompts, four answers each
# Of the answers 0 to 3 the judge finds 0 and 1 kinder (0.9 in both orders), 0 and 2 shorter, 0 and 3 calmer.
# So at weights 3 and 1 answer 1 beats 2 with p = 1/2 + (3 * 0.8 - 0.8) / 8 = 0.7, and where kindness weighs a half, 2
# beats 1 with 1 - p = 1/2 + (0.8 - 0.4) / 3. No other pair turns: one pair a prompt.
SCRIPT = """\
rules:
  - {match: '(?s)Reply A.(?P<a>.*)Reply B.(?P<b>.*)Question.*kind', prefer: '\\.[01] ', p: 0.9}
  - {match: '(?s)Reply A.(?P<a>.*)Reply B.(?P<b>.*)Question.*(short|fewer)', prefer: '\\.[02] ', p: 0.9}
  - {match: '(?s)Reply A.(?P<a>.*)Reply B.(?P<b>.*)Question.*calm', prefer: '\\.[03] ', p: 0.9}
  - {text: An answer.}
"""
FLIPS = 6
MAY = 12  # that calmness may turn: those about which kindness says nothing, two a prompt


@dataclass
class Place:
    folder: Path
    store: Store
    comparisons: list[Id]
    first: Amendment

    @property
    def file(self) -> Path:
        return self.folder / "principles.yaml"

    def edit(self, text: str) -> str:
        self.file.write_text(text)
        return text

    @property
    def asked(self) -> int:
        """Requests that reached the judge so far: two a verdict."""
        return len((self.folder / "asked.log").read_text().splitlines())

    def ratify(self, text: str, who: str = "bob", why: str = "because") -> Amendment:
        """As somebody else would, elsewhere."""
        return ratify(self.store, loading.parse(text), self.store.ratified(), who, why)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Id]]:
    """A folder to be copied, and the comparisons in its store: see `place`."""
    folder = tmp_path_factory.mktemp("made")
    judge = '[judge]\nkind = "scripted"\nmodel = "script.yaml"\n'
    assert judge in SETTINGS
    (folder / "precept.toml").write_text(SETTINGS.replace(judge, f'{judge}options = {{log = "asked.log"}}\n'))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    (folder / "principles.yaml").write_text(TEXT)
    (folder / "script.yaml").write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PRECEPT_USER", "ada")
        with Store.open("sqlite:///runs/precept.db") as store:
            return folder, _judged(store)


@pytest.fixture
def place(project: Path, made: tuple[Path, list[Id]]) -> Iterator[Place]:
    """A finished run whose pairs the scripted judge labelled; ada has ratified what principles.yaml says."""
    shutil.copytree(made[0], project, dirs_exist_ok=True)
    with Store.open("sqlite:///runs/precept.db") as store:
        yield Place(project, store, made[1], store.amendment("ratified"))


def _judged(store: Store) -> list[Id]:
    settings, _ = settings_module.load()
    wiring = Wiring(settings)
    now = wiring.constitution
    ratify(store, now, None, "ada", "to begin with")
    store.put_constitution(now.version, now.source)
    run = store.start_run("a run", "improve", {"settings": settings.identity(), "policy": "script.yaml"}, now.version)
    prompts = read_prompts(Path("prompts.jsonl"), heldout=0.2, dev=0.1)
    store.add_prompts(prompts)
    store.add_members(run.id, "prompts", [p.id for p in prompts])
    made: list[Comparison] = []
    origins = []
    for number, prompt in enumerate(prompts):
        answers = [
            Generation(
                make_id("test", prompt=prompt.id, sample=n), "response", prompt.id, f"answer {number}.{n} {HOSTILE}",
                "stop", "scripted", sample=n, prompt_tokens=10, tokens=30,
            )
            for n in range(4)
        ]  # fmt: skip
        store.add_generations(answers, run=run.id, stage="samples")
        for one, other in combinations(answers, 2):
            made.append(Comparison.of(prompt.id, one.content, other.content))
            origins.append([one.id, other.id])
    store.add_comparisons(made, origins=origins, run=run.id, stage="feedback")
    work = Work(wiring, run, who="ada", report=Silent())
    work.ask_judge("feedback", wiring.judge(settings.judge), [c.id for c in made])
    calls = {"generated": 24, "chosen": 4 * len(made), "reused": 0}
    seconds = {"startup": 0.0, "models": 0.0, "training": 0.0, "asking": 3.84, "generating": 2.4, "judging": 1.44}
    store.finish_run(run.id, "finished", result={"calls": calls, "seconds": seconds, "model": "script.yaml"})
    work.close()
    wiring.close()
    assert len(made) == PAIRS
    return [c.id for c in made]


# --- what is shown -------------------------------------------------------------------------------------------------


def test_the_preview_as_people_read_it(place: Place, precept: Any) -> None:
    place.edit(TEXT.replace("weight: 3", "weight: 0.5") + CALM)
    asked = place.asked
    done = precept("constitution", "amend", "principles.yaml")
    assert done.code == 0 and place.asked == asked
    lines = done.out.splitlines()
    assert lines[0].startswith("principles.yaml against amendment 1, ratified ") and lines[0].endswith(" by ada")
    assert "calm" in done.out and "kind" in done.out
    assert any(line.startswith(f"labels   {PAIRS} of run ") and "may, the rest cannot" in line for line in lines)
    assert "--sample 100" in done.out
    ways = [line for line in lines if line.startswith("precept retrain")]
    names = [line.split("  ")[0] for line in ways]
    assert names == [
        "precept retrain",
        *(f"precept retrain {way}" for way in ("--top-up", "--from revise", "--from scratch")),
    ]
    assert ways[0].split()[2:4] == [str(PAIRS), "3"]  # verdicts on labels, and on the one held-out prompt, by three
    assert "checkpoints: sft, reward, dpo" in done.out
    digest = precept("constitution", "amend", "principles.yaml", "--json").json["draft"]["digest"]
    asked = 'precept constitution amend principles.yaml --ratify -m "why"'
    assert lines[-1] == f"to put it in force: {asked} --reviewed {digest}"
    assert place.store.amendments() == [place.first]


def test_flips_are_shown_with_what_a_terminal_would_obey_made_visible(place: Place, precept: Any) -> None:
    place.edit(LIGHTER)
    done = precept("constitution", "amend", "principles.yaml")
    found = precept("constitution", "amend", "principles.yaml", "--json").json
    assert found["flips"] == FLIPS and f"{FLIPS} flip, exactly" in done.out
    assert {round(max(x["p_before"], 1 - x["p_before"]), 6) for x in found["examples"]} == {0.7}
    assert {round(max(x["p_after"], 1 - x["p_after"]), 6) for x in found["examples"]} == {0.633333}
    assert {(x["before"], x["after"]) for x in found["examples"]} <= {("first", "second"), ("second", "first")}
    assert "\x1b" not in done.out and "\u202e" not in done.out
    assert "<U+001B>[31m[red]<U+202E>" in done.out
    shown = [line for line in done.out.splitlines() if " becomes " in line]
    assert len(shown) == len(found["examples"]) == 5
    assert all(line.endswith(", by kind") for line in shown)


def test_json_has_what_programs_read(place: Place, precept: Any) -> None:
    place.edit(REWORDED.replace("weight: 3", "weight: 2").replace("title: Short", "title: Brief") + CALM)
    found = precept("constitution", "amend", "principles.yaml", "--dry-run", "--json").json
    assert found["principles"] == {
        "added": ["calm"], "changed": ["short"], "removed": [], "reweighted": ["kind"], "renamed": {},
        "retitled": ["short"],
    }  # fmt: skip
    assert set(found["cost"]) == {"verdicts", "tokens", "seconds"}
    assert found["cost"]["verdicts"] == 2 * PAIRS and found["missing"] == {"short": PAIRS, "calm": PAIRS}
    # 0.1 s a text, 2 x 0.01 s a verdict; one held-out prompt, answered once and judged by three principles
    assert found["cost"]["seconds"] == pytest.approx(0.1 + 0.02 * (2 * PAIRS + 3))
    assert found["labels"]["total"] == PAIRS and found["labels"]["flips"] == found["flips"]
    assert {"open", "sampled", "expected", "low", "high"} < set(found["labels"])
    assert set(found["stale"]) == {"chains", "of", "steps", "checkpoints"}
    assert list(found["ways"]) == ["default", "top-up", "revise", "scratch"]
    assert set(found["ways"]["default"]) == {
        "name", "command", "verdicts", "evaluation", "generated", "tokens", "seconds", "requests"
    }  # fmt: skip
    assert (found["ratified"]["number"], found["made_from"], found["overtaken"]) == (1, 1, False)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (TEXT.replace("  - id: kind", "  - id: warm"), "renamed"),
        (TEXT.replace("# first of all", "# last of all"), ""),
        (RETITLED, "retitled"),
        (TEXT.replace("Is it rude?", "Is it harsh?"), "changed"),
        (TEXT.partition("  # people are busy")[0], "removed"),
    ],
)
def test_what_asks_nothing_says_so(place: Place, precept: Any, text: str, kind: str) -> None:
    place.edit(text)
    found = precept("constitution", "amend", "principles.yaml", "--json").json
    assert (found["cost"]["verdicts"], found["labels"]["open"]) == (0, 0)
    assert [name for name, ids in found["principles"].items() if ids] == ([kind] if kind else [])
    assert ", exactly" in precept("constitution", "amend", "principles.yaml").out


def test_a_sample_is_asked_once(place: Place, precept: Any) -> None:
    place.edit(TEXT + CALM)
    before = place.asked
    may = precept("constitution", "amend", "principles.yaml", "--json").json["labels"]["open"]
    assert may == MAY and place.asked == before
    done = precept("constitution", "amend", "principles.yaml", "--sample", 10, "-q")
    assert place.asked == before + 2 * 10  # both orders
    assert "from a sample of 10" in done.out and "95% interval" in done.out
    assert precept("constitution", "amend", "principles.yaml", "--sample", 10, "-q").out == done.out
    assert place.asked == before + 2 * 10
    found = precept("constitution", "amend", "principles.yaml", "--sample", PAIRS, "--json", "-q").json
    assert place.asked == before + 2 * may  # the others cannot flip, whatever the judge says
    assert found["labels"]["low"] == found["labels"]["high"] == found["flips"] == 6  # 3 is calmer than 2: tied
    assert found["cost"]["verdicts"] == PAIRS - may
    assert place.store.amendments() == [place.first]


def test_a_sample_that_meets_a_limit_stops_cleanly(place: Place, precept: Any) -> None:
    place.edit(TEXT + CALM)
    done = precept("constitution", "amend", "principles.yaml", "--sample", 10, "--set", "limits.max_calls=4")
    assert done.code == 3 and "limits.max_calls = 4" in done.err and "Traceback" not in done.err
    assert [run.status for run in place.store.runs() if run.kind == "preview"] == ["stopped"]
    assert place.store.amendments() == [place.first]


def test_other_commands_take_a_sample_for_no_run_of_theirs(place: Place, precept: Any) -> None:
    place.edit(TEXT + CALM)
    before = precept("data", "export", "before.jsonl", "--json").json
    prompts = precept("data", "export", "p.jsonl", "--format", "prompt-only", "--split", "all", "--json").json["rows"]
    assert precept("constitution", "amend", "principles.yaml", "--sample", 10, "-q").code == 0
    after = precept("data", "export", "after.jsonl", "--json").json
    assert after["rows"] == before["rows"] > 0
    assert (
        precept("data", "export", "p.jsonl", "--format", "prompt-only", "--split", "all", "--json").json["rows"]
        == prompts
    )
    assert precept("review", "agreement").code in (0, 2)
    done = precept(
        "data", "export", "x.jsonl", "--run", next(r for r in place.store.runs() if r.kind == "preview").id.hex()
    )
    assert done.code == 2 and "Traceback" not in done.err
    assert precept("run", "list").code == 0


# --- ratifying -----------------------------------------------------------------------------------------------------


def test_ratifying_is_one_amendment(place: Place, precept: Any) -> None:
    text = place.edit(REWORDED)
    asked = place.asked
    digest = precept("constitution", "amend", "principles.yaml", "--json").json["draft"]["digest"]
    done = precept(
        "constitution", "amend", "principles.yaml", "--ratify", "-m", "fewer words", "--reviewed", digest[:6]
    )
    assert done.code == 0 and place.asked == asked
    made = place.store.ratified()
    assert made is not None and len(place.store.amendments()) == 2
    assert (made.number, made.text, made.who, made.message) == (2, text, "ada", "fewer words")
    assert made.parent == place.first.version and made.version == loading.parse(text).version
    assert f"ratified: amendment 2, version {made.version[:12]}, by ada" in done.out
    assert f"next: precept retrain, which asks for {PAIRS} verdicts on the labels" in done.out
    assert "by itself" not in done.out
    again = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "fewer words")
    assert again.code == 2 and "there is nothing to ratify" in again.err
    assert place.store.ratified() == made


def test_ratifying_as_json(place: Place, precept: Any) -> None:
    place.edit(RETITLED)
    done = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "a title", "--json")
    assert done.json["amendment"] == 2 and done.json["version"] == place.first.version
    assert done.json["preview"]["cost"]["verdicts"] == 0
    place.edit(RETITLED.replace("to all", "to everyone"))
    said = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "a title").out
    assert "there is nothing to label or to train" in said


def test_a_fresh_store(project: Path, store: Store, precept: Any) -> None:
    looked = precept("constitution", "amend", "principles.yaml")
    assert looked.code == 2 and "nothing is ratified in this store yet" in looked.err
    assert precept("constitution", "amend", "principles.yaml", "--ratify", "-m", " ").code == 2
    assert precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x", "--reviewed", "0000").code == 2
    assert store.ratified() is None
    done = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "to begin with")
    assert done.code == 0 and "ratified: amendment 1" in done.out
    now = store.ratified()
    assert now is not None and (now.number, now.who, now.parent) == (1, "ada", None)


def test_a_retrain_that_follows_is_in_the_one_json(place: Place, precept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_flow(name: str, *rest: Any) -> Any:
        ran.append(name)
        return {"run": "abc"}

    monkeypatch.setattr("cli.constitution.amend.run_flow", run_flow)
    place.edit(REWORDED)
    done = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x", "--retrain", "--json")
    assert (done.json["amendment"], done.json["retrain"], ran) == (2, {"run": "abc"}, ["retrain"])
    place.edit(REWORDED.replace("title: Kind", "title: Kindly"))
    assert (
        precept(
            "constitution", "amend", "principles.yaml", "--ratify", "-m", "x", "--set", "retrain.on_ratify=true"
        ).code
        == 0
    )
    assert ran == ["retrain"]  # a title trains nothing


# --- what is refused -----------------------------------------------------------------------------------------------

EMPTY = TEXT.partition("  # first of all")[0]
BROKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "not YAML": (TEXT.replace("id: kind", "id: [kind"), ("principles.yaml:8:10", "bracket")),
    "no comparison": (TEXT.replace("    comparison: Which is kinder?\n", ""), ("principles.yaml:7:", "comparison")),
    "another key": (TEXT.replace("weight: 3", "wieght: 3"), ("principles.yaml:12:5", "Did you mean `weight`?")),
    "no principle": (EMPTY, ("principles.yaml:5:", "principles")),
    "an empty list": (EMPTY.replace("principles:", "principles: []"), ("principles.yaml:5:", "empty list")),
    "weight zero": (TEXT.replace("weight: 3", "weight: 0"), ("principles.yaml:12:13", "outside 0 to 1000")),
    "weight below zero": (TEXT.replace("weight: 3", "weight: -1"), ("principles.yaml:12:13", "outside 0 to 1000")),
    "weight infinite": (TEXT.replace("weight: 3", "weight: .inf"), ("principles.yaml:12:13", "`weight: .inf`")),
    "weight too large for a float": (TEXT.replace("weight: 3", "weight: 1e999"), ("principles.yaml:12:13", "weight")),
    "weight not a number": (TEXT.replace("weight: 3", "weight: .nan"), ("principles.yaml:12:13", "`weight: .nan`")),
    "another's id": (
        TEXT.replace("id: short", "id: kind"),
        ("principles.yaml:15:9", "taken by the principle on line 7"),
    ),
    "nothing": ("", ("principles.yaml", "there is no constitution in this file")),
}  # fmt: skip


def refused(done: Any, *said: str) -> None:
    """One message, and an exit code that says whose mistake it is."""
    assert done.code == 2, done.err
    for words in said:
        assert words in done.err
    assert "Traceback" not in done.err and done.err.strip()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_draft_is_told_by_line_and_column(place: Place, precept: Any, name: str) -> None:
    text, said = BROKEN[name]
    place.edit(text)
    others = [(), ("--merge",), ("--sample", "5", "--json")] if name == "not YAML" else []
    for more in [("--ratify", "-m", "x"), *others]:
        done = precept("constitution", "amend", "principles.yaml", *more)
        refused(done, *said)
        assert done.out == ""
    assert place.file.read_text() == text
    assert place.store.amendments() == [place.first] == [place.store.ratified()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ratify",), '-m "why"'),
        (("--ratify", "-m", ""), '-m "why"'),
        (("--ratify", "-m", " \n\t"), '-m "why"'),
        (("--ratify", "--dry-run", "-m", "x"), "leave one of them out"),
        (("-m", "x"), "go with --ratify"),
        (("--retrain",), "go with --ratify"),
        (("--merge", "--ratify", "-m", "x"), "--merge"),
        (("--merge", "--dry-run"), "--merge"),
        (("--ratify", "-m", "x", "--reviewed", "0123456789ab"), "is not the draft that was reviewed"),
        (("--ratify", "-m", "x", "--made-from", "7"), "there is no amendment '7'"),
        (("--run", "ffff"), "there is no run"),
        (("--sample", "-1"), "--sample"),
    ],
)
def test_what_cannot_be_meant_is_refused(place: Place, precept: Any, arguments: tuple[str, ...], said: str) -> None:
    text = place.edit(LIGHTER)
    refused(precept("constitution", "amend", "principles.yaml", *arguments), said)
    assert place.file.read_text() == text
    assert place.store.amendments() == [place.first]


def test_a_digest_that_is_too_short_names_no_draft(place: Place, precept: Any) -> None:
    place.edit(LIGHTER)
    digest = precept("constitution", "amend", "principles.yaml", "--json").json["draft"]["digest"]
    refused(
        precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x", "--reviewed", digest[:3]), "reviewed"
    )
    assert place.store.amendments() == [place.first]


def test_where_nothing_was_changed_there_is_nothing_to_ratify(place: Place, precept: Any) -> None:
    refused(precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x"), "there is nothing to ratify")
    refused(
        precept("constitution", "amend", "nowhere.yaml", "--ratify", "-m", "x"), "nowhere.yaml", "there is no such file"
    )
    refused(precept("constitution", "amend", ".", "--ratify", "-m", "x"), "is a folder")
    assert place.store.amendments() == [place.first]
    assert precept("constitution", "amend", "principles.yaml").code == 0


@pytest.mark.parametrize("became", [REWORDED, TEXT, "principles: [", None])
def test_a_file_that_changes_between_preview_and_ratifying(
    place: Place, precept: Any, monkeypatch: pytest.MonkeyPatch, became: str | None
) -> None:
    look = preview.preview

    def late(*args: Any, **more: Any) -> Any:
        found = look(*args, **more)
        place.file.unlink() if became is None else place.edit(became)
        return found

    monkeypatch.setattr(preview, "preview", late)
    place.edit(LIGHTER)
    refused(
        precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x"),
        "was changed while its preview was made",
    )
    assert (place.file.read_text() if place.file.exists() else None) == became
    assert place.store.amendments() == [place.first]


def test_a_file_that_changed_since_it_was_reviewed(place: Place, precept: Any) -> None:
    place.edit(LIGHTER)
    digest = precept("constitution", "amend", "principles.yaml", "--json").json["draft"]["digest"]
    place.edit(LIGHTER + "# and one word more\n")
    refused(
        precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x", "--reviewed", digest),
        "not the draft that was reviewed",
    )
    assert place.store.amendments() == [place.first]
    place.edit(LIGHTER)
    assert precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x", "--reviewed", digest).code == 0


# --- two people ----------------------------------------------------------------------------------------------------


def test_the_second_of_two_is_shown_both_edits_and_may_have_both(place: Place, precept: Any) -> None:
    theirs = place.ratify(REWORDED.replace("# people are busy", "# people are very busy"), why="fewer words")
    yours = place.edit(LIGHTER.replace("# first of all", "# first of all, and always"))
    looked = precept("constitution", "amend", "principles.yaml")
    assert looked.code == 0 and "it was made from amendment 1" in looked.out
    done = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "lighter")
    refused(
        done,
        "principles.yaml was made from amendment 1, and bob has ratified amendment 2 since",
        "they changed: short comparison", "Which is shorter?", "Which says it in fewer words?",
        "you changed: kind weight", "3000", "500", "--merge",
    )  # fmt: skip
    assert place.file.read_text() == yours and place.store.ratified() == theirs

    merged = precept("constitution", "amend", "principles.yaml", "--merge")
    assert merged.code == 0 and "amendment 2" in merged.out
    text = place.file.read_text()
    for words in ("fewer words", "weight: 0.5", "# people are very busy", "# first of all, and always", "# ours"):
        assert words in text
    assert place.store.ratified() == theirs
    assert precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "lighter").code == 0
    now = place.store.ratified()
    assert now is not None and (now.number, now.text, now.parent) == (3, text, theirs.version)
    assert "there is nothing to merge" in precept("constitution", "amend", "principles.yaml", "--merge").out


def test_edits_that_contradict_each_other_are_both_named(place: Place, precept: Any) -> None:
    theirs = place.ratify(TEXT.replace("Which is kinder?", "Which is kinder to all?"))
    yours = place.edit(TEXT.replace("Which is kinder?", "Which is the kindest?"))
    both = "both changed: kind comparison", "Which is kinder?", "Which is kinder to all?", "Which is the kindest?"
    refused(
        precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x"),
        "bob has ratified amendment 2 since",
        *both,
    )
    refused(precept("constitution", "amend", "principles.yaml", "--merge"), "nothing was written", *both)
    assert place.file.read_text() == yours and place.store.ratified() == theirs
    done = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "I know", "--made-from", "ratified")
    assert done.code == 0
    assert [a.text for a in place.store.amendments()] == [TEXT, theirs.text, yours]  # theirs is not lost either


def test_whoever_wrote_the_last_amendment_amends_the_same_line_again(place: Place, precept: Any) -> None:
    for weight in ("2", "2.5", "4"):
        place.edit(TEXT.replace("weight: 3", f"weight: {weight}"))
        assert precept("constitution", "amend", "principles.yaml", "--ratify", "-m", f"weight {weight}").code == 0
    assert len(place.store.amendments()) == 4


DRIVE = """
import sys
from cli import main
from flows import announcing  # what takes time, before the start
from service.queries import preview
print("ready", flush=True)
sys.stdin.readline()
sys.exit(main.run(sys.argv[1:]))
"""


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, project: Path) -> str:
    """A store in which ada has ratified TEXT; its URL is in precept.toml."""
    url = "sqlite:///shared.db" if request.param == "sqlite" else request.getfixturevalue("postgres").new_schema()
    settings = project / "precept.toml"
    settings.write_text(f"store = {json.dumps(url)}\n{settings.read_text()}")
    with Store.open(url) as store:
        ratify(store, loading.parse(TEXT), None, "ada", "to begin with")
    return url


def test_of_two_processes_that_ratify_at_one_moment_one_wins(shared: str, project: Path) -> None:
    drafts = {"bob": LIGHTER, "cy": REWORDED}
    people = {who: start(project, who, text) for who, text in drafts.items()}
    for process in people.values():
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in people.values():
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {who: process.communicate(timeout=120) for who, process in people.items()}
    codes = {who: process.returncode for who, process in people.items()}
    assert sorted(codes.values()) == [0, 2], said
    winner, loser = (next(who for who in codes if codes[who] == code) for code in (0, 2))
    assert f"ratified: amendment 2, version {loading.parse(drafts[winner]).version[:12]}" in said[winner][0]
    error = said[loser][1]
    assert f"{loser}.yaml was made from amendment 1, and {winner} has ratified amendment 2 since" in error
    assert "Nothing was ratified" in error and "Traceback" not in error
    with Store.open(shared) as store:
        assert [(a.who, a.text) for a in store.amendments()] == [("ada", TEXT), (winner, drafts[winner])]
    assert {who: (project / f"{who}.yaml").read_text() for who in drafts} == drafts


def start(project: Path, who: str, text: str) -> subprocess.Popen[str]:
    (project / f"{who}.yaml").write_text(text)
    command = [sys.executable, "-c", DRIVE, "constitution", "amend", f"{who}.yaml", "--ratify", "-m", f"{who} says so"]
    root = str(Path(constitution.__file__).parents[1])
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=project, env={**os.environ, "PYTHONPATH": root, "PRECEPT_USER": who}, text=True,
        stdin=pipe, stdout=pipe, stderr=pipe,
    )  # fmt: skip


def test_somebody_who_ratifies_between_preview_and_ratifying(
    place: Place, precept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = preview.preview

    def late(*args: Any, **more: Any) -> Any:
        found = look(*args, **more)
        place.ratify(REWORDED)
        return found

    monkeypatch.setattr(preview, "preview", late)
    text = place.edit(LIGHTER)
    refused(
        precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "x"),
        "was made from amendment 1, and bob has ratified amendment 2 since",
    )
    now = place.store.ratified()
    assert now is not None and (now.number, now.who) == (2, "bob") and place.file.read_text() == text


def test_a_retrain_that_starts_by_itself_is_not_asked_of_the_person(place, precept, monkeypatch) -> None:
    from flows import announcing

    monkeypatch.setattr(announcing, "ratified", lambda amendment, url: True)
    monkeypatch.setattr(announcing, "awaiting", lambda url: ("relabel/scheduled", "retrain/nightly"))
    place.edit(REWORDED)
    done = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "fewer words")
    assert done.code == 0, done.err
    assert "next: precept retrain" not in done.out
    assert "retrain/nightly starts by itself, on the Prefect server" in done.out
    assert "relabel/scheduled starts by itself" in done.out
