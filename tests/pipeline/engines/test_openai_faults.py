"""The openai engine against a server that is slow, failing, lying or dead, and against wrong settings.

Whatever the server does, there is an answer of the model, a UserError or an EngineError: never a guess.
"""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import SecretStr

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.engine import (
    Chat,
    Choice,
    Choose,
    Completion,
    EngineError,
    EngineSettings,
    Generate,
    Refused,
    Sampling,
    Score,
    all_answered,
)
from pipeline.engines.openai import OpenAIEngine, build
from pipeline.engines.openai_transport import MAX_BYTES
from tests.pipeline.engines.protocol_server import Connect, ProtocolServer, quick, running

COMPLETIONS = "/v1/completions"
CHAT = Chat((Message("user", "hi"),))
AB = [Choose((CHAT,), ("A", "B"))]


def say(engine: OpenAIEngine, max_tokens: int = 100) -> Completion:
    return all_answered(engine.generate([Generate(CHAT, Sampling(max_tokens=max_tokens), 1)]))[0]


# --- faults that pass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [429, 500, 502, 503, 504, "half", "garbage", "nothing", "drop"])
def test_what_fails_twice_is_asked_a_third_time(vllm: ProtocolServer, connect: Connect, how: int | str) -> None:
    well = say(connect(vllm))
    vllm.requests.clear()
    vllm.fail(COMPLETIONS, how, how)
    assert say(connect(vllm)) == well
    assert len(vllm.asked(COMPLETIONS)) == 3


def test_an_error_sent_as_an_answer_is_none(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.fail(COMPLETIONS, "garbage", body='{"error": {"message": "overloaded"}}')
    vllm.fail(COMPLETIONS, "garbage", body="[" * 100_000)
    assert say(connect(vllm)).text.startswith("said")
    assert len(vllm.asked(COMPLETIONS)) == 3


@pytest.mark.parametrize("how", ["hang", "slow"])
def test_an_attempt_that_takes_too_long_is_given_up(vllm: ProtocolServer, connect: Connect, how: str) -> None:
    engine = connect(vllm, timeout=1.0)
    engine.check()
    vllm.fail(COMPLETIONS, how)
    started = time.monotonic()
    assert say(engine).text.startswith("said")
    assert time.monotonic() - started >= 1.0
    assert len(vllm.asked(COMPLETIONS)) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(vllm: ProtocolServer, connect: Connect, as_date: bool) -> None:
    engine = connect(vllm)
    engine.check()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)  # whole seconds: 2 at least
    vllm.fail(COMPLETIONS, 429, headers={"Retry-After": date if as_date else "1"})
    started = time.monotonic()
    say(engine)
    assert time.monotonic() - started >= 0.99
    assert len(vllm.asked(COMPLETIONS)) == 2


def test_a_wait_beyond_the_deadline_is_not_begun(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm, deadline=30.0)
    engine.check()
    vllm.fail(COMPLETIONS, 429, headers={"Retry-After": "3600"})
    started = time.monotonic()
    with pytest.raises(EngineError, match="asking to wait 3600 s"):
        say(engine)
    assert time.monotonic() - started < 15


# --- faults that stay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [500, "half", "garbage", "drop"])
def test_after_the_last_attempt_it_is_an_error_and_no_answer(
    vllm: ProtocolServer, connect: Connect, how: int | str
) -> None:
    vllm.fail_forever(COMPLETIONS, how)
    with pytest.raises(EngineError, match=r"stopped answering .*nothing was lost"):
        connect(vllm).choose(AB)
    assert len(vllm.asked(COMPLETIONS)) == 4


def test_the_deadline_bounds_all_attempts_together(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm, timeout=0.5, deadline=1.2, attempts=100)
    engine.check()
    vllm.fail_forever(COMPLETIONS, "hang")
    started = time.monotonic()
    with pytest.raises(EngineError, match="no answer within"):
        say(engine)
    assert 0.9 < time.monotonic() - started < 10
    assert 2 <= len(vllm.asked(COMPLETIONS)) <= 4


def test_one_failure_ends_a_batch_at_once(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm, concurrency=2)
    engine.check()
    vllm.fail_forever(COMPLETIONS, 500)
    with pytest.raises(EngineError):
        engine.generate([Generate(CHAT, Sampling(), seed) for seed in range(100)])
    assert len(vllm.asked(COMPLETIONS)) <= 8


def test_the_circuit_breaker_opens_and_closes_again(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm, breaker=2, attempts=2, cooldown=3.0)
    engine.check()
    vllm.fail_forever(COMPLETIONS, 500)
    vllm.fail_forever("canary", 500)  # after a failure the server is first asked who it is
    for _ in range(3):
        with pytest.raises(EngineError, match="status 500"):
            say(engine)
    opened = time.monotonic()
    with pytest.raises(EngineError, match="2 requests in a row failed"):
        say(engine)
    assert len(vllm.asked(COMPLETIONS)) == 2
    vllm.forever.clear()
    time.sleep(max(0.0, 3.05 - (time.monotonic() - opened)))
    assert say(engine).text.startswith("said")


