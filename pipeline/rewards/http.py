"""An HTTP endpoint as the reward.

    POST url  {"prompts": [messages, ...], "answers": [text, ...]}  ->  {"rewards": [number, ...]}

A call is tried again, with waits that grow, on a transport failure, a status 408, 425, 429 or 5xx, and an answer that
is no JSON object, until its `timeout` seconds are over, all attempts together. Redirects are not followed and no proxy
is taken from the environment (`pipeline.engines.openai_transport`).

A bearer key comes as a secret object in `api_key`, from whoever reads the environment; a key written out is refused,
because specs are written into job files. What the endpoint computes cannot be known from here: the fingerprint is that
of the URL and of `revision`, which is the user's to change when the endpoint does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from constitution.errors import UserError
from constitution.records import make_id
from pipeline.engines.engine import EngineError
from pipeline.engines.openai_transport import LoopThread, Patience, Secret, Transport, check_address
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue


class HttpOptions(Options):
    url: str
    revision: str = ""
    timeout: float = Field(60.0, gt=0)  # seconds a call may take, with its repetitions
    backoff: float = Field(0.5, ge=0)  # seconds before the second attempt; doubled for each further one


def check(options: Mapping[str, Any]) -> None:
    """The address is one. Nobody is asked."""
    _read(options)


def fingerprint(options: Mapping[str, Any]) -> str:
    given, _ = _read(options)
    return make_id("reward_http", url=given.url.rstrip("/"), revision=given.revision).hex()


def build(options: Mapping[str, Any]) -> HttpReward:
    given, key = _read(options)
    return HttpReward(given, key, fingerprint(options))


class HttpReward:
    """See the module."""

    def __init__(self, options: HttpOptions, key: Secret | None, digest: str) -> None:
        self.fingerprint = digest
        self.name = self._url = options.url.rstrip("/")
        self._timeout = options.timeout
        patience = Patience(timeout=options.timeout, deadline=options.timeout, backoff=options.backoff)
        self._loop = LoopThread()
        self._transport = Transport(self._url, key, patience, 1, setting="url", secret="api_key")

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        """Raises UserError where no rewards come back: in time, or at all."""
        body = {"prompts": [[dict(message) for message in prompt] for prompt in prompts], "answers": list(answers)}
        try:
            answer = self._loop.run(self._ask(body))
        except EngineError as error:
            raise UserError(f"reward {self._url}: {error}") from None
        if "rewards" not in answer:
            raise UserError(
                f'reward {self._url}: the answer has no "rewards", only {", ".join(sorted(answer)) or "nothing"}; '
                'it must be {"rewards": [a number for each answer]}'
            )
        rewards: list[float] = answer["rewards"]  # looked at by `checked`
        return rewards

    async def _ask(self, body: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout + 1):  # the transport's own deadline first: it says more
                return await self._transport.request("POST", self._url, body)
        except TimeoutError:
            raise EngineError(f"no answer within {self._timeout:g} s") from None

    def close(self) -> None:
        self._loop.close(self._transport.close())


def _read(options: Mapping[str, Any]) -> tuple[HttpOptions, Secret | None]:
    given = dict(options)
    key = given.pop("api_key", None)
    if key is not None and not hasattr(key, "get_secret_value"):
        raise UserError(
            "reward (kind http): a key does not belong in a spec, which is written into files; leave it out"
        )
    read_options = read(HttpOptions, "http", given)
    check_address(read_options.url, setting="url", secret="api_key")
    return read_options, key
