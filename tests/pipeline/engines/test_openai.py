"""The openai engine against a server that is well: are its answers the model's? The sick one: test_openai_faults."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.engine import Chat, Choose, Generate, Sampling, Score
from tests.pipeline.engines.protocol_server import (
    Connect,
    ProtocolServer,
    chat_text,
    distribution,
    encode,
)


def chat(text: str, **more: Any) -> Chat:
    return Chat((Message("user", text),), **more)


def ids_of(text: str, prefix: str = "") -> list[int]:
    return encode(chat_text([{"role": "user", "content": text}]) + prefix)


def test_choose_reads_the_whole_vocabulary_at_the_label_as_it_stands_there(
    vllm: ProtocolServer, connect: Connect
) -> None:
    texts = [f"question {number}, principle {principle}" for number in range(30) for principle in range(3)]
    groups = [Choose(tuple(map(chat, texts[at : at + 3])), ("A", "B")) for at in range(0, 90, 3)]
    choices = [choice for group in connect(vllm).choose(groups) for choice in group]
    for text, choice in zip(texts, choices, strict=True):
        logs = distribution(ids_of(text))
        a, b = math.exp(logs[65]), math.exp(logs[66])
        assert choice.probabilities == pytest.approx((a / (a + b), b / (a + b)), abs=1e-12)
        assert choice.mass == pytest.approx(a + b, abs=1e-12)
        assert choice.prompt_tokens == len(ids_of(text))


def test_after_a_prefix_a_label_with_a_space_is_another_token(vllm: ProtocolServer, connect: Connect) -> None:
    prefixed = chat("which?", answer_prefix="The better answer is")
    [[choice]] = connect(vllm).choose([Choose((prefixed,), (" A", " B"))])
    logs = distribution(ids_of("which?", "The better answer is"))
    a, b = math.exp(logs[300]), math.exp(logs[301])
    assert choice.probabilities == pytest.approx((a / (a + b), b / (a + b)), abs=1e-12)
    with pytest.raises(UserError, match="'AB' is 2 tokens"):
        connect(vllm).choose([Choose((prefixed,), ("AB", "B"))])


def test_prompts_are_packed_with_shared_prefixes_side_by_side(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.crowd["/v1/completions"] = 2
    texts = [f"comparison {number}: principle {principle}" for principle in range(4) for number in range(10)]
    engine = connect(vllm, prompts_per_request=8, requests_in_flight=2)
    engine.choose([Choose((chat(text),), ("A", "B")) for text in texts])
    packs = [body["prompt"] for body in vllm.asked("/v1/completions")]
    assert [len(pack) for pack in packs] == [8] * 5
    assert vllm.peak["/v1/completions"] == 2
    assert sorted(prompt for pack in packs for prompt in pack) == sorted(map(ids_of, texts))
    for pack in packs:  # two comparisons, each with its four principles in a row
        assert pack == sorted(pack)
        assert len({tuple(prompt[:14]) for prompt in pack}) == 2
    body = vllm.asked("/v1/completions")[0]
    assert (body["logprob_token_ids"], body["max_tokens"]) == ([65, 66], 1)


def test_labels_cost_no_request_a_chat(vllm: ProtocolServer, connect: Connect) -> None:
    chats = tuple(chat(f"q{number}", answer_prefix="(" * (number % 2)) for number in range(50))
    connect(vllm).choose([Choose(chats, ("A", "B"))])
    tokenized = vllm.asked("/tokenize")
    assert (
        sum("messages" in body for body in tokenized) == 50 + 2 + 1
    )  # two find out how the template opens an answer, one what it is of
    assert sum("prompt" in body for body in tokenized) == 4 * 2 + 2  # two labels after two openings; one prefix


def test_generation_follows_seed_and_sampling(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm)
    hot, cold, short = Sampling(0.7, 0.9, 100), Sampling(0.0, 1.0, 100), Sampling(1.0, 1.0, 4)
    one, again, other, greedy, greedy_too, cut = engine.generate(
        [
            Generate(chat("hi"), sampling, seed)
            for sampling, seed in [(hot, 1), (hot, 1), (hot, 2), (cold, 1), (cold, 2), (short, 1)]
        ]
    )
    assert one.text == again.text != other.text
    assert greedy.text == greedy_too.text
    assert (one.finish_reason, cut.finish_reason, cut.text, cut.tokens) == ("stop", "length", "said", 4)
    assert one.prompt_tokens == len(ids_of("hi"))
    bodies = vllm.asked("/v1/completions")  # in whatever order they arrived
    names = ("temperature", "top_p", "max_tokens", "seed")
    assert sorted(tuple(body[name] for name in names) for body in bodies) == [
        (0.0, 1.0, 100, 1), (0.0, 1.0, 100, 2), (0.7, 0.9, 100, 1), (0.7, 0.9, 100, 1), (0.7, 0.9, 100, 2),
        (1.0, 1.0, 4, 1),
    ]  # fmt: skip
    assert all(body["prompt"] == ids_of("hi") for body in bodies)
    # vLLM would take these from the model's generation_config.json
    assert {(body["top_k"], body["min_p"], body["repetition_penalty"]) for body in bodies} == {(0, 0.0, 1.0)}


def test_a_seed_of_63_bits_arrives_whole(vllm: ProtocolServer, connect: Connect) -> None:
    connect(vllm).generate([Generate(chat("hi"), Sampling(), 2**63 - 1)])
    assert vllm.asked("/v1/completions")[0]["seed"] == 2**63 - 1


def test_results_come_in_order_and_no_more_are_in_flight_than_asked(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.crowd["/v1/completions"] = 3
    engine = connect(vllm, concurrency=3)
    requests = [Generate(chat("hi"), Sampling(), seed) for seed in range(20)]
    texts = [completion.text for completion in engine.generate(requests)]
    assert texts == [engine.generate([request])[0].text for request in requests]
    assert len(set(texts)) == 20
    assert vllm.peak["/v1/completions"] == 3


def test_score_is_the_sum_over_the_completion(vllm: ProtocolServer, connect: Connect) -> None:
    plain, ended, empty = connect(vllm).score(
        [Score(chat("hi"), "yes"), Score(chat("hi"), "yes", end=True), Score(chat("hi"), "")]
    )
    ids, expected = ids_of("hi"), 0.0
    for token in b"yes":
        expected += distribution(ids)[token]
        ids.append(token)
    assert plain.logprob == pytest.approx(expected, abs=1e-9)
    assert ended.logprob == pytest.approx(expected + distribution(ids)[258], abs=1e-9)
    assert (plain.tokens, ended.tokens) == (3, 4)
    read = len(ids_of("hi"))
    assert (plain.prompt_tokens, ended.prompt_tokens, empty.prompt_tokens) == (read + 3, read + 4, 0)
    assert (empty.logprob, empty.tokens) == (0.0, 0)


def test_render_has_template_arguments_and_prefix(vllm: ProtocolServer, connect: Connect) -> None:
    rendered = connect(vllm).render(chat("hi", answer_prefix="(", template_args={"think": True}))
    assert rendered == ids_of("hi", "<think>(")


def test_a_thinking_block_is_kept_apart(vllm: ProtocolServer, plain: ProtocolServer, connect: Connect) -> None:
    def said(server: ProtocolServer, reply: str, think: bool = False) -> tuple[str, str]:
        server.reply = reply
        args = {"think": True} if think else {}
        [completion] = connect(server).generate([Generate(chat("hi", template_args=args), Sampling(), 1)])
        return completion.reasoning, completion.text

    assert said(vllm, "<think>\nhm\n</think>\n\nYes.") == ("hm", "Yes.")
    assert said(vllm, "hm</think>Yes.", think=True) == ("hm", "Yes.")
    assert said(vllm, "still thinking", think=True) == ("still thinking", "")
    assert said(vllm, "hm</think>Yes.") == ("hm", "Yes.")  # templates and servers swallow the tag that opens
    assert said(vllm, "The tags <think> and </think>.") == ("", "The tags <think> and </think>.")
    assert said(plain, "[THINK]hm[/THINK]Yes.") == ("hm", "Yes.")
    assert said(plain, "<think>hm</think>Yes.") == ("hm", "Yes.")


def test_a_tokenizer_folder_saves_the_requests(vllm: ProtocolServer, connect: Connect, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    vllm.without |= {"/tokenize", "/detokenize", "/tokenizer_info"}
    engine = connect(vllm, tokenizer=str(tmp_path))
    [[choice]] = engine.choose([Choose((chat("which?"),), ("A", "B"))])
    text = "user:which?<|end|>assistant:"
    logs = distribution(tokenizer.encode(text, add_special_tokens=False))
    a, b = (math.exp(logs[letters.index(label)]) for label in "AB")
    assert choice.probabilities == pytest.approx((a / (a + b), b / (a + b)), abs=1e-12)
    assert not [body for body in vllm.asked("/tokenize") if "messages" in body]
    assert engine.fingerprint != connect(vllm).fingerprint


def test_a_chat_server_generates(plain: ProtocolServer, connect: Connect) -> None:
    engine = connect(plain)
    one, again, other = engine.generate([Generate(chat("hi"), Sampling(max_tokens=90), seed) for seed in (1, 1, 2)])
    assert one.text == again.text != other.text
    assert (one.finish_reason, one.prompt_tokens, one.tokens) == ("stop", len(ids_of("hi")), len(one.text))
    [body] = [body for body in plain.asked("/v1/chat/completions") if body["seed"] == 2]
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_a_chat_server_chooses_from_what_it_shows(plain: ProtocolServer, connect: Connect) -> None:
    engine = connect(plain)
    [[choice]] = engine.choose([Choose((chat("which?"),), ("A", "B"))])
    logs = distribution(ids_of("which?"))
    a, b = math.exp(logs[65]) + math.exp(logs[300]), math.exp(logs[66]) + math.exp(logs[301])  # "A" and " A"
    assert choice.probabilities == pytest.approx((a / (a + b), b / (a + b)), abs=1e-12)
    assert choice.mass == pytest.approx(a + b, abs=1e-12)
    [[unshown]] = engine.choose([Choose((chat("which?"),), ("\x00\x01", "no token"))])
    assert (unshown.probabilities, unshown.mass) == ((0.5, 0.5), 0.0)
    plain.shows_logprobs = False
    with pytest.raises(UserError, match="shows no log-probabilities"):
        engine.choose([Choose((chat("which?"),), ("A", "B"))])


def test_what_a_chat_server_cannot_do_is_said(plain: ProtocolServer, connect: Connect) -> None:
    engine = connect(plain)
    assert not engine.capabilities.score and not engine.capabilities.exact_mass
    with pytest.raises(UserError, match="cannot score"):
        engine.score([Score(chat("hi"), "yes")])
    with pytest.raises(UserError, match="cannot continue an answer"):
        engine.generate([Generate(chat("hi", answer_prefix="("), Sampling(), 1)])
    with pytest.raises(UserError, match="does not show its tokens"):
        engine.render(chat("hi"))
    [[choice]] = connect(plain, continue_final_message=True).choose(
        [Choose((chat("hi", answer_prefix="("),), ("A", "B"))]
    )
    logs = distribution(ids_of("hi", "("))
    assert choice.mass == pytest.approx(sum(math.exp(logs[token]) for token in (65, 66, 300, 301)))


def test_capabilities_of_vllm_are_all(vllm: ProtocolServer, connect: Connect) -> None:
    capabilities = connect(vllm).capabilities
    assert capabilities.score and capabilities.exact_mass and capabilities.choose and capabilities.generate


def test_the_fingerprint_is_what_was_declared(vllm: ProtocolServer, plain: ProtocolServer, connect: Connect) -> None:
    one = connect(vllm).fingerprint
    assert one == connect(vllm, concurrency=1, api_key=SecretStr("k")).fingerprint
    assert len({one, connect(vllm, revision="2").fingerprint, connect(plain).fingerprint}) == 3
    with pytest.raises(UserError, match="declare a revision"):
        _ = connect(vllm, revision="").fingerprint
    asked = len(vllm.requests)
    assert connect(vllm, dialect="vllm").fingerprint == one
    assert len(vllm.requests) == asked  # a declared dialect needs no server


def test_canaries_are_the_same_whenever_they_are_asked(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm)
    stored = engine.canary()
    assert len(stored) == 6 and all(log < 0 for log in stored)
    assert engine.canary() == pytest.approx(stored, abs=1e-9)
    assert connect(vllm).canary() == pytest.approx(stored, abs=1e-9)


def test_hostile_text_arrives(vllm: ProtocolServer, connect: Connect) -> None:
    [completion] = connect(vllm).generate([Generate(chat("\ud800 \x00 \u202e \U0001f600"), Sampling(), 1)])
    assert completion.text
    sent = [body["messages"][0]["content"] for body in vllm.asked("/tokenize") if "messages" in body]
    assert "\ufffd \x00 \u202e \U0001f600" in sent


def test_it_can_be_called_inside_a_running_loop(vllm: ProtocolServer, connect: Connect) -> None:
    async def flow() -> str:
        return connect(vllm).generate([Generate(chat("hi"), Sampling(), 1)])[0].text

    assert asyncio.run(flow()).startswith("said")


def test_nothing_is_asked_for_nothing_and_nothing_after_close(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm)
    assert not engine.generate([]) and not engine.choose([]) and not engine.score([])
    assert not vllm.requests
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.check()
