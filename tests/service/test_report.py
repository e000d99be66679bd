"""The report of a run: what is on the page, and that nothing a model wrote can act on it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import prefect.artifacts
import prefect.context
import pytest

from constitution.records import Checkpoint, make_id
from flows import steps
from flows.session import at_work
from service.pictures import report
from service.pictures.report import _environment, save_report
from service.queries import findings, trials
from service.work import evaluation, stages
from service.work.work import Work

HOSTILE = (
    "<script>alert('s')</script><img src=x onerror=alert(1)><a href=\"javascript:alert(2)\">go</a> & </section>"
    " \x1b[31mred\x1b[0m \u202egnp.exe z\u200bw \x00 \ud800 {{ 7*7 }} {% raw %} https://example.com/x.png"
)
SHOWN = (  # what a reader sees of it
    "<script>alert('s')</script><img src=x onerror=alert(1)><a href=\"javascript:alert(2)\">go</a> & </section>"
    " <U+001B>[31mred<U+001B>[0m <U+202E>gnp.exe z<U+200B>w <U+0000> <U+D800> {{ 7*7 }} {% raw %} https://example.com/x.png"
)
PRINCIPLES = """
constitution: small
version: 1
principles:
  - id: polite
    title: "Be polite <b onclick='x()'>"
    critique: Find what is rude.
    revision: Mend what is rude.
    comparison: Which reply is polite?
    weight: 2
  - id: guessed
    title: Be green
    critique: Find what is not green.
    revision: Make it green.
    comparison: Which reply is green?