def test_a_healthy_port_with_a_dead_engine_is_found_out(
    vllm: ProtocolServer, plain: ProtocolServer, connect: Connect
) -> None:
    for server in (vllm, plain):
        server.fail_forever("probe", "hang")
        engine = connect(server, timeout=0.3)
        assert engine.capabilities.generate  # the port answers
        with pytest.raises(EngineError, match="asked for one token, the server gave none"):
            engine.check()
        with pytest.raises(EngineError, match="asked for one token"):
            say(engine)
        assert not server.asked(COMPLETIONS) and not server.asked("/v1/chat/completions")


def test_no_server_at_all(connect: Connect) -> None:
    with running() as server:
        engine = connect(server)
    with pytest.raises(EngineError, match="cannot connect"):
        engine.check()


# --- answers that are not what was asked for ----------------------------------------------------------------------


def test_a_missing_label_is_never_guessed(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.honours_logprob_token_ids = False
    with pytest.raises(UserError, match="did not give the log-probability of every option"):
        connect(vllm).choose(AB)


def test_logits_are_not_taken_for_log_probabilities(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.shows_logits = True
    with pytest.raises(UserError, match="raw_logprobs"):
        connect(vllm).choose(AB)


@pytest.mark.parametrize(
    "answer",
    [
        '{"choices": []}',
        '{"choices": [{"index": 0}]}',
        '{"choices": [{"index": 1, "text": "a"}]}',
        '{"choices": [{"index": 0, "text": null}]}',
        '{"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"token_id:65": NaN, "token_id:66": -1}]}}]}',
        '{"choices": [{"index": 0, "text": "a", "logprobs": {"top_logprobs": [null]}}]}',
        '{"choices": "none"}',
        "[]",
        "3",
    ],
)
def test_json_that_is_not_of_the_protocol(vllm: ProtocolServer, connect: Connect, answer: str) -> None:
    vllm.fail_forever(COMPLETIONS, "garbage", body=answer)
    with pytest.raises(EngineError):
        connect(vllm).choose(AB)
    if "logprobs" not in answer:
        with pytest.raises(EngineError):
            say(connect(vllm))
    with pytest.raises(EngineError):
        connect(vllm).score([Score(CHAT, "yes")])


def test_two_megabytes_of_answer_are_cut_and_marked(
    vllm: ProtocolServer, plain: ProtocolServer, connect: Connect
) -> None:
    for server in (vllm, plain):
        server.reply = "x" * 2_000_000
        completion = say(connect(server), max_tokens=10)
        assert (len(completion.text), completion.finish_reason) == (640, "length")


def test_an_endless_answer_is_not_read_to_its_end(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.fail_forever(COMPLETIONS, "huge")
    with pytest.raises(EngineError, match=f"more than {MAX_BYTES // 2**20} MiB"):
        say(connect(vllm))
    assert len(vllm.asked(COMPLETIONS)) == 1


# --- what a person must mend --------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_at_once_and_shown_nowhere(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(key="right-key") as server:
        settings = quick(server, api_key=SecretStr("wrong-key"))
        engine = build(settings)
        with pytest.raises(UserError, match="refused the key in OPENAI_API_KEY") as caught:
            engine.check()
        assert len(server.requests) == 1
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        for text in (shown, str(caught.value), repr(settings), repr(engine), str(vars(engine)), caplog.text):
            assert "wrong-key" not in text
        engine.close()
        with pytest.raises(UserError, match="wants a key; set OPENAI_API_KEY"):
            connect(server).check()
        right = connect(server, api_key=SecretStr("right-key"))
        right.check()
        assert server.headers[-1]["Authorization"] == "Bearer right-key"


def test_an_unknown_model_is_told_with_those_there_are(connect: Connect) -> None:
    for dialect in ("vllm", "chat"):
        with running(dialect=dialect, models=("alpha", "beta")) as server:
            with pytest.raises(UserError, match=r"no model 'toy'; it has alpha, beta"):
                connect(server).check()
            with pytest.raises(UserError, match=r"name the model .* alpha, beta"):
                connect(server, model="").check()


def test_a_refusal_is_not_repeated_and_shows_the_servers_words_safely(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.fail(COMPLETIONS, 400, body="prompt too long \x1b[31m\r\n" + "x" * 5000)
    [refused] = connect(vllm).generate([Generate(CHAT, Sampling(), 1)])
    assert isinstance(refused, Refused) and refused.kind == "too_long"
    assert re.search(r"status 400\): prompt too long \[31m x+$", refused.said) and len(refused.said) < 500
    assert len(vllm.asked(COMPLETIONS)) == 1


# --- one bad request among many -----------------------------------------------------------------------------------

LONG = Chat((Message("user", "long " * 100),))


@pytest.mark.parametrize("dialect", ["vllm", "chat"])
def test_one_request_that_is_too_long_takes_none_with_it(connect: Connect, dialect: str) -> None:
    chats = [Chat((Message("user", f"question {n}"),)) for n in range(9)]
    chats.insert(4, LONG)
    with running(dialect=dialect, context=300, tells_context=False) as server:
        engine = connect(server, prompts_per_request=8)
        said = engine.generate([Generate(chat, Sampling(max_tokens=8), 1) for chat in chats])
        [chosen] = engine.choose([Choose(tuple(chats), ("A", "B"))])
        for found in (said, chosen):
            assert [isinstance(each, Refused) for each in found] == [chat is LONG for chat in chats]
        assert isinstance(said[4], Refused) and said[4].kind == "too_long" and "maximum context length" in said[4].said
        with running(dialect=dialect) as other:  # what was not refused is what it would have been without
            alone = connect(other, prompts_per_request=8)
            assert chosen[5:] == alone.choose([Choose(tuple(chats[5:]), ("A", "B"))])[0]


def test_a_context_that_the_server_tells_is_not_run_into(vllm: ProtocolServer, connect: Connect) -> None:
    vllm.context = 300
    engine = connect(vllm)
    short = Chat((Message("user", "q"),))
    said = engine.generate([Generate(chat, Sampling(max_tokens=1000), 1) for chat in (LONG, short)])
    assert isinstance(said[0], Refused) and said[0].kind == "too_long" and "503 tokens" in said[0].said
    [sent] = vllm.asked(COMPLETIONS)
    assert len(sent["prompt"]) + sent["max_tokens"] == 300  # cut where the context ends, as every engine does it
    scored = engine.score([Score(short, "yes"), Score(short, "no " * 100)])
    assert isinstance(scored[1], Refused) and not isinstance(scored[0], Refused)
    assert not [body for body in vllm.asked(COMPLETIONS) if len(body["prompt"]) >= 300]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("This model's maximum context length is 8192 tokens.", "too_long"),
        ("Input is too long for requested model.", "too_long"),
        ("The response was filtered due to content management policy", "refused"),
        ("Conversation roles must alternate user/assistant", "template"),
        ("I do not like it", "refused"),
    ],
)
def test_a_servers_no_to_one_text_is_of_that_text_alone(
    plain: ProtocolServer, connect: Connect, words: str, kind: str
) -> None:
    engine = connect(plain, concurrency=1)
    engine.check()
    plain.fail("/v1/chat/completions", 400, body=words)
    first, second = engine.generate([Generate(CHAT, Sampling(), seed) for seed in (1, 2)])
    assert isinstance(first, Refused) and first.kind == kind and words[:20] in first.said
    assert isinstance(second, Completion)


def test_a_no_that_no_request_would_survive_is_told_once(plain: ProtocolServer, connect: Connect) -> None:
    engine = connect(plain, concurrency=1)
    engine.check()
    plain.fail_forever("/v1/chat/completions", 400, body="I do not like your settings")
    with pytest.raises(UserError, match="I do not like your settings"):
        engine.generate([Generate(CHAT, Sampling(), seed) for seed in range(50)])
    assert len(plain.asked("/v1/chat/completions")) <= 2


def test_an_answer_that_was_filtered_is_none(plain: ProtocolServer, connect: Connect) -> None:
    engine = connect(plain)
    engine.check()
    body = '{"choices": [{"message": {"content": "half of"}, "finish_reason": "content_filter"}]}'
    plain.fail("/v1/chat/completions", "garbage", body=body)
    [found] = engine.generate([Generate(CHAT, Sampling(), 1)])
    assert isinstance(found, Refused) and found.kind == "refused"


def test_a_redirect_is_not_followed(vllm: ProtocolServer, connect: Connect) -> None:
    with running() as elsewhere:
        vllm.fail(COMPLETIONS, 307, headers={"Location": elsewhere.url + "/completions"})
        with pytest.raises(UserError, match="redirects to"):
            say(connect(vllm, api_key=SecretStr("key")))
        assert not elsewhere.requests


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "needs base_url"),
        ("file:///etc/passwd", "must begin with http"),
        ("ftp://example.org/v1", "must begin with http"),
        ("localhost:8000/v1", "must begin with http"),
        ("http:///v1", "name a host"),
        ("http://user:hunter2@example.org/v1", "holds a name or a password"),
        ("//user:hunter2@example.org/v1", "must begin with http"),
        ("http://example.org:eighty/v1", "not a valid address"),
        ("http://example.org/v1?key=hunter2", "must end with its path"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://169.254.1.2:8000/v1", "link-local"),
        ("http://[fe80::1]:8000/v1", "link-local"),
        ("http://[::ffff:169.254.169.254]/v1", "link-local"),
        ("http://[fd00:ec2::254]/v1", "link-local"),
    ],
)
def test_an_address_that_is_no_model_servers_is_refused(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(EngineSettings("openai", "toy", base_url=url))
    assert "hunter2" not in str(caught.value)


def test_a_name_that_stands_for_a_forbidden_address_is_refused_before_anything_is_sent() -> None:
    engine = build(EngineSettings("openai", "toy", base_url="http://2852039166/v1"))  # 169.254.169.254 as one number
    with pytest.raises(UserError, match="link-local"):
        engine.check()
    engine.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api_key": "sk-plain"}, "put it in the environment as OPENAI_API_KEY"),
        ({"api_key": SecretStr("sk-plain\n")}, "line break"),
        ({"concurency": 3}, "concurency: there is no such option; did you mean.*concurrency"),
        ({"attempts": 0}, "attempts: .*greater than or equal to 1"),
        ({"dialect": "klingon"}, "dialect: "),
        ({"tokenizer": "/no/such/folder"}, "not a folder"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(EngineSettings("openai", "toy", base_url="http://localhost:1/v1", options=options))
    assert "sk-plain" not in str(caught.value)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_the_call_and_leaves_the_engine_well(vllm: ProtocolServer, connect: Connect) -> None:
    engine = connect(vllm, concurrency=4)
    engine.check()
    vllm.fail(COMPLETIONS, *["hang"] * 4)

    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        vllm.when(lambda: len(vllm.asked(COMPLETIONS)) == 4)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        engine.generate([Generate(CHAT, Sampling(), seed) for seed in range(50)])
    thread.join()
    assert say(engine).text.startswith("said")
    assert len(vllm.asked(COMPLETIONS)) == 5  # the 46 that waited were never sent


# --- servers that do not take every setting -----------------------------------------------------------------------

HOSTED = {  # what hosted models say, in words of our own
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
    "seed": "Unrecognized request argument supplied: seed",
    "temperature": "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default is.",
    "top_p": "top_p: Extra inputs are not permitted",
    "top_logprobs": "Invalid 'top_logprobs': must be at most 5",
}


@pytest.mark.parametrize("settings", [[name] for name in HOSTED] + [list(HOSTED)], ids=[*HOSTED, "all of them"])
def test_a_setting_that_a_server_does_not_take_is_left_out_and_told_once(
    plain: ProtocolServer, connect: Connect, settings: list[str]
) -> None:
    plain.refuses = {name: HOSTED[name] for name in settings}
    engine = connect(plain)
    words: list[str] = []
    engine.tell(words.append)
    [[choice]] = engine.choose(AB)
    assert isinstance(choice, Choice) and choice.mass > 0
    said = all_answered(engine.generate([Generate(CHAT, Sampling(0.7, 0.9, 7), seed) for seed in range(30)]))
    assert all(len(completion.text) <= 7 for completion in said)
    assert len(words) == len(settings) and all("does not take" in text for text in words)
    asked = len(plain.requests)
    engine.generate([Generate(CHAT, Sampling(0.7, 0.9, 7), seed) for seed in range(30)])
    assert len(plain.requests) == asked + 30  # it is remembered
    last = plain.requests[-1][1]
    assert not [name for name in settings if name in last and name != "top_logprobs"]
    assert ("max_completion_tokens" in last) == ("max_tokens" in settings)
    kept = {"seed", "temperature", "top_p"} - set(settings)
    assert kept <= last.keys()


def test_a_text_that_names_a_setting_takes_none_away(plain: ProtocolServer, connect: Connect) -> None:
    engine = connect(plain, concurrency=1)
    engine.check()
    words: list[str] = []
    engine.tell(words.append)
    plain.fail("/v1/chat/completions", 400, 400, body="content policy: 'what temperature melts steel'")
    first, second = engine.generate([Generate(CHAT, Sampling(0.7), seed) for seed in (1, 2)])
    assert isinstance(first, Refused) and first.kind == "refused" and isinstance(second, Completion)
    assert not words and plain.requests[-1][1]["temperature"] == 0.7


def test_a_server_that_takes_no_logprobs_generates_and_is_no_judge(plain: ProtocolServer, connect: Connect) -> None:
    plain.refuses = {"logprobs": "'logprobs' is not supported with this model"}
    engine = connect(plain)
    assert say(engine).text.startswith("said")
    with pytest.raises(UserError, match=r"shows no log-probabilities .* reasons in words"):
        engine.choose(AB)
