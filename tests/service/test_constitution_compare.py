"""Two constitutions over verdicts that were made up: eight pairs, whose labels under each are worked out by hand."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cli import main
from constitution import loading
from constitution.difference import diff
from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Comparison, Id, Message, Prompt, Verdict, Voice, text_digest
from pipeline.engines.scripted import ScriptedEngine
from pipeline.metrics import disagreement, intervals
from service import settings as settings_module
from service.pictures.constitution_compare import save
from service.queries import constitution_compare, model_compare
from service.queries.constitution_compare import Compared, Example
from service.wiring import Wiring
from storage.store import Store

ROOT = Path(__file__).parents[2]


def constitution(**weights: float) -> str:
    lines = [
        f"  - {{id: {id}, title: T, critique: C {id}?, revision: R {id}., comparison: Which is {id}?, weight: {x}}}"
        for id, x in weights.items()
    ]
    return "\n".join(["constitution: test", "version: 1", "principles:", *lines, ""])


FILES = {
    "a.yaml": constitution(kind=3, short=1, old=1),
    "b.yaml": constitution(kind=1, short=3),
    "more.yaml": constitution(kind=3, short=1, old=1, blue=1),
}
YES, NO, SILENT, LOST = (1.0, 1.0), (0.0, 0.0), (0.5, 0.5), None
# What the judge says of `kind`, `short` and `old`, as the probability of the first answer in each order, and the label:
SAID = [
    (YES, YES, YES),  # a: first               b: first
    (YES, NO, SILENT),  # a: first, p 3/4      b: second, p 1/4
    (NO, YES, SILENT),  # a: second, p 1/4     b: first, p 3/4
    (SILENT, SILENT, YES),  # a: first, p 1    b: tied, p 1/2
    (YES, SILENT, NO),  # a: first, p 3/4      b: first, p 1
    (SILENT, YES, NO),  # a: tied, p 1/2       b: first, p 1
    (LOST, YES, YES),  # a: 2/5 can be read    b: first, p 1
    (YES, NO, YES),  # a: first, p 4/5         b: second, p 1/4
]
PROMPT = (0, 1, 2, 3, 4, 5, 6, 1)  # the last pair is about the prompt of the second


@dataclass(frozen=True)
class Made:
    wiring: Wiring
    comparisons: list[Id]

    def compare(self, a: str = "a.yaml", b: str = "b.yaml") -> Compared:
        return constitution_compare.compare(self.wiring, a, b)


@pytest.fixture
def made(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "script.yaml").write_text("rules: [{text: An answer.}]\n")
    settings, _ = settings_module.load(
        None, {"store": store_url, "policy.kind": "scripted", "policy.model": "script.yaml"}
    )

    def asked(*_: object) -> None:
        raise AssertionError("a model was asked")

    for name in ("choose", "generate", "score"):
        monkeypatch.setattr(ScriptedEngine, name, asked)
    wiring = Wiring(settings)
    store, judge = wiring.store, wiring.asked_judge(settings.judge)
    questions = [judge.question(p) for p in loading.load("a.yaml")]
    store.add_questions(questions)
    prompts = [Prompt((Message("user", f"Question {n}?"),), "train") for n in range(7)]
    store.add_prompts(prompts)
    comparisons = []
    for number, row in enumerate(SAID):
        texts = {text_digest(text): text for text in (f"one {number}", f"two {number}")}
        store.add_answers(texts.values())
        comparison = Comparison.of(prompts[PROMPT[number]].id, *texts)
        store.add_comparisons([comparison])
        verdicts = []
        for question, said in zip(questions, row, strict=True):
            p1, p2 = (round(p * 10**9) for p in said or (0.5, 0.5))
            mass = 0 if said is None else 10**9
            verdicts.append(Verdict(question.id, comparison.id, p1, p2, mass, mass))
        store.add_verdicts(verdicts)
        comparisons.append(comparison.id)
    yield Made(wiring, comparisons)
    wiring.close()


def test_the_cross_table(made: Made) -> None:
    found = made.compare()
    assert {pair: count for pair, count in found.table.items() if count} == {
        ("first", "first"): 2,
        ("first", "second"): 2,
        ("second", "first"): 1,
        ("first", "tied"): 1,
        ("tied", "first"): 1,
        ("unreadable", "first"): 1,
    }
    assert (found.sure, found.open, found.disagreements, found.differing) == (8, 0, 6, 5)
    assert found.decided == 5 and found.agreement.mean == pytest.approx(2 / 5)
    assert 0 <= found.agreement.low < 0.4 < found.agreement.high <= 1
    assert (found.price.verdicts, found.a.missing, found.b.missing) == (0, {}, {})


def test_the_principles_carry_the_disagreements(made: Made) -> None:
    """On the pairs 1, 2, 3, 5 and 7; |p under b - p under a| is 0.5, 0.5, 0.5, 0.5 and 0.55 there.

    `kind` moves p by 1/4, 1/4, 0, 0, 1/5; `short` by 1/4, 1/4, 0, 1/6, 1/4; `old` by 0, 0, 1/2, 1/3, 1/10. Alone,
    `kind` with weight 1 only makes ties of 1 and 2; `short` with 3 turns 5; without `old` 3 is tied and 5 the first.
    """
    found = {c.clause.principle: c for c in made.compare().principles}
    assert {name: c.clause.standing for name, c in found.items()} == {
        "old": "only in A", "short": "reweighted", "kind": "reweighted",
    }  # fmt: skip
    assert {name: c.moved for name, c in found.items()} == pytest.approx(
        {"kind": 0.7 / 5, "short": (0.75 + 1 / 6) / 5, "old": (0.5 + 1 / 3 + 0.1) / 5}
    )
    assert sum(c.moved for c in found.values()) == pytest.approx(2.55 / 5)
    assert {name: (c.for_a, c.for_b, c.alone) for name, c in found.items()} == {
        "kind": (3, 0, 0), "short": (0, 4, 1), "old": (3, 0, 2),
    }  # fmt: skip
    assert list(found) == ["old", "short", "kind"]  # by what they carry


def test_turned_round_it_is_the_mirror(made: Made) -> None:
    found, back = made.compare(), made.compare("b.yaml", "a.yaml")
    assert back.table == {(b, a): count for (a, b), count in found.table.items()}
    ours, theirs = ({c.clause.principle: c for c in x.principles} for x in (found, back))
    for name, c in ours.items():
        assert theirs[name].moved == pytest.approx(c.moved)
        assert (theirs[name].for_a, theirs[name].for_b) == (c.for_b, c.for_a)
    assert theirs["old"].clause.standing == "only in B"


def test_the_clearest_examples_come_first_and_one_a_prompt(made: Made) -> None:
    shown = made.compare().examples
    number = [made.comparisons.index(example.comparison) for example in shown]
    assert number[:2] == [7, 2] and sorted(number[2:]) == [3, 5]  # 1 is about the prompt of 7
    clearest: Example = shown[0]
    assert (clearest.prompt, clearest.a, clearest.b) == ("Question 1?", "first", "second")
    assert (clearest.p_a, clearest.p_b) == (pytest.approx(0.8), pytest.approx(0.25))
    assert (clearest.for_a, clearest.for_b) == (("kind", "old"), ("short",))
    assert {clearest.first, clearest.second} == {"one 7", "two 7"}


def test_labels_that_an_unasked_principle_could_turn_are_open(made: Made) -> None:
    """`blue` has a sixth of the weight: the only `old` of pair 3, the tie of 5 and the unreadable 6 depend on it."""
    found = made.compare("a.yaml", "more.yaml")
    assert (found.open, found.a.open, found.b.open) == (3, 0, 3)
    assert (found.a.missing, found.b.missing) == ({}, {"blue": 8})
    assert found.price.verdicts == 8 and found.price.tokens > 0 and found.price.seconds is None  # no run to measure by
    assert (found.sure, found.disagreements) == (5, 0)
    assert found.agreement.low < 5 / 8 < found.agreement.high  # whichever way the open ones go
    whole = found.as_dict()
    assert whole["agreement"]["mean"] is None and whole["labels"]["open"] == 3
    assert "not known" in found.agreement_in_words()


def test_the_same_labels_agree_without_certainty(made: Made) -> None:
    found = made.compare("a.yaml", "a.yaml")
    assert (found.disagreements, found.agreement.mean, found.agreement.high) == (0, 1.0, 1.0)
    assert 0.4 < found.agreement.low < 0.75  # five prompts say little
    assert not found.examples and not any(c.moved or c.for_a for c in found.principles)


def test_a_revision_is_a_constitution_too(made: Made) -> None:
    a = loading.load("a.yaml")
    made.wiring.store.ratify(a.version, "ada", "first", "key", text=FILES["a.yaml"])
    assert made.compare("ratified", "b.yaml").table == made.compare().table
    with pytest.raises(UserError, match="nowhere is no file"):
        made.compare("nowhere", "b.yaml")


def test_without_verdicts_there_is_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "script.yaml").write_text("rules: [{text: An answer.}]\n")
    flags = {"store": "sqlite:///empty.db", "policy.kind": "scripted", "policy.model": "script.yaml"}
    wiring = Wiring(settings_module.load(None, flags)[0])
    with pytest.raises(UserError, match="no verdicts"):
        constitution_compare.compare(wiring, "a.yaml", "b.yaml")
    wiring.close()


# --- principles side by side ---------------------------------------------------------------------------------------


def test_clauses_know_new_ids_new_words_and_new_weights() -> None:
    a, b = loading.parse(constitution(kind=3, short=1, old=1, gone=2)), loading.parse(
        constitution(kind=3, short=2, old=1, new=1).replace("Which is old?", "Which is older?")
    )  # fmt: skip
    renamed = loading.parse(constitution(friendly=5).replace(" friendly?", " kind?").replace("R friendly", "R kind"))
    asked = {p.id: text_digest(p.comparison) for p in (*a, *b)}
    of_a = {p.id: text_digest(p.comparison) for p in a}
    found = disagreement.clauses(diff(a, b), of_a, {p.id: text_digest(p.comparison) for p in b})
    assert [(c.ids, c.standing) for c in found] == [
        (("kind", "kind"), "same"),
        (("short", "short"), "reweighted"),
        (("old", "old"), "reworded"),
        ((None, "new"), "only in B"),
        (("gone", None), "only in A"),
    ]
    assert found[0].weights == (3_000, 3_000) and found[1].weights == (1_000, 2_000)
    assert found[2].questions == (text_digest("Which is old?"), text_digest("Which is older?"))
    assert (found[4].questions, found[4].weights) == ((asked["gone"], None), (2_000, None))
    (first, *rest) = disagreement.clauses(diff(a, renamed), of_a, {"friendly": of_a["kind"]})
    assert (first.ids, first.principle, first.standing) == (("kind", "friendly"), "friendly", "reweighted")
    assert first.weights == (3_000, 5_000) and len(rest) == 3
    higher = replace(found[0], voices=(Voice(3_000), Voice(3_000, tier=2)))
    assert (higher.standing, higher.counted) == ("reweighted", ("3", "3, tier 2"))
    assert replace(found[3], voices=(None, Voice(500, hard=True))).counted == ("", "0.5, hard")


def test_labels_on_one_prompt_count_together() -> None:
    """Four labels to each of 40 prompts, half of the prompts wholly the same: as uncertain as 40 labels, not as 160."""
    same = {bytes([n, m]): n % 2 == 0 for n in range(40) for m in range(4)}
    together = intervals.share_by_prompt(same, {id: id[:1] for id in same})
    apart = intervals.share_by_prompt(same, {id: id for id in same})
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.15)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * (0.25 / 160) ** 0.5, rel=0.15)


# --- trained models ------------------------------------------------------------------------------------------------


def test_a_retrain_that_was_only_tried_is_not_started_from(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'precept.db'}") as store:
        with pytest.raises(UserError, match="no finished run"):
            model_compare.base_of(store)
        first = _run(store, "improve", {})
        tried = _run(store, "retrain", {"retrain": {"promote": False, "base": first}})
        assert model_compare.base_of(store).id.hex() == first
        assert model_compare.base_of(store, tried).id.hex() == tried  # where it is named, it is
        kept = _run(store, "retrain", {"retrain": {"promote": True, "base": first}})
        assert model_compare.base_of(store).id.hex() == kept


def _run(store: Store, kind: str, settings: dict[str, object], result: dict[str, object] | None = None) -> str:
    number = len(store.runs())
    run = store.start_run(f"key {number}", kind, {"settings": settings}, f"version {number}")
    store.finish_run(run.id, "finished", result={"model": f"model {number}", **(result or {})})
    return run.id.hex()


def test_one_version_is_not_trained_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FILES["a.yaml"])
    (tmp_path / "titled.yaml").write_text(FILES["a.yaml"].replace("title: T", "title: Other"))
    with Store.open(f"sqlite:///{tmp_path / 'precept.db'}") as store:
        with pytest.raises(UserError, match="one version"):
            model_compare.keep(store, str(tmp_path / "a.yaml"), str(tmp_path / "titled.yaml"))
        assert store.constitutions() == {}


def result_of(version: str, effects: dict[str, float], good: float) -> dict[str, object]:
    interval = {"mean": 0.6, "low": 0.5, "high": 0.7}
    return {
        "run": "", "constitution": version, "model": f"{version} model", "win_rate": interval, "labels": {"count": 8},
        "before": {"gold_good": 0.5, "mean_tokens": 9.0}, "after": {"gold_good": good, "mean_tokens": 10.0},
        "calls": {"generated": 3, "chosen": 4, "reused": 5}, "seconds": {"total": 6.0},
        "amendment": {"effects": [
            {"principle": p, "change": "none", "mean": m, "low": m - 0.1, "high": m + 0.1, "found": "unclear"}
            for p, m in effects.items()
        ]},
    }  # fmt: skip


def test_models_side_by_side(made: Made, tmp_path: Path) -> None:
    store, compared = made.wiring.store, made.compare()
    first = _run(store, "improve", {})
    runs = [
        _run(store, "retrain", {}, result_of("va", {"kind": 0.2, "old": 0.1}, 0.7)),
        _run(store, "retrain", {}, result_of("vb", {"kind": -0.2, "new": 0.3}, 0.6)),
    ]
    found = model_compare.trained(store, store.run(first), runs)
    assert found["base"]["figures"]["gold_good"] == 0.5
    assert [found[side]["figures"]["gold_good"] for side in ("a", "b")] == [0.7, 0.6]
    assert found["b"]["calls"] == {"generated": 3, "chosen": 4, "reused": 5}
    means = {name: (e["a"]["mean"], e["b"]["mean"]) for name, e in found["effects"].items()}
    assert means == {"kind": (0.2, -0.2), "old": (0.1, None), "new": (None, 0.3)}

    picture = tmp_path / "effects.svg"
    save(compared, picture, found)
    shown = "".join(ElementTree.parse(picture).getroot().itertext())
    for words in ("kind", "old", "new", "A: a.yaml, win rate 60.0%", "the loss allowed", "models trained on each"):
        assert words in shown


def test_the_picture_says_what_the_tables_do(made: Made, tmp_path: Path) -> None:
    (tmp_path / "$x$ <b>\u202e.yaml").write_text(FILES["b.yaml"])
    found, picture = made.compare("a.yaml", "$x$ <b>\u202e.yaml"), tmp_path / "labels.svg"
    save(found, picture)
    shown = "".join(ElementTree.parse(picture).getroot().itertext())
    for words in ("6 of 8 labels differ", "40.0% name the same", "old  (1, only in A)", "kind  (3 → 1)", "$x$ <b>"):
        assert words in shown, words
    assert "\u202e" not in picture.read_text()
    save(found, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_models_trained_on_each(loop: Any, plain_flows: None, tmp_path: Path, capsys: Any) -> None:
    """A is what the run was trained on, so its model is the run's, and asks nothing; B is without three principles."""
    home = tmp_path / "home"
    shutil.copytree(loop.home, home, symlinks=True)
    settings = (home / "precept.toml").read_text().replace(str(loop.home), str(home))
    (home / "precept.toml").write_text(settings)
    kept = loading.load(ROOT / "principles.yaml")
    b = tmp_path / "b.yaml"
    b.write_text(constitution_of(kept, without=("respectful", "independent", "direct")))
    words = ["constitution", "compare", str(ROOT / "principles.yaml"), str(b), "--train", "--quiet"]
    words += ["--settings", str(home / "precept.toml")]
    assert main.run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    trained = found["trained"]
    assert trained["base"]["run"] == found["run"] == loop.result["run"]
    assert trained["a"]["is_base"] and trained["a"]["win_rate"]["mean"] == 0.5
    assert trained["a"]["calls"]["generated"] + trained["a"]["calls"]["chosen"] == 0
    assert not trained["b"]["is_base"] and trained["b"]["version"] == found["b"]["version"]
    assert trained["effects"]["respectful"]["b"]["mean"] is not None  # it is gone, and looked at all the same
    assert set(trained["effects"]) == {p.id for p in kept}
    with Store.open(f"sqlite:///{home}/precept.db", home=home) as store:
        promoted, runs, ratified = store.promoted(), store.runs(), store.amendments()
    assert promoted is None or Path(promoted.path).name == Path(loop.result["model"]).name
    assert [r.kind for r in runs] == ["retrain", "retrain", "improve"] and len(ratified) == 1

    assert main.run(words) == 0  # the same again is the same runs
    shown = capsys.readouterr().out
    assert "A's is that model itself" in shown and trained["b"]["run"][:12] in shown
    with Store.open(f"sqlite:///{home}/precept.db", home=home) as store:
        assert len(store.runs()) == 3


def constitution_of(whole: Constitution, without: tuple[str, ...]) -> str:
    rows = [
        {
            "id": p.id,
            "title": p.title,
            "critique": p.critique,
            "revision": p.revision,
            "comparison": p.comparison,
            "weight": p.weight / 1000,
        }
        for p in whole
        if p.id not in without
    ]
    return json.dumps({"constitution": "fewer", "version": 1, "principles": rows})
