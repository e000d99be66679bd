"""The openai engine against a server that means harm, or talks nonsense: keys that are repeated, numbers that are none,
names that stand for something else a moment later. There is never a verdict, and never a crash.
"""

from __future__ import annotations

import json
import logging
import math
import socket
import zlib
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.engine import (
    Chat,
    Choose,
    EngineError,
    EngineSettings,
    Generate,
    Refused,
    Sampling,
    Score,
    all_answered,
)
from pipeline.engines.openai import OpenAIEngine, build
from pipeline.engines.openai_address import check_address
from pipeline.engines.openai_json import MAX_DEPTH, Hiding, read, read_object
from tests.pipeline.engines.protocol_server import Connect, ProtocolServer, quick

COMPLETIONS = "/v1/completions"
CHATS = "/v1/chat/completions"
CHAT = Chat((Message("user", "hi"),))
AB = [Choose((CHAT,), ("A", "B"))]
KEY = "sk-0123456789/abc+def"


def said(engine: OpenAIEngine) -> str:
    return all_answered(engine.generate([Generate(CHAT, Sampling(), 1)]))[0].text


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelt", [KEY, KEY.replace("/", "\\/"), "".join(f"\\u{ord(c):04x}" for c in KEY)], ids=["plain", "slash", "escaped"]
)
def test_a_key_that_an_answer_repeats_is_not_kept(vllm: ProtocolServer, connect: Connect, spelt: str) -> None:
    engine = connect(vllm, api_key=SecretStr(KEY))
    engine.check()
    body = f'{{"choices": [{{"index": 0, "text": "your key is {spelt}!", "finish_reason": "stop"}}]}}'
    vllm.fail(COMPLETIONS, "garbage", body=body)
    assert said(engine) == "your key is ***!"