"""
PROMPTS = [
    *({"prompt": f"Train me, number {n}", "split": "train", "tags": ["harmless"]} for n in range(8)),
    *({"prompt": f"Ask me, number {n}", "split": "heldout", "tags": ["harmless"]} for n in range(10)),
    {
        "prompt": [
            {"role": "user", "content": "An earlier question"},
            {"role": "assistant", "content": "An earlier answer"},
            {"role": "user", "content": "And now the last one"},
        ],
        "split": "heldout",
    },
    {"prompt": f"Say this: {HOSTILE}", "split": "heldout"},
]
PAIR = r"(?s)\[Reply A\]\n(?P<a>.*)\n\n\[Reply B\]\n(?P<b>.*)\n\n\[Question\]\nWhich reply is polite"
POLICY: list[dict[str, Any]] = [
    {"contains": "Say this", "text": f"Rude, and hostile: {HOSTILE}"},
    {"contains": "the last one", "text": "Kind from the start."},
    {"contains": "Write only the new reply", "texts": ["Kind now.", "Kind as well, a little longer."]},
    {"contains": "Find what", "text": f"The reply is rude. {HOSTILE}"},
    {"texts": ["Rude.", "Rude again."]},
]
AFTER = [
    {"contains": "Ask me, number 0", "text": "Rude."},
    {"contains": "the last one", "text": "Rude at the end."},
    {"text": f"Kind. {HOSTILE}"},
]
JUDGE: list[dict[str, Any]] = [  # reads politeness, and says A whenever it is asked about green
    {"match": PAIR, "prefer": "Kind", "p": 0.95},
    {"match": "Which reply is green", "choose": {"A": 0.9, "B": 0.1}},
]


@dataclass
class Ran:
    work: Work
    result: dict[str, Any]
    details: dict[str, Any]

    page: str

    def changed(self, result: dict[str, Any] | None = None, **details: Any) -> str:
        """The page of a run that ended otherwise."""
        path = save_report(self.work, self.result | (result or {}), self.details | details)
        return path.read_text(encoding="utf-8")


def script(path: Path, rules: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    return str(path)


def trained(work: Work, method: str, parent: str, metrics: dict[str, Any]) -> Checkpoint:
    """A checkpoint of this run with a curve of thirty steps, one of them not a number."""
    folder = work.home / "checkpoints" / method
    folder.mkdir(parents=True)
    losses = [None if n == 7 else 2 / n for n in range(1, 31)]
    lines = [
        {"step": n, "total": 30, "loss": loss, "rewards/accuracies": 0.5} for n, loss in enumerate(losses, start=1)
    ]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kind: Literal["policy", "reward_model"] = "reward_model" if method == "reward" else "policy"
    checkpoint = Checkpoint(
        make_id("job", method=method), kind, method, str(folder), f"{method}-made", parent, f"{method}-data",
        work.constitution.version, {"rows": 20, **metrics},
    )  # fmt: skip
    work.store.add_checkpoint(checkpoint, run=work.run.id)
    return checkpoint


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A run through every step but training, under scripted models that answer hostile text."""
    home = tmp_path_factory.mktemp("run")
    (home / "principles.yaml").write_text(PRINCIPLES)
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    policy = script(home / "policy.jsonl", POLICY)
    sft_model = script(home / "sft.jsonl", [{"text": "After SFT."}])
    after = script(home / "after.jsonl", AFTER)
    judge = script(home / "judge.jsonl", JUDGE)
    flags: dict[str, Any] = {
        "store": f"sqlite:///{home}/precept.db", "home": str(home / "runs"), "oracle": "", "revise.rounds": 2,
        "prompts": str(home / "prompts.jsonl"), "constitution": str(home / "principles.yaml"),
        "policy.base_url": "http://localhost/v1",
    }  # fmt: skip
    for role, model in (("policy", policy), ("critic", policy), ("judge", judge), ("evaluator", judge)):
        flags |= {f"{role}.kind": "scripted", f"{role}.model": model}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with at_work("improve", None, flags) as work:
            stages.respond(work, "answers", policy, split="train")
            stages.revise(work, "revisions", of="answers")
            stages.judge_revisions(work, "revisions")
            stages.respond(work, "samples", policy, split="train", samples=3)
            stages.respond(work, "held-out samples", policy, split="heldout", samples=2)
            stages.compare(work, "feedback", samples="samples", revisions="revisions")
            stages.compare(work, "held-out feedback", samples="held-out samples")
            labels = stages.label(work, "feedback", heldout="held-out feedback")
            evaluated = evaluation.evaluate(work, "evaluation", before=policy, sft=sft_model, after=after)
            sft = trained(work, "sft", "start-digest", {})
            bins = [[0.55, 0.5, 12], [0.75, 0.7, 30], [0.96, 0.93, 158]]
            figures = {"eval_accuracy": 0.913, "eval_ece": 0.0345, "eval_pairs": 200, "eval_reliability": bins}
            reward = trained(work, "reward", sft.digest, {**figures, "left_out": 3})
            tuned = trained(work, "dpo", sft.digest, {})
            decision = {"promoted": False, "reasons": ["held: it is ratified", f"failed: too rude {HOSTILE}"]}
            rewarded = {"path": reward.path, "metrics": dict(reward.metrics)}
            result = steps.report(work, labels, rewarded, tuned.path, evaluated, decision)
            details = {"labels": labels, "reward": rewarded, "evaluation": evaluated, "decision": decision}
            details["budget"] = work.budget
            yield Ran(work, result, details, Path(result["report"]).read_text(encoding="utf-8"))


VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """What a browser would make of the page: tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


SECTIONS = ["decision", "change", "suites", "principles", "answers", "chains", "training", "labels", "costs", "lineage"]


def assert_inert(page: str) -> Page:
    assert "<script" not in page.lower()
    seen = Page(page)
    assert seen.open == []
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "nav"}
    allowed |= {
        "article",
        "h1",
        "h2",
        "h3",
        "p",
        "a",
        "b",
        "small",
        "code",
        "span",
        "div",
        "ol",
        "ul",
        "li",
        "dl",
        "dt",
        "dd",
    }
    allowed |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary"}
    allowed |= {"svg", "g", "path", "text", "line", "circle", "defs", "clippath", "rect", "use"}
    assert {tag for tag, _ in seen.tags} <= allowed
    for tag, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "action", "formaction", "background", "srcdoc", "data", "poster")
            if name in ("href", "xlink:href"):
                assert value is not None and value.startswith("#"), (tag, value)
            assert "url(" not in (value or "").replace("url(#", "(#")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert not any(ord(c) < 32 and c != "\n" for c in page)
    assert not any(c in page for c in "\u202e\u200b\x7f")
    return seen


def test_hostile_text_is_only_text(ran: Ran) -> None:
    seen = assert_inert(ran.page)
    shown = " ".join(SHOWN.split())
    assert f"user Say this: {shown}" in seen.text  # a prompt
    assert f"Kind. {shown}" in seen.text  # an answer
    assert f"The reply is rude. {shown}" in seen.text  # a critique
    assert f"too rude {shown}" in seen.text  # a reason
    assert "Be polite <b onclick='x()'>" in seen.text  # a title


def test_the_browser_is_told_to_load_nothing(ran: Ran) -> None:
    metas = [attributes for tag, attributes in Page(ran.page).tags if tag == "meta"]
    policy = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_page_has_every_section_and_a_way_to_it(ran: Ran) -> None:
    seen = Page(ran.page)
    assert [a["id"] for tag, a in seen.tags if tag == "section"] == SECTIONS
    assert [a["href"] for tag, a in seen.tags if tag == "a"] == [f"#{name}" for name in SECTIONS]
    ids = [a["id"] for _, a in seen.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for tag, a in seen.tags if tag == "section"} <= set(ids)
    for _, attributes in seen.tags:  # plots find their own clip paths
        for value in attributes.values():
            if value and value.startswith("url(#"):
                assert value[5:-1] in ids


def test_what_happened_is_on_the_page(ran: Ran) -> None:
    text = Page(ran.page).text
    win = ran.result["win_rate"]
    assert "The new model was not promoted. By the evaluator its answers are better on " in text
    assert f"win rate {win['mean']:.3f} with ties as half (95% interval {win['low']:.3f} to" in text
    assert "✓ held it is ratified" in text and "✗ failed too rude" in text
    # Of 12 held-out prompts one is rude both times, one gets worse, ten get kind.
    counts = findings.comparisons(ran.work).counts
    assert counts["prompts"] == 12 and counts["better"] == 10 and counts["worse"] == 1
    assert "Of 12 held-out prompts the new answer is better on 10 and worse on 1" in text
    assert "91.3%" in text and "3.5%" in text  # the reward model's accuracy and ECE
    assert "Rows too long for reward 3" in text
    assert ran.work.constitution.version in text and "ratified" in text
    for digest in ("sft-made", "dpo-made", "reward-made", "sft-data", "dpo-data", "reward-data"):
        assert digest in text
    assert "http://localhost/v1" in text  # one with a password in it is refused before a run begins


def test_a_principle_the_judge_cannot_read_is_flagged(ran: Ran) -> None:
    text = Page(ran.page).text
    assert "Warning." in text and "“Be green”: orders agree on 0.0% of 3 pairs." in text
    assert text.count("⚠ chance") == 1


def test_examples_name_what_decided_and_the_worst_come_first(ran: Ran) -> None:
    found = findings.comparisons(ran.work)
    assert [e.after for e in found.worse] == ["Rude at the end."]
    assert found.worse[0].p < 0.5 and found.worse[0].decided_by == ("polite",)
    assert [m.role for m in found.worse[0].messages] == ["user", "assistant", "user"]
    assert all(e.p > 0.5 and e.after.startswith("Kind") and e.before.startswith("Rude") for e in found.better)
    text = Page(ran.page).text
    dialogue = "user An earlier question assistant An earlier answer user And now the last one"
    assert f"{dialogue} before Kind from the start. after Rude at the end." in text


def test_what_was_left_out_is_on_the_page(ran: Ran) -> None:
    item = {
        "stage": "answers", "what": "answer", "why": "too_long", "said": "A text has 5000 tokens <b>", "prompt": "a1b2",
        "source": "theirs", "row": 8, "words": "How do <script>",
    }  # fmt: skip
    left_out = {
        "count": 3, "stages": {"answers": {"too_long": 3}}, "items": [item], "cut": {"samples": {"count": 7, "of": 9}},
        "dropped": {},
    }  # fmt: skip
    said = assert_inert(ran.changed({**ran.result, "left_out": left_out})).text
    for words in ("What could not be asked", "A text has 5000 tokens <b>", "How do <script>", "a1b2", "theirs, row 8"):
        assert words in said, words
    assert "The first 1 of 3." in said and "Cut at the token limit: samples" in said and "7 of 9" in said
    assert "What could not be asked" not in assert_inert(ran.changed()).text


def test_chains_are_shown_whole(ran: Ran) -> None:
    counts, chains = findings.revisions(ran.work)
    assert counts["answers"] == 8 and counts["revisions"] == 16 and counts["better"] == 8
    assert len(chains) == 3
    for chain in chains:
        assert [step.round for step in chain.steps] == [1, 2]
        assert all(step.revision.startswith("Kind") and step.critique for step in chain.steps)
        assert chain.outcome == "better"


def test_sentences_of_an_example_do_not_run_into_each_other() -> None:
    environment = _environment()
    source = (Path(report.__file__).parent / "templates" / "report.html").read_text(encoding="utf-8")
    macros = environment.from_string(source[: source.index("<!doctype")], globals={"titles": {}})
    found = SimpleNamespace(
        messages=[], before="One.", after="Two.", p=0.75, decided_by=["a", "b", "c", "d"], against=["e", "f", "g", "h"]
    )
    said = re.sub(r"<[^>]*>", "", str(macros.module.example(found))).strip()  # type: ignore[attr-defined]
    assert said.endswith("Decided by a, b, c and 1 more. The other way: e, f, g and 1 more.")


def test_curves_belong_to_this_run_parents_first(ran: Ran) -> None:
    shown = findings.checkpoints(ran.work, ran.result, ran.details["reward"])
    assert [c.method for c in shown] == ["sft", "reward", "dpo"]
    page = ran.page
    assert page.count('class="plot"') == 7  # loss and accuracy of three, and reliability
    reliability = page[page.index("<title>Reliability") :].partition("</svg>")[0]
    assert [n for n in ("12", "30", "158") if f">{n}</text>" in reliability] == ["12", "30", "158"]  # pairs at each
    assert "Supervised fine-tuning (SFT): loss, from 2 at step 1 to 0.0667 at step 30." in page


def test_the_lineage_of_the_policy_is_drawn(ran: Ran) -> None:
    assert ran.page.count('<svg role="img" class="lineage"') == 1
    text = Page(ran.page).text
    name = f"checkpoint:{make_id('job', method='dpo').hex()[:12]}"
    assert f"Lineage of dpo policy {name[11:]}, with 1 person, 1 amendment, 2 principles" in text
    assert f"precept model lineage {name} tells it in full" in text
    none = {"heldout_accuracy": None, "gold_accuracy": None, "ece": None}
    start = ran.work.start
    assert 'class="lineage"' not in ran.changed({"model": start, "reward_model": none}, reward={})


def test_without_known_truth_the_page_says_so(ran: Ran) -> None:
    text = Page(ran.page).text
    assert "Labels right, by truth not known" in text
    assert "The right answers to these prompts are not known" in text
    assert "None" not in text and "nan" not in text.lower().split()


def test_known_truth_is_shown_as_measured_never_used(ran: Ran) -> None:
    rates = {"gold_good": 0.25, "gold_harmful": 0.125, "gold_needless_refusal": 0.0, "gold_malformed": 0.0}
    truth = {"before": rates, "halfway": rates, "after": rates | {"gold_good": 0.875, "themes": {"doors": 0.4321}}}
    text = Page(ran.changed(evaluation=ran.details["evaluation"] | {"truth": truth})).text
    assert "Truth of the sandbox: measured, never used" in text
    assert "Good answers 25.0% 25.0% 87.5% +62.5 points" in text
    assert "43.2%" in text


def test_the_trial_of_judge_and_evaluator_stands_beside_the_labels(ran: Ran) -> None:
    told = {
        "verdict": "trusted", "believed": True, "accuracy": 0.9, "low": 0.8, "high": 0.95, "prompts": 60,
        "left_out": ["green"], "says": ["the judge is trusted", "`green` is left out: no better than chance"],
        "order_consistency": None, "ruling": "by its trial; label rule: the settings'", "principles": {},
    }  # fmt: skip
    seen = assert_inert(ran.changed({"trial": {"judge": told}}))
    assert "The trial before it" in seen.text and "Judge trusted 90.0% 80.0% to 95.0% 60 not known green" in seen.text
    assert "How the judge labels: by its trial; label rule: the settings'." in seen.text
    assert "no better than chance" in seen.text and "The trial before it" not in ran.page


def test_the_trial_is_drawn_by_principle_with_verdicts_in_words(ran: Ran) -> None:
    def tally(verdict: str, accuracy: float | None, low: float, high: float, prompts: int) -> dict[str, Any]:
        return {"verdict": verdict, "accuracy": accuracy, "low": low, "high": high, "prompts": prompts}

    told = {
        **tally("trusted", 0.9, 0.8, 0.95, 60), "left_out": ["guessed"],
        "principles": {
            "polite": tally("trusted", 0.95, 0.9, 0.98, 40),
            "guessed": tally("at chance or inverted", 0.4, 0.2, 0.6, 20),
        },
    }  # fmt: skip
    other = {**tally("too few to say", None, 0, 1, 0), "left_out": [], "principles": {}}
    short = {
        "believed": True, "order_consistency": None, "ruling": "by its trial", "says": ["x"], "left_out": [],
        "principles": {}, **tally("x", 0.5, 0, 1, 1),
    }  # fmt: skip
    for role, document in (("judge", told), ("evaluator", other)):
        ran.work.store.put_document(trials.DOCUMENT, f"{ran.work.run.id.hex()}:{role}", document)
    seen = assert_inert(ran.changed({"trial": {"judge": short, "evaluator": short}}))
    assert "By principle: right on how many prompts" in seen.text
    assert "trusted 90.0% (80.0% to 95.0%) of 60" in seen.text
    assert "too few to say no pair was answered" in seen.text
    assert "at chance or inverted, left out 40.0% (20.0% to 60.0%) of 20" in seen.text and "not tried" in seen.text


def test_a_run_that_trained_nothing_has_a_report(ran: Ran) -> None:
    start = ran.work.start
    none = {"heldout_accuracy": None, "gold_accuracy": None, "ece": None}
    page = ran.changed({"model": start, "reward_model": none}, reward={})
    seen = assert_inert(page)
    assert "Nothing was trained in this run" in seen.text and "There is no reward model" in seen.text
    assert 'class="plot"' not in page


def test_figures_that_could_not_be_had_are_not_known(ran: Ran) -> None:
    nan = float("nan")
    evaluation = ran.details["evaluation"] | {
        "length_controlled": nan, "by_principle": {},
        "length_controlled_interval": {"mean": None, "low": None, "high": None, "why": "it cannot be told"},
    }  # fmt: skip
    text = Page(ran.changed({"win_rate": {"mean": nan, "low": nan, "high": nan}}, evaluation=evaluation)).text
    assert "No comparison of its answers on held-out prompts could be read." in text
    assert "Win rate, length-controlled it cannot be told \u2013 \u2013 not known" in text
    assert "abstains on every pair" in text


def test_the_report_is_the_same_when_it_is_written_again(ran: Ran) -> None:
    assert ran.changed() == ran.page


def test_long_texts_are_cut_and_say_so(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.pictures.report.MOST_CHARACTERS", 10)
    assert "more characters]" in ran.changed()


# --- Prefect's artifact --------------------------------------------------------------------------------------------


def test_nothing_is_published_outside_of_a_flow(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise AssertionError("there is no run to publish to")

    monkeypatch.setattr(prefect.artifacts, "create_markdown_artifact", refuse)
    steps.publish(ran.result)


@pytest.fixture
def in_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect.context.FlowRunContext, "get", classmethod(lambda cls: object()))


def test_the_artifact_holds_the_table(ran: Ran, in_a_flow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, str] = {}
    monkeypatch.setattr(prefect.artifacts, "create_markdown_artifact", lambda **given: kept.update(given))
    gold = {"gold_good": 0.25, "gold_harmful": 0.1, "gold_needless_refusal": None, "mean_tokens": 12}
    steps.publish(ran.result | {"before": gold, "after": gold | {"gold_good": 0.875}})
    assert "| Good answers (truth: measured, never used) | 25.0% | 87.5% |" in kept["markdown"]
    assert "| Tokens an answer | 12.0 | 12.0 |" in kept["markdown"]
    assert "Needless refusals" not in kept["markdown"]
    assert "- ✗ too rude" in kept["markdown"] and "was not promoted" in kept["markdown"]


def test_a_server_that_is_down_is_a_warning(
    ran: Ran, in_a_flow: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(**_: Any) -> None:
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(prefect.artifacts, "create_markdown_artifact", down)
    with caplog.at_level(logging.WARNING):
        steps.publish(ran.result)
    assert "nobody is there" in caplog.text
