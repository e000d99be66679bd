"""The openai engine against a server that goes away: what is said of it, how soon, and who it is when it comes back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines import openai_silence, openai_transport
from pipeline.engines.engine import Chat, Choose, EngineError, EngineSettings, Generate, Sampling, all_answered
from pipeline.engines.openai import OpenAIEngine, build
from pipeline.engines.openai_identity import Identity
from tests.pipeline.engines.protocol_server import Connect, ProtocolServer, running

COMPLETIONS = "/v1/completions"
CHATS = "/v1/chat/completions"
CHAT = Chat((Message("user", "hi"),))
AB = [Choose((CHAT,), ("A", "B"))]


def say(engine: OpenAIEngine, n: int = 1) -> list[str]:
    return [c.text for c in all_answered(engine.generate([Generate(CHAT, Sampling(), seed) for seed in range(n)]))]


# --- who it is ----------------------------------------------------------------------------------------------------


def other_weights(server: ProtocolServer) -> None:
    server.weights = b"others"


def other_template(server: ProtocolServer) -> None:
    server.template = "<|system|>Be brief.<|end|>"


def other_context(server: ProtocolServer) -> None:
    server.context = 500


@pytest.mark.parametrize(
    ("dialect", "change", "words"),
    [
        ("vllm", other_weights, "its answers to fixed questions moved by"),
        ("vllm", other_template, "makes other tokens of the same chat"),
        ("vllm", other_context, "it reads at most 500 tokens"),
        ("chat", other_weights, "its answers to fixed questions moved by"),
        ("chat", other_template, "its answers to fixed questions moved by"),
    ],
)
@pytest.mark.parametrize("how", ["drop", 503, "hang"])
def test_a_server_that_comes_back_as_another_is_refused_before_anything_is_handed_on(
    connect: Connect, dialect: str, change: Callable[[ProtocolServer], None], words: str, how: int | str
) -> None:
    path = COMPLETIONS if dialect == "vllm" else CHATS
    with running(dialect=dialect) as server:
        engine = connect(server, timeout=0.3 if how == "hang" else 20.0, concurrency=2)
        say(engine, 3)
        server.fail(path, how)
        change(server)  # in the middle of what follows: some of it is answered by the one, some by the other
        with pytest.raises(UserError, match=rf"came back as another: .*{words}"):
            say(engine, 20)
        with pytest.raises(UserError, match="came back as another"):  # and it stays refused
            engine.choose(AB)
        with pytest.raises(UserError, match="came back as another"):
            engine.canary()


def test_the_same_server_that_comes_back_is_gone_on_with_at_a_small_cost(
    vllm: ProtocolServer, connect: Connect
) -> None:
    engine = connect(vllm)
    expected = say(engine, 20)
    canaries = len(vllm.asked("canary"))
    vllm.fail(COMPLETIONS, "drop", 500, "half")
    assert say(engine, 20) == expected
    assert len(vllm.asked("canary")) - canaries <= 2 * 4
    canaries = len(vllm.asked("canary"))
    say(engine, 20)
    assert len(vllm.asked("canary")) == canaries  # no failure, no question


def test_a_busy_server_is_not_doubted(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm)
    say(engine)
    canaries = len(vllm.asked("canary"))
    vllm.fail(COMPLETIONS, 429, 429)
    say(engine)
    assert len(vllm.asked("canary")) == canaries


def test_after_a_pause_the_server_is_asked_who_it_is(
    vllm: ProtocolServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_transport, "IDLE", 0.2)
    engine = connect(vllm)
    say(engine)
    time.sleep(0.3)  # long enough to exchange it; no request failed
    other_weights(vllm)
    with pytest.raises(UserError, match="came back as another"):
        say(engine)


def test_a_server_without_log_probabilities_can_generate(connect: Connect) -> None:
    with running(dialect="chat") as server:
        server.shows_logprobs = False
        engine = connect(server)
        assert say(engine)[0].startswith("said")
        assert engine.canary() == []


def test_what_is_unlikely_may_move_more_by_rounding() -> None:
    before = Identity((-0.5, -9.0))
    assert not Identity((-0.53, -9.2)).differs(before)
    assert Identity((-0.56, -9.0)).differs(before) and Identity((-0.5, -8.0)).differs(before)
    assert Identity((-0.5,)).differs(before) and Identity().differs(before)


# --- what is said -------------------------------------------------------------------------------------------------


def test_a_dead_server_is_told_at_once_and_told_again_and_when_it_is_over(
    vllm: ProtocolServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_silence, "FIRST_WORD", 0.2)
    engine = connect(vllm, attempts=100, deadline=30.0, backoff=0.02, max_backoff=0.05)
    words: list[tuple[float, str]] = []
    engine.check()
    engine.tell(lambda text: words.append((time.monotonic(), text)))
    began = time.monotonic()
    vllm.fail_forever(COMPLETIONS, "drop")
    threading.Timer(1.5, vllm.forever.clear).start()
    assert say(engine)[0].startswith("said")
    times, texts = [at - began for at, _ in words], [text for _, text in words]
    assert times[0] < 0.2 and "has not answered (the answer broke off" in texts[0]
    assert "29 s more at most" in texts[0] or "30 s more at most" in texts[0]
    assert "answers again, after" in texts[-1]
    assert 4 <= len(words) <= 6  # at 0, 0.4, 1.2 s or so, and when it is over: not one for each of the attempts
    gaps = [later - sooner for sooner, later in itertools.pairwise(times[:-1])]
    assert gaps == sorted(gaps)


def test_a_hanging_server_is_told_within_seconds(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm, attempts=1, timeout=5.5, deadline=5.5)
    words: list[float] = []
    engine.check()
    engine.tell(lambda text: words.append(time.monotonic()))
    vllm.fail_forever(COMPLETIONS, "hang")
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"no answer within 5.5 s"):
        say(engine)
    assert words and words[0] - began < 5.0


def test_a_server_that_is_only_slow_is_not_told_of_for_ever(
    vllm: ProtocolServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_silence, "FIRST_WORD", 0.2)
    engine = connect(vllm)
    engine.check()
    words: list[str] = []
    engine.tell(words.append)
    for _ in range(3):  # answers take three times as long as the first word
        vllm.crowd[COMPLETIONS] = vllm.peak[COMPLETIONS] + 1
        threading.Timer(0.6, _let_in, [vllm]).start()
        say(engine)
    assert len([text for text in words if "has not answered" in text]) <= 2


def _let_in(server: ProtocolServer) -> None:
    server.crowd.clear()
    with server._lock:
        server._lock.notify_all()


def test_whoever_listens_may_be_gone(vllm: ProtocolServer, connect: Connect) -> None:
    def closed(text: str) -> None:
        raise BrokenPipeError

    engine = connect(vllm)
    engine.check()
    engine.tell(closed)
    vllm.fail(COMPLETIONS, "drop")
    assert say(engine)[0].startswith("said")


def test_a_server_that_nobody_started_is_told_before_it_is_given_up() -> None:
    with running() as server:
        url = server.url
    options = {"attempts": 3, "backoff": 0.01}
    engine = build(EngineSettings("openai", "toy", "1", base_url=url, options=options))
    words: list[str] = []
    engine.tell(words.append)
    with pytest.raises(EngineError, match="cannot connect"):
        engine.check()
    assert len(words) == 1 and "cannot connect" in words[0]
    engine.close()


# --- its memory ---------------------------------------------------------------------------------------------------


def test_a_server_that_can_sleep_is_asked_to_and_woken_by_the_next_request(connect: Connect) -> None:
    with running() as server:
        server.can_sleep = True
        engine = connect(server)
        before = say(engine, 2)
        engine.release()
        engine.release()
        assert server.asleep and [path for path, _ in server.requests].count("/sleep?level=1") == 1
        assert say(engine, 2) == before and not server.asleep


def test_one_that_cannot_sleep_goes_on_as_it_was_and_that_is_said(connect: Connect) -> None:
    with running() as server:
        engine, said = connect(server), list[str]()
        engine.tell(said.append)
        engine.release()
        assert len(said) == 1 and "asked to sleep, and does not" in said[0] and "--enable-sleep-mode" in said[0]
        assert say(engine) and "/wake_up" not in [path for path, _ in server.requests]
