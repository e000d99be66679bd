"""An HTTP endpoint as a reward, against a real server on this machine that breaks on demand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline import rewards
from tests.pipeline.rewards.endpoint import Answer, Endpoint, running_endpoint

HELLO = [{"role": "user", "content": "Hello."}]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running_endpoint() as server:
        yield server


@pytest.fixture
def build(endpoint: Endpoint) -> Iterator[Callable[..., Any]]:
    built = []

    def make(**options: Any) -> Any:
        built.append(rewards.build({"kind": "http", "url": endpoint.url, "backoff": 0.001, **options}))
        return built[-1]

    yield make
    for reward in built:
        reward.close()


def test_dialogues_and_answers_go_out_and_numbers_come_back(endpoint: Endpoint, build: Callable[..., Any]) -> None:
    asked = [[*HELLO, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Ünd?"}], HELLO]
    assert build().score(asked, ["abc", ""]) == [3.0, 0.0]
    assert endpoint.bodies == [{"prompts": asked, "answers": ["abc", ""]}]
    assert endpoint.keys == [None]


@pytest.mark.parametrize("fault", [(500, "oops"), (503, ""), (429, "slow down"), (200, "not JSON"), (200, "[1.0]")])
def test_a_fault_that_passes_is_asked_again(endpoint: Endpoint, build: Callable[..., Any], fault: Answer) -> None:
    endpoint.script = [fault, fault]
    assert build().score([HELLO], ["abc"]) == [3.0]
    assert len(endpoint.bodies) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, '{"scores": [1]}'), 'the answer has no "rewards", only scores'),
        ((200, '{"rewards": [1, 2]}'), "returned 2 rewards for 1 answers"),
        ((200, '{"rewards": [NaN]}'), "returned nan for the answer 'abc'"),
        ((200, '{"rewards": ["1"]}'), "returned '1' for the answer 'abc'"),
        ((200, '{"rewards": [true]}'), "rewarded with true or false"),
        ((200, '{"rewards": [1e400]}'), "returned inf for the answer 'abc'"),
        ((200, '{"rewards": [' + "9" * 5000 + "]}"), "returned inf for the answer 'abc'"),
        ((200, '{"rewards": [[[1]]]}'), r"returned \[\[1\]\] for the answer 'abc'"),
        ((200, '{"rewards": [{"a": 1}]}'), "for the answer 'abc'"),
        ((200, '{"rewards": 1}'), r"returned 1 \(int\), which is no list"),
        ((400, '{"error": "no such model"}'), r"refused \(status 400\): no such model"),
        ((401, ""), "wants a key; set api_key_env"),
        ((302, ""), "redirects to elsewhere; set url to where it really is"),
    ],
)
def test_what_asking_again_cannot_mend_is_told_at_once(
    endpoint: Endpoint, build: Callable[..., Any], answer: Answer, message: str
) -> None:
    endpoint.script = [answer]
    with pytest.raises(UserError, match=message):
        build().score([HELLO], ["abc"])
    assert len(endpoint.bodies) == 1


def test_an_endpoint_that_stays_broken_is_given_up(endpoint: Endpoint, build: Callable[..., Any]) -> None:
    endpoint.script = [(500, "out of memory")] * 20
    with pytest.raises(UserError, match=r"stopped answering \(status 500: out of memory\)"):
        build().score([HELLO], ["abc"])
    assert len(endpoint.bodies) == 8


def test_an_endpoint_that_hangs_is_given_up(endpoint: Endpoint, build: Callable[..., Any]) -> None:
    released = threading.Event()
    endpoint.script = [released]
    with pytest.raises(UserError, match="no answer within 0"):
        build(timeout=0.2).score([HELLO], ["abc"])
    released.set()


def test_nobody_there_is_told(build: Callable[..., Any]) -> None:
    reward = rewards.build({"kind": "http", "url": "http://127.0.0.1:9/score", "backoff": 0.001})
    with pytest.raises(UserError, match=r"the server at 127.0.0.1:9 stopped answering \(cannot connect"):
        reward.score([HELLO], ["abc"])
    reward.close()


def test_the_key_is_sent_and_shown_nowhere(
    endpoint: Endpoint, build: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UserError, match="the environment has no SCORER_KEY"):
        rewards.check({"kind": "http", "url": endpoint.url, "api_key_env": "SCORER_KEY"})
    monkeypatch.setenv("SCORER_KEY", "sk-secret")
    reward = build(api_key_env="SCORER_KEY")
    assert reward.score([HELLO], ["abc"]) == [3.0]
    assert endpoint.keys == ["Bearer sk-secret"]
    assert reward.fingerprint == build().fingerprint
    endpoint.script = [(403, "sk-secret is not known")]
    with pytest.raises(UserError, match="refused the key in SCORER_KEY") as told:
        reward.score([HELLO], ["abc"])
    assert "sk-secret" not in caplog.text + str(told.value)


def test_the_fingerprint_is_the_urls_and_the_revisions() -> None:
    spec = {"kind": "http", "url": "http://host/score"}
    assert rewards.fingerprint({**spec, "url": "http://host/score/", "timeout": 5}) == rewards.fingerprint(spec)
    assert rewards.fingerprint({**spec, "revision": "2"}) != rewards.fingerprint(spec)
