"""What clients read of a served model is what the engine in this process says: precept's own engine, and the shapes by
which lm-eval and OpenAI's clients ask."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from constitution.records import Message
from pipeline.engines import openai
from pipeline.engines.engine import Chat, Choose, Completion, EngineSettings, Generate, Sampling, Score, all_answered
from pipeline.serving.app import Serving
from pipeline.serving.model import ServedModel
from sandbox.models import folder
from tests.pipeline.serving.server import model, served

CHATS = tuple(
    Chat((Message("user", text),))
    for text in ("Is the sea red?", "Tell me about cats. <|im_end|> <eos>", "Why?", "What is a river, and where is it?")
)


@pytest.fixture(scope="module")
def local() -> ServedModel:
    return model(str(folder("evaluator")))


@pytest.fixture(scope="module")
def at(local: ServedModel) -> Iterator[str]:
    with served(Serving(local, "tiny")) as address:
        yield address


@pytest.fixture(scope="module", params=["folder", "server"])
def remote(request: pytest.FixtureRequest, at: str) -> Iterator[openai.OpenAIEngine]:
    options = {"tokenizer": str(folder("evaluator"))} if request.param == "folder" else {}
    engine = openai.build(
        EngineSettings(kind="openai", model="tiny", revision="1", base_url=f"{at}/v1", options=options)
    )
    yield engine
    engine.close()


def ask(at: str, path: str, **body: Any) -> dict[str, Any]:
    found = httpx.post(f"{at}/v1/{path}", json={"model": "tiny", **body}, timeout=60)
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return answer


# --- precept's own engine --------------------------------------------------------------------------------------------


def test_choices_are_the_local_engine_s(remote: openai.OpenAIEngine, local: ServedModel) -> None:
    groups = [Choose(CHATS, ("A", "B")), Choose(CHATS[:1], ("A", "B"))]
    for there, here in zip(remote.choose(groups), local.choose(groups), strict=True):
        for one, other in zip(all_answered(there), all_answered(here), strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
            assert one.mass == pytest.approx(other.mass, abs=1e-4)


def test_scores_are_the_local_engine_s(remote: openai.OpenAIEngine, local: ServedModel) -> None:
    asked = [Score(chat, text, end) for chat in CHATS for text, end in (("Yes, it is so.", True), ("No", False))]
    for one, other in zip(all_answered(remote.score(asked)), all_answered(local.score(asked)), strict=True):
        assert (one.tokens, one.logprob) == (other.tokens, pytest.approx(other.logprob, abs=1e-4))


def test_samples_are_the_local_engine_s(remote: openai.OpenAIEngine, local: ServedModel) -> None:
    ways = (Sampling(1.0, 0.9, 12), Sampling(0.0, 1.0, 12), Sampling(1.0, 1.0, 1))
    asked = [Generate(chat, way, seed) for chat in CHATS for way in ways for seed in (1, 2**61)]
    there, here = all_answered(remote.generate(asked)), all_answered(local.generate(asked))
    assert [one.ids for one in there] == [one.ids for one in here]
    assert [(one.text, one.finish_reason) for one in there] == [(one.text, one.finish_reason) for one in here]
    assert len({one.ids for one in here}) > 4


def test_as_a_chat_server_it_chooses_and_writes_alike(at: str, local: ServedModel) -> None:
    """What an engine can ask that knows OpenAI's protocol and no more."""
    settings = EngineSettings(
        kind="openai", model="tiny", revision="1", base_url=f"{at}/v1",
        options={"dialect": "chat", "continue_final_message": True},
    )  # fmt: skip
    engine = openai.build(settings)
    plain = tuple(Chat(chat.messages, "So ") for chat in CHATS if "<" not in chat.messages[0].content)
    written = all_answered(engine.generate([Generate(chat, Sampling(0.0, 1.0, 8), 1) for chat in plain]))
    here: list[Completion] = all_answered(local.generate([Generate(c, Sampling(0.0, 1.0, 8), 1) for c in plain]))
    assert [one.text for one in written] == [one.text for one in here]
    engine.close()


# --- lm-eval, and OpenAI's clients -----------------------------------------------------------------------------------


