"""Several servers behind one engine: the work is shared alike each time, one that is gone is left out with one line and
comes back, and none that is another model is believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines import openai_rotation
from pipeline.engines.engine import Chat, Choose, EngineError, Generate, Sampling, Score, all_answered
from pipeline.engines.openai import OpenAIEngine, build
from tests.pipeline.engines.protocol_server import ProtocolServer, quick, running

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
DIALECTS = {"vllm": COMPLETIONS, "chat": CHATS}


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[OpenAIEngine, list[ProtocolServer]]]]:
    """An engine of little patience on so many servers, and the words that it says in `engine.words`."""
    monkeypatch.setattr(openai_rotation, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(openai_rotation, "FIRST_AGAIN", 0.05)
    monkeypatch.setattr(openai_rotation, "TOKEN_SECONDS", 0.3)
    with ExitStack() as stack:

        def make(number: int = 2, dialect: str = "vllm", **options: Any) -> tuple[OpenAIEngine, list[ProtocolServer]]:
            servers = [stack.enter_context(running(dialect=dialect)) for _ in range(number)]
            engine = build(replace(quick(servers[0], **options), base_url=[server.url for server in servers]))
            stack.callback(engine.close)
            engine.words = []  # type: ignore[attr-defined]
            engine.tell(engine.words.append)  # type: ignore[attr-defined]
            return engine, servers

        yield make


def chat(number: int) -> Chat:
    return Chat((Message("user", f"Question {number}?"),))


def generates(numbers: range) -> list[Generate]:
    return [Generate(chat(number), Sampling(max_tokens=8), number) for number in numbers]


def asked(servers: list[ProtocolServer], path: str = COMPLETIONS) -> list[int]:
    return [len(server.asked(path)) for server in servers]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_all_get_their_share_and_the_answers_are_those_of_one(several: Any, dialect: str) -> None:
    engine, servers = several(3, dialect)
    with running(dialect=dialect) as alone:
        one = build(quick(alone))
        assert engine.generate(generates(range(9))) == one.generate(generates(range(9)))
        assert asked(servers, DIALECTS[dialect]) == [3, 3, 3]
        groups = [Choose((chat(n), chat(n + 100)), ("A", "B")) for n in range(6)]
        assert engine.choose(groups) == one.choose(groups)
        assert min(asked(servers, DIALECTS[dialect])) > 3
        if dialect == "vllm":
            assert engine.score([Score(chat(1), "Yes.")]) == one.score([Score(chat(1), "Yes.")])
        assert engine.fingerprint == one.fingerprint and engine.canary() == one.canary()
        one.close()


def test_the_same_call_asks_the_same_servers_and_single_requests_are_spread(several: Any) -> None:
    engine, servers = several(2)
    shares = []
    for _ in range(2):
        before = [len(server.requests) for server in servers]
        for number in range(16):
            engine.generate(generates(range(number, number + 1)))
        shares.append(
            [
                sorted(
                    str(body["prompt"])
                    for path, body in server.requests[start:]
                    if path == COMPLETIONS and "seed" in body
                )
                for server, start in zip(servers, before, strict=True)
            ]
        )
    assert shares[0] == shares[1] and min(map(len, shares[0])) >= 3


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("how", ["drop", "hang", 503])
def test_one_that_is_gone_is_left_out_with_one_line_and_comes_back(
    several: Any, dialect: str, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engines.openai_silence.FIRST_WORD", 0.2)
    path = DIALECTS[dialect]
    engine, servers = several(2, dialect)
    whole = engine.generate(generates(range(8)))
    for kind in (path, "probe"):
        servers[1].fail_forever(kind, how)
    began = time.monotonic()
    assert engine.generate(generates(range(8))) == whole
    assert time.monotonic() - began < 5
    told = [word for word in engine.words if "is left out" in word]
    assert len(told) == len(engine.words) == 1 and servers[1].url.split("/")[2] in told[0], engine.words
    assert engine.generate(generates(range(8, 12)))
    servers[1].forever.clear()
    servers[1].released.set()
    ends = time.monotonic() + 10
    while len(engine.words) < 2 and time.monotonic() < ends:
        engine.generate(generates(range(8)))
    assert "answers again, as who it was" in engine.words[-1] and len(engine.words) == 2
    before = len(servers[1].asked(path))
    assert engine.generate(generates(range(8))) == whole
    assert len(servers[1].asked(path)) == before + 4


def test_one_that_comes_back_as_another_stays_out_and_nothing_of_it_is_kept(several: Any) -> None:
    engine, servers = several(2)
    whole = engine.generate(generates(range(8)))
    servers[1].weights = b"others"
    servers[1].fail(COMPLETIONS, "drop")
    assert engine.generate(generates(range(8))) == whole
    ends = time.monotonic() + 10
    while not any("stays left out" in word for word in engine.words) and time.monotonic() < ends:
        engine.generate(generates(range(2)))
    assert sum("came back as another" in word for word in engine.words) == 1
    count = len(servers[1].asked(COMPLETIONS))
    assert engine.generate(generates(range(8))) == whole and len(servers[1].asked(COMPLETIONS)) == count


def test_answers_of_a_server_that_was_replaced_in_the_middle_are_asked_again_elsewhere(several: Any) -> None:
    """It fails once, as a connection that broke, and goes on at once with other weights: its answer is not believed."""
    engine, servers = several(2)
    groups = [Choose((chat(n),), ("A", "B")) for n in range(64)]
    whole = [all_answered(row) for row in engine.choose(groups)]
    servers[1].weights = b"others"
    servers[1].fail("/tokenize", "drop")
    assert [all_answered(row) for row in engine.choose(groups)] == whole
    assert any("came back as another" in word for word in engine.words)


def test_all_of_them_gone_is_todays_message(several: Any) -> None:
    engine, servers = several(2, attempts=2)
    engine.generate(generates(range(2)))
    for server in servers:
        server.fail_forever(COMPLETIONS, "drop")
        server.fail_forever("probe", "drop")
    with pytest.raises(EngineError, match=r"stopped answering .* nothing was lost: see that it is well"):
        engine.generate(generates(range(4)))
    assert sum("is left out" in word for word in engine.words) == 1
    assert any("has not answered" in word for word in engine.words)  # of the last one, which was waited for


def test_a_run_begins_with_those_that_are_there(several: Any) -> None:
    engine, servers = several(3)
    servers[0].fail_forever("/v1/models", "drop")
    assert len(engine.generate(generates(range(6)))) == 6
    assert asked(servers)[0] == 0 and "is left out" in engine.words[0]


def test_servers_of_several_models_are_refused_before_anything_is_asked(several: Any) -> None:
    engine, servers = several(2)
    servers[1].weights = b"others"
    with pytest.raises(UserError, match=r"is another than the one at .* answers to fixed questions moved"):
        engine.generate(generates(range(4)))
    engine, servers = several(2)
    servers[0].context, servers[1].context = 4000, 2000
    with pytest.raises(UserError, match=r"is another than the one at .* reads at most 2000"):
        engine.check()
    assert asked(servers) == [0, 0]


def test_what_a_person_has_to_mend_ends_the_call_and_the_engine_is_used_again(several: Any) -> None:
    engine, servers = several(2)
    whole = engine.generate(generates(range(8)))
    servers[0].fail(COMPLETIONS, 401)
    with pytest.raises(UserError, match="wants a key"):
        engine.generate(generates(range(8)))
    assert engine.generate(generates(range(8))) == whole and engine.words == []


@pytest.mark.parametrize(
    ("urls", "said"),
    [([], "needs base_url"), (["http://a/v1", ""], "needs base_url"), (["http://a/v1"] * 2, "names http://a/v1 twice")],
)
def test_a_list_that_is_none_is_told(urls: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said), running() as server:
        build(replace(quick(server), base_url=urls))
