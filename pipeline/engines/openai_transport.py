"""JSON over HTTP to a model server that may be slow, busy or dying.

Every request ends in the server's JSON, in UserError (something a person must mend: the key, the address, the request)
or in EngineError (asking again later may mend it). Nothing in between: a transport failure never becomes an answer.
What the JSON means is the engine's business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Generator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
)
from tenacity.wait import wait_exponential_jitter

from constitution.errors import UserError
from pipeline.engines.engine import EngineError
from pipeline.engines.openai_address import refuse_metadata
from pipeline.engines.openai_json import Hiding, Secret, read, read_object
from pipeline.engines.openai_silence import Say, Silence

T = TypeVar("T")
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
MAX_BYTES = 8 * 2**20  # of one response: 32 prompts with their log-probabilities are a hundredth of it
CONNECT_SECONDS = 10.0
IDLE = 10.0  # seconds without a request in which a server may have been exchanged


class Patience(BaseModel, frozen=True, extra="forbid"):
    """How long one request is tried, in seconds, and when the server is given up.

    `timeout` bounds an attempt and `deadline` all of them, waits included. Waits double from `backoff` to
    `max_backoff`, unless the server says `Retry-After`. After `breaker` requests in a row that failed for good, further
    ones are refused at once until `cooldown` has passed.
    """

    attempts: int = Field(8, ge=1)
    timeout: float = Field(300.0, gt=0)
    deadline: float = Field(900.0, gt=0)
    backoff: float = Field(0.5, ge=0)
    max_backoff: float = Field(30.0, ge=0)
    breaker: int = Field(3, ge=1)
    cooldown: float = Field(30.0, ge=0)


class RefusedByServer(UserError):
    """The server understood and said no: a status in the 400s that asking again does not change."""

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said  # the server's own words


class _Transient(Exception):
    """One attempt failed in a way that the next may not."""

    def __init__(self, cause: str, retry_after: float | None = None, busy: bool = False) -> None:
        super().__init__(cause)
        self.retry_after = retry_after
        self.busy = busy  # the server is well, and asks to wait


class _BearerKey(httpx.Auth):
    """Adds the key as the request leaves, so that no variable in a traceback holds it."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class Transport:
    """One server. `request` is called in one event loop; redirects are not followed, and no proxy is taken from the
    environment. A name is looked up here and what is connected to is the address that was looked at, so that a name
    which stands for something else a moment later leads nowhere new."""

    def __init__(
        self,
        address: str,
        key: Secret | None,
        patience: Patience,
        connections: int,
        setting: str = "base_url",
        secret: str = "OPENAI_API_KEY",
    ) -> None:
        self.host = urlsplit(address).netloc
        self._name = urlsplit(address).hostname or ""
        self._key = key
        self._hiding = Hiding(key)
        self._patience = patience
        self._setting, self._secret = setting, secret  # what messages call the address and the key
        # Requests in a row that failed for good, and when the last did. By URL, because vLLM goes on tokenizing when
        # its engine is dead.
        self._failed: dict[str, tuple[int, float]] = {}
        self._silences: dict[str, Silence] = {}  # by URL, for the same reason
        self.say: Say = logging.getLogger(__name__).warning  # where words about a silent server go
        # Whether a failed request is worth waiting for; not where another server can answer it at once.
        self.patient: Callable[[], bool] = lambda: True
        # How often there was reason to ask whether the server still is who it was: a failed connection, or a pause long
        # enough for another to be started in its place.
        self.doubts = 0
        self._last_answer: float | None = None
        self._in_flight = 0
        self._found: list[str] = []  # addresses of the name, each looked at; forgotten when none can be connected to
        _quiet_wire()
        self._client = httpx.AsyncClient(
            auth=_BearerKey(key) if key is not None else None,
            timeout=httpx.Timeout(patience.timeout, connect=min(CONNECT_SECONDS, patience.timeout), pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
        )

    async def request(self, method: str, url: str, body: Any = None, deadline: float | None = None) -> dict[str, Any]:
        """The JSON object at `url`. Raises RefusedByServer (a UserError), UserError or EngineError; see the module."""
        self._refuse_if_broken(url)
        limit = self._patience.deadline if deadline is None else deadline
        ends = time.monotonic() + limit
        now = time.monotonic()
        if self._in_flight == 0 and self._last_answer is not None and now - self._last_answer > IDLE:
            self.doubts += 1
        silence = self._silences.setdefault(url, Silence(self.host, self._of_silence))
        tried_enough = stop_after_attempt(self._patience.attempts) | stop_before_delay(limit)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Transient),
            wait=self._wait,
            stop=lambda state: tried_enough(state) or self._hasty(state),
            reraise=True,
        )
        self._in_flight += 1
        try:
            with silence.waiting(ends):
                answer: dict[str, Any] = await retrying(self._tried, silence, method, url, body, ends)
        except _Transient as failure:
            self._failed[url] = self._failed.get(url, (0, 0.0))[0] + 1, time.monotonic()
            raise EngineError(
                f"the server at {self.host} stopped answering ({failure}); nothing was lost: "
                "see that it is well, then run the same command again"
            ) from None
        finally:
            self._in_flight -= 1
        self._failed.pop(url, None)
        return answer

    async def _tried(self, silence: Silence, method: str, url: str, body: Any, ends: float) -> dict[str, Any]:
        """One attempt, told to those who listen."""
        began = time.monotonic()
        try:
            answer = await self._attempt(method, url, body, ends)
        except _Transient as failure:
            self.doubts += not failure.busy
            silence.failed(str(failure), failure.busy)
            raise
        except RefusedByServer:
            self._heard(silence, began)
            raise
        self._heard(silence, began)
        return answer

    def _heard(self, silence: Silence, began: float) -> None:
        self._last_answer = time.monotonic()
        silence.answered(self._last_answer - began)

    def _of_silence(self, text: str) -> None:
        if self.patient():
            self.say(text)

    def _hasty(self, state: RetryCallState) -> bool:
        """Whether a failure is given up at once. A server that is well and asks to wait is waited for."""
        failure = state.outcome.exception() if state.outcome else None
        return not self.patient() and not (isinstance(failure, _Transient) and failure.busy)

    def silent_for(self) -> float:
        """Seconds that the longest wait has gone on without a word from the server, where that is long for it; 0 where
        it is not."""
        return max((silence.unusual() for silence in self._silences.values()), default=0.0)

    def forgive(self) -> None:
        """Ask again what failed so often that no more was sent."""
        self._failed.clear()

    async def close(self) -> None:
        await self._client.aclose()

    async def tell(self, url: str, seconds: float) -> bool:
        """POST to a route that takes and answers nothing, once. Whether the server did it."""
        try:
            async with asyncio.timeout(seconds):
                response, _ = await self._exchange("POST", url, None)
        except (TimeoutError, httpx.HTTPError, EngineError, _Transient):
            return False
        return response.status_code < 300

    def _refuse_if_broken(self, url: str) -> None:
        failed, last = self._failed.get(url, (0, 0.0))
        if failed >= self._patience.breaker and time.monotonic() < last + self._patience.cooldown:
            raise EngineError(
                f"the server at {self.host} stopped answering: {failed} requests in a row failed, so no more are "
                f"sent for {self._patience.cooldown:g} s; nothing was lost: run the same command again"
            )

    async def _addresses(self) -> list[str]:
        """What the server's name stands for. Raises UserError where one of them is a forbidden address."""
        if not self._found:
            try:
                entries = await asyncio.get_running_loop().getaddrinfo(self._name, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                why = getattr(error, "strerror", None) or "it is no name"
                raise _Transient(f"cannot find {self._name}: {why}") from None
            found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            refuse_metadata(self._name, found, self._setting)
            self._found = found
        return self._found

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, _Transient) and failure.retry_after is not None:
            return failure.retry_after
        first, most = self._patience.backoff, self._patience.max_backoff
        return float(wait_exponential_jitter(initial=first, max=most, jitter=first)(state))

    async def _attempt(self, method: str, url: str, body: Any, ends: float) -> dict[str, Any]:
        seconds = min(self._patience.timeout, max(0.0, ends - time.monotonic()))
        content = None if body is None else _encoded(body)
        try:
            async with asyncio.timeout(seconds):
                response, data = await self._exchange(method, url, content)
        except TimeoutError:
            raise _Transient(f"no answer within {seconds:.3g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = self._shown(str(error)) if str(error) else f"nobody is there within {CONNECT_SECONDS:g} s"
            raise _Transient(f"cannot connect: {why}") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Transient(f"the answer broke off: {type(error).__name__}") from None
        if data is None:
            raise EngineError(
                f"the server at {self.host} answered with more than {MAX_BYTES // 2**20} MiB and was cut off; "
                "nothing of it was kept"
            )
        data = self._hiding.body(data, answer=response.status_code < 300)
        return self._judge(response, data)

    async def _exchange(self, method: str, url: str, content: bytes | None) -> tuple[httpx.Response, bytes | None]:
        """One request to the first of the server's addresses that can be connected to."""
        headers = {"Host": self.host, "Accept-Encoding": "identity"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        addresses = await self._addresses()
        for address in addresses:
            there = httpx.URL(url).copy_with(host=address)
            asked = self._client.stream(
                method, there, content=content, headers=headers, extensions={"sni_hostname": self._name}
            )
            try:
                async with asked as response:
                    if response.headers.get("Content-Encoding", "identity") not in ("", "identity"):
                        raise _Transient("the answer is packed, which was not asked for")  # a bomb, perhaps
                    return response, await _read(response.aiter_raw())
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if address == addresses[-1]:
                    self._found = []  # it may have moved
                    raise
                self._found = [*addresses[1:], address]
        raise AssertionError("a name without addresses was found")

    def _judge(self, response: httpx.Response, data: bytes) -> dict[str, Any]:
        status = response.status_code
        if status in RETRIED:
            seconds = _retry_after(response.headers.get("Retry-After", ""))
            asked = "" if seconds is None else f", asking to wait {seconds:g} s"
            raise _Transient(f"status {status}{asked}: {self._said(data)}", seconds, busy=status == 429)
        if 300 <= status < 400:
            target = self._shown(response.headers.get("Location", "elsewhere"))
            raise UserError(
                f"the server at {self.host} redirects to {target}; set {self._setting} to where it really is"
            )
        said = self._said(data) if status >= 400 else ""
        if status in (401, 403):
            how = f"refused the key in {self._secret}" if self._key else f"wants a key; set {self._secret}"
            raise RefusedByServer(f"the server at {self.host} {how} (status {status}: {said})", status, said)
        if status >= 400:
            raise RefusedByServer(f"the server at {self.host} refused (status {status}): {said}", status, said)
        try:
            answer = read_object(data, self._hiding)
        except ValueError as error:
            raise _Transient(str(error)) from None
        if answer.get("error"):
            raise _Transient(f"no answer in the answer: {self._said(data)}")
        return answer

    def _said(self, data: bytes) -> str:
        """The server's own words, short and fit for a terminal."""
        try:
            parsed = read(data, self._hiding)
            error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
            text = error.get("message", error) if isinstance(error, dict) else error
        except ValueError:
            text = data[:20_000].decode("utf-8", "replace")
        return self._shown(str(text)) or "no reason given"

    def _shown(self, text: str) -> str:
        text = self._hiding.message(text[:20_000])  # some servers repeat the key they refuse
        return " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:300]


def _quiet_wire() -> None:
    """Keep headers, in which a server may repeat the key, out of a log that shows everything."""
    wire = logging.getLogger("httpcore")
    if wire.level == logging.NOTSET:
        wire.setLevel(logging.INFO)


async def _read(chunks: AsyncIterator[bytes]) -> bytes | None:
    """The whole body, or None when it is larger than MAX_BYTES; the rest is then never fetched."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_BYTES:
            return None
    return bytes(body)


def _encoded(body: Any) -> bytes:
    """ASCII JSON. A lone surrogate, which no tokenizer takes, goes out as U+FFFD."""
    text = json.dumps(body, allow_nan=False)
    if "\\ud" in text:
        text = json.dumps(_cleaned(json.loads(text)))
    return text.encode("ascii")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    return value


def _retry_after(header: str) -> float | None:
    """Seconds to wait: the header holds a number, or an HTTP date (RFC 9110, section 10.2.3)."""
    try:
        return max(0.0, min(float(header), 86_400.0))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