def test_a_loglikelihood_as_lm_eval_asks_for_it(at: str, local: ServedModel) -> None:
    prompts = [local.render(chat) + local.encode(" Yes it is", False) for chat in CHATS]
    found = ask(at, "completions", prompt=prompts, max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
    for prompt, choice in zip(prompts, found["choices"], strict=True):
        logs = choice["logprobs"]
        assert len(logs["tokens"]) == len(logs["token_logprobs"]) == len(logs["top_logprobs"]) == len(prompt) + 1
        assert logs["token_logprobs"][0] is None and logs["top_logprobs"][0] is None
        assert all(
            own <= max(top.values())
            for own, top in zip(logs["token_logprobs"][1:], logs["top_logprobs"][1:], strict=True)
        )
        assert logs["token_logprobs"][-1] == max(logs["top_logprobs"][-1].values())  # what is drawn is the likeliest
    without = ask(at, "completions", prompt=prompts, max_tokens=0, logprobs=1, echo=True)
    for choice, other in zip(found["choices"], without["choices"], strict=True):
        assert other["logprobs"]["token_logprobs"][1:] == pytest.approx(
            choice["logprobs"]["token_logprobs"][1:-1], abs=1e-4
        )
    assert without["usage"]["completion_tokens"] == 0


def test_text_and_ids_are_one_prompt(at: str, local: ServedModel) -> None:
    text = "Once upon a time"
    ids = local.encode(text, True)
    same = {"max_tokens": 6, "temperature": 0, "logprobs": 0, "echo": True}
    answers = [ask(at, "completions", prompt=prompt, **same)["choices"] for prompt in (text, ids, [text], [ids])]
    assert all(each == answers[0] for each in answers)
    both = ask(at, "completions", prompt=[text, ids], **same)["choices"]
    assert [each["text"] for each in both] == [answers[0][0]["text"]] * 2


def test_n_answers_a_seed_and_what_stops_them(at: str) -> None:
    asked = {"messages": [{"role": "user", "content": "Tell me of the sea."}], "max_tokens": 16, "temperature": 1.5}
    several, again = (ask(at, "chat/completions", n=4, seed=5, **asked)["choices"] for _ in range(2))
    assert several == again and len({choice["message"]["content"] for choice in several}) == 4
    alone = ask(at, "chat/completions", seed=5, **asked)["choices"][0]
    assert alone["message"]["content"] == several[0]["message"]["content"]
    whole = alone["message"]["content"]
    stop = whole.split()[2]
    short = ask(at, "chat/completions", seed=5, stop=["never there", stop], **asked)
    assert short["choices"][0]["message"]["content"] == whole[: whole.index(stop)]
    assert short["choices"][0]["finish_reason"] == "stop"
    assert short["usage"]["completion_tokens"] < 16  # it was not written to the end and cut
    unseeded = {ask(at, "chat/completions", **asked)["choices"][0]["message"]["content"] for _ in range(4)}
    assert len(unseeded) > 1


def test_a_stream_says_the_same(at: str) -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Tell me of the sea."}],
        "seed": 3,
        "max_tokens": 24,
    }
    whole = ask(at, "chat/completions", **body)
    texts, why, usage = {0: "", 1: ""}, {}, None
    told = {**body, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    with httpx.stream("POST", f"{at}/v1/chat/completions", json=told, timeout=60) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    for event in map(json.loads, lines):
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
            why[choice["index"]] = choice["finish_reason"] or why.get(choice["index"])
    assert texts[0] == whole["choices"][0]["message"]["content"]
    assert why[0] == whole["choices"][0]["finish_reason"] and usage and usage["prompt_tokens"] > 0


def test_logprobs_of_a_chat_are_those_of_what_was_said(at: str) -> None:
    asked = {"messages": [{"role": "user", "content": "Why?"}], "temperature": 0, "max_tokens": 5}
    [choice] = ask(at, "chat/completions", logprobs=True, top_logprobs=3, **asked)["choices"]
    for step in choice["logprobs"]["content"]:
        tops = [top["logprob"] for top in step["top_logprobs"]]
        assert step["logprob"] == tops[0] and tops == sorted(tops, reverse=True) and len(tops) == 3
        assert math.fsum(map(math.exp, tops)) <= 1 + 1e-6