def test_a_key_in_a_location_or_in_an_error_is_not_told(
    vllm: ProtocolServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = connect(vllm, api_key=SecretStr(KEY), attempts=1)
    engine.check()
    quoted = "sk-0123456789%2Fabc%2Bdef"
    for spelt in (KEY, quoted, quoted.replace("%2B", "+")):
        vllm.fail(COMPLETIONS, 302, headers={"Location": f"http://elsewhere.example/?key={spelt}"})
        with pytest.raises(UserError, match="redirects to http://elsewhere") as caught:
            engine.choose(AB)
        assert "0123456789" not in str(caught.value)
    for status, error in ((401, UserError), (500, EngineError)):
        vllm.fail(COMPLETIONS, status, body=f"no: {KEY}")
        with pytest.raises(error) as told:
            engine.choose(AB)
        assert "***" in str(told.value) and "0123456789" not in str(told.value)
    vllm.fail(COMPLETIONS, 400, body=f"no: {KEY}")
    [[refused]] = engine.choose(AB)
    assert isinstance(refused, Refused) and "***" in refused.said and "0123456789" not in refused.said
    assert "0123456789" not in caplog.text


def test_a_word_that_stands_for_no_key_is_a_word_in_answers(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.reply = "The set is EMPTY."
    engine = connect(vllm, api_key=SecretStr("EMPTY"))
    assert said(engine) == "The set is EMPTY."


# --- numbers and shapes -------------------------------------------------------------------------------------------


def chosen(a: str, b: str = "-1.0") -> str:
    tops = f'{{"token_id:65": {a}, "token_id:66": {b}}}'
    return f'{{"choices": [{{"index": 0, "text": "A", "logprobs": {{"top_logprobs": [{tops}]}}}}]}}'


def shown(a: str) -> str:
    tops = f'[{{"token": "A", "logprob": {a}}}, {{"token": "B", "logprob": -3.0}}]'
    return (
        '{"choices": [{"message": {"content": "A"}, "finish_reason": "stop", "logprobs": '
        f'{{"content": [{{"token": "A", "logprob": 0, "top_logprobs": {tops}}}]}}}}]}}'
    )


NUMBERS = ["5.0", "Infinity", "NaN", "true", '"-0.1"', "null", "1" * 400, "1" * 5000, "1e400", "[]", "{}"]


@pytest.mark.parametrize("number", NUMBERS, ids=[n[:12] for n in NUMBERS[:7]] + ["5000 digits", *NUMBERS[8:]])
def test_what_is_no_log_probability_is_no_verdict(
    vllm: ProtocolServer, plain: ProtocolServer, connect: Connect, number: str
) -> None:
    for server, path, answer in ((vllm, COMPLETIONS, chosen(number)), (plain, CHATS, shown(number))):
        server.fail_forever(path, "garbage", body=answer)
        with pytest.raises((UserError, EngineError)):
            connect(server).choose(AB)


def test_a_score_above_certainty_is_none(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm)
    engine.check()
    ids = len(engine.render(CHAT))
    steps: list[Any] = [None] * ids + [{str(ord(letter)): {"logprob": 5.0}} for letter in "yes"]
    body = json.dumps({"choices": [{"index": 0, "text": "", "prompt_logprobs": steps}]})
    vllm.fail(COMPLETIONS, "garbage", body=body)
    with pytest.raises(UserError, match="more than all the probability"):
        engine.score([Score(CHAT, "yes")])


@pytest.mark.parametrize("index", ["true", "0.0", '"0"', "Infinity", "null"])
def test_a_place_that_is_no_number_is_no_place(vllm: ProtocolServer, connect: Connect, index: str) -> None:
    vllm.fail_forever(COMPLETIONS, "garbage", body=f'{{"choices": [{{"index": {index}, "text": "x"}}]}}')
    with pytest.raises(EngineError):
        connect(vllm).generate([Generate(CHAT, Sampling(), 1)])


@pytest.mark.parametrize("tokens", ["9223372036854775808", "true", "-1", "1e9", '"7"', "10000000000"])
def test_counts_that_no_text_has_are_not_counted(plain: ProtocolServer, connect: Connect, tokens: str) -> None:
    engine = connect(plain)
    engine.check()
    usage = f'{{"prompt_tokens": {tokens}, "completion_tokens": {tokens}}}'
    body = f'{{"choices": [{{"message": {{"content": "x"}}, "finish_reason": "stop"}}], "usage": {usage}}}'
    plain.fail_forever(CHATS, "garbage", body=body)
    try:
        [completion] = all_answered(engine.generate([Generate(CHAT, Sampling(), 1)]))
    except EngineError:
        return  # refused whole
    assert (completion.prompt_tokens, completion.tokens) == (0, 0)


def test_the_reader_takes_what_the_protocol_needs_and_nothing_deeper() -> None:
    hiding = Hiding(None)
    fine = {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": -0.5}]}]}}], "n": 10**17}
    assert read_object(json.dumps(fine).encode(), hiding) == fine
    assert read(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, hiding)
    assert read(b'"' + b"1" * 6000 + b'"', hiding) == "1" * 6000  # a text is not a number
    assert read(b"[1000000000000000019884624838656, -" + b"9" * 5000 + b"]", hiding) == [1e30, -math.inf]
    for data, why in (
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nests"),
        (b"[" * 100_000, "nests|not JSON"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "nests"),
        (b"[1]", "no JSON object"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
    ):
        with pytest.raises(ValueError, match=why):
            read_object(data, hiding)


def test_a_packed_answer_is_not_unpacked(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm)
    engine.check()
    bomb = zlib.compress(b"0" * 50_000_000)
    vllm.fail(COMPLETIONS, 200, headers={"Content-Encoding": "deflate"}, body="x" * len(bomb))
    assert said(engine).startswith("said")  # the next one was plain
    assert vllm.headers[-1]["Accept-Encoding"] == "identity"


# --- addresses ----------------------------------------------------------------------------------------------------


def test_what_is_connected_to_is_the_address_that_was_looked_at(
    vllm: ProtocolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def rebinding(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in ("model.example", b"model.example"):
            return real(host, port, *args, **more)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "169.254.169.254", port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    settings = quick(vllm, attempts=1, timeout=3.0, breaker=1000)
    url = f"http://model.example:{vllm.server_port}/v1"
    engine = build(EngineSettings("openai", "toy", "1", base_url=url, options=settings.options))
    engine.check()
    assert said(engine).startswith("said")
    assert len(asked) == 1 and vllm.headers[-1]["Host"] == f"model.example:{vllm.server_port}"
    vllm.fail_forever("/tokenize", "drop")  # connections that are open come to their end
    vllm.shutdown()
    vllm.server_close()
    with pytest.raises(UserError, match="link-local"):  # nobody is there: the name is looked up anew, and looked at
        for _ in range(50):
            with suppress(EngineError):
                engine.render(CHAT)
    engine.close()


def test_a_second_address_is_tried_where_nobody_is_at_the_first(
    vllm: ProtocolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in ("model.example", b"model.example"):
            return real(host, port, *args, **more)
        return real("127.0.0.9", port, *args, **more) + real("127.0.0.1", port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    url = f"http://model.example:{vllm.server_port}/v1"
    engine = build(EngineSettings("openai", "toy", "1", base_url=url, options=quick(vllm, attempts=1).options))
    engine.check()
    engine.close()


@pytest.mark.parametrize(
    "host",
    ["[::169.254.169.254]", "[2002:a9fe:a9fe::]", "[64:ff9b::a9fe:a9fe]", "100.100.100.200", "168.63.129.16"],
)
def test_other_spellings_of_where_clouds_keep_their_keys_are_refused(host: str) -> None:
    with pytest.raises(UserError, match="no model server is there"):
        check_address(f"http://{host}/v1")
