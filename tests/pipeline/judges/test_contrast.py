"""The contrast judge against margins that are worked out by hand, and by transformers itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import PROBABILITY, Message
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities, EngineSettings, Refused
from pipeline.judges.contrast import BREAKS
from pipeline.judges.judge import Used
from tests.pipeline.judges.likelihoods import ASKED, KIND, SHORT, TOO_LONG, Likelihoods, case, text_of

# log p by side and answer: "Yes." gains 2 nats from the principle kept, "No no no." loses 1
NATS = {("better", "Yes."): -3.0, ("worse", "Yes."): -5.0, ("better", "No no no."): -4.0, ("worse", "No no no."): -3.0}


def nats(chat: str, text: str) -> float | Refused:
    side = "better" if "is the better of two replies" in chat else "worse"
    return NATS[side, text]


def p_of_yes(engine: Likelihoods, **options: Any) -> float:
    asked = case("Yes.", "No no no.", KIND)
    [verdict] = judges.build("contrast", Role(engine), options).judge([asked]).verdicts
    assert verdict.p1 == verdict.p2 and verdict.mass1 == verdict.mass2 == PROBABILITY
    p = verdict.p1 / PROBABILITY
    return p if asked.first == "Yes." else 1 - p


def test_the_margin_is_the_difference_of_differences() -> None:
    assert p_of_yes(Likelihoods(nats)) == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-9)
    assert p_of_yes(Likelihoods(nats), scale=3.0) == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-9)
    # 2 nats over one word, -1 over three: (2 - (-1/3))
    assert p_of_yes(Likelihoods(nats), length="mean") == pytest.approx(1 / (1 + math.exp(-7 / 3)), abs=1e-9)


def test_where_the_words_stand() -> None:
    seen = []
    for messages in (ASKED, (Message("system", "Be brief."), *ASKED)):
        for place in ("system", "user"):
            engine = Likelihoods(lambda chat, text: -1.0)
            judges.build("contrast", Role(engine), {"place": place}).judge([case("a", "b", KIND, messages=messages)])
            seen.append([(m.role, m.content) for m in engine.scored[1].chat.messages])
    breaks = BREAKS.replace("{comparison}", KIND.comparison)
    assert seen == [
        [("system", breaks), ("user", "How do I bake?")],
        [("user", f"How do I bake?\n\n({breaks})")],
        [("system", f"{breaks}\n\nBe brief."), ("user", "How do I bake?")],
        [("system", "Be brief."), ("user", f"How do I bake?\n\n({breaks})")],
    ]


def test_each_answer_is_scored_once_for_each_side_whatever_pairs_it_is_in() -> None:
    engine = Likelihoods()
    judge = judges.build("contrast", Role(engine))
    cases = [case("a", "b", KIND, SHORT), case("b", "cc", KIND), case("a", "cc", KIND)]
    said = judge.judge(cases)
    asked = [(r.chat.messages, r.completion) for r in engine.scored]
    assert len(asked) == len(set(asked)) == 2 * (3 + 2)  # three answers under KIND, two under SHORT
    assert said.used == Used(requests=10, prompt_tokens=sum(len(text_of(r.chat)) for r in engine.scored))
    again = judge.judge(cases)
    assert (again.verdicts, again.used) == (said.verdicts, Used()) and len(engine.scored) == 10


def test_one_that_is_refused_takes_no_other_with_it_and_is_asked_again() -> None:
    engine = Likelihoods(lambda chat, text: TOO_LONG if text == "long" else -1.0)
    judge = judges.build("contrast", Role(engine))
    said = judge.judge([case("a", "long", KIND), case("a", "b", KIND)])
    assert [v.comparison for v in said.verdicts] == [case("a", "b", KIND).comparison.id]
    assert [(o.comparison, o.refused) for o in said.omitted] == [(case("a", "long", KIND).comparison.id, TOO_LONG)]
    judge.judge([case("a", "long", KIND)])
    assert sum(r.completion == "long" for r in engine.scored) == 4


def test_the_question_follows_what_is_read_and_no_default() -> None:
    role = Role(Likelihoods())
    plain = judges.build("contrast", role).question(KIND)
    assert plain.readout == {"method": "contrast"} and KIND.comparison in plain.template
    ways: list[dict[str, Any]] = [
        {}, {"length": "mean"}, {"scale": 2.0}, {"place": "user"}, {"keeps": "Good: {revision}"}, {"breaks": "Bad."}
    ]  # fmt: skip
    assert len({judges.build("contrast", role, options).question(KIND).id for options in ways}) == len(ways)
    assert judges.build("contrast", role, {"scale": 1.0}).question(KIND).id == plain.id


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"lenght": "mean"},
            "the contrast judge: lenght: there is no such option; did you mean length[?]; its options are keeps",
        ),
        ({"length": "median"}, "length: it has to be 'sum' or 'mean'"),
        ({"scale": 0}, "scale: it has to be greater than 0"),
        ({"keeps": "x", "breaks": "x"}, "the same words"),
    ],
)
def test_a_mistake_in_its_options_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        judges.build("contrast", Role(Likelihoods()), options)


def test_an_engine_that_cannot_score_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Likelihoods()
    monkeypatch.setattr(engine, "capabilities", Capabilities(score=False), raising=False)
    with pytest.raises(UserError, match="cannot score a text"):
        judges.build("contrast", Role(engine))


def test_on_a_real_model_it_is_what_transformers_computes(smollm2: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipeline.engines import build

    torch.set_num_threads(1)
    asked = case("Mix it and wait.", "No.", KIND)
    engine = build(EngineSettings("transformers", str(smollm2)))
    judge = judges.build("contrast", Role(engine), {"scale": 10.0})
    [verdict] = judge.judge([asked]).verdicts
    engine.close()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(smollm2), AutoTokenizer.from_pretrained(smollm2)
    sides = [
        f"The assistant's next reply is the {word} of two replies by this question: {KIND.comparison}"
        for word in ("better", "worse")
    ]

    @torch.no_grad()
    def logp(side: str, answer: str) -> float:
        chat = [{"role": "system", "content": side}, {"role": "user", "content": ASKED[0].content}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        before, whole = (tokenizer(t, return_tensors="pt")["input_ids"] for t in (text, text + answer))
        rows = model(whole).logits[0, before.shape[1] - 1 : -1].log_softmax(-1)
        return float(rows.gather(-1, whole[0, before.shape[1] :, None]).sum())

    kept, broken = ([logp(side, text) for text in (asked.first, asked.second)] for side in sides)
    margin = (kept[0] - broken[0]) - (kept[1] - broken[1])
    assert verdict.p1 / PROBABILITY == pytest.approx(1 / (1 + math.exp(-margin / 10)), abs=1e-5)
