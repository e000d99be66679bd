"""The web application: `/v1/models`, `/v1/chat/completions`, `/v1/completions`, and vLLM's `/tokenize`, `/detokenize`
and `/tokenizer_info`, by which precept's own engine asks for the same ids here as it makes itself.

A body is read up to `BODY` bytes, all of them together up to `BODIES`; a key is asked of every request where there is
one. Without a key the server is for this machine alone, and a web page that a browser there shows is kept out by the
`Host` header and by the body's type, which no page can send unasked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from constitution.errors import UserError
from pipeline.engines.engine import Chat, Refused, Sampling
from pipeline.serving import answers, bodies
from pipeline.serving.bodies import Body, Completion, Conversation, Mistake
from pipeline.serving.model import Continue, Read, ServedModel, Step
from pipeline.serving.waiting import Closed, Full, Job, Waiting

log = logging.getLogger(__name__)
T = TypeVar("T")
BODY = 4 << 20  # bytes
BODIES = 64 << 20  # bytes, of all that are being answered
SLOW = 30.0  # seconds that a body may take to come
CHAT_TOKENS = 1024  # of an answer whose request does not say how long it may be
LOOK = 1.0  # seconds between two looks at whether who asked is still there
HERE = ("localhost", "127.0.0.1", "[::1]", "testserver")


@dataclass(frozen=True)
class Serving:
    """What is served. `name`: of the model, as clients write it. `key`: what they have to show; empty: nothing, and
    only this machine is answered. `most`: texts that may wait or be at work."""

    model: ServedModel
    name: str
    key: str = ""
    most: int = 512


def build(of: Serving) -> FastAPI:
    """The application. Its model's thread starts with it and ends when it is shut down."""
    protocol = Protocol(of)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        protocol.waiting = Waiting(of.model, of.most)
        try:
            yield
        finally:
            await asyncio.to_thread(protocol.waiting.close)

    app = FastAPI(title="precept", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)

    async def guarded(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
        try:
            protocol.admit(request)
            return await answer()
        except Mistake as mistake:
            return _json(mistake.as_dict(), mistake.status)
        except UserError as error:
            return _json(Mistake(400, str(error)).as_dict(), 400)
        except Full:
            full = Mistake(429, f"{of.most} texts wait or are at work already; ask again", code="full")
            return _json(full.as_dict(), 429, {"Retry-After": "1"})
        except Closed:
            return _json(Mistake(503, "the server is being stopped").as_dict(), 503)
        except Exception:
            log.exception("a request failed")
            return _json(Mistake(500, "the server failed; its log says why").as_dict(), 500)

    def post(path: str, handle: Callable[[Request, dict[str, Any]], Awaitable[Response]]) -> None:
        async def endpoint(request: Request) -> Response:
            async def answer() -> Response:
                async with protocol.body(request) as given:
                    return await handle(request, given)

            return await guarded(request, answer)

        app.add_api_route(path, endpoint, methods=["POST"], response_model=None)

    def get(path: str, found: Callable[[], dict[str, Any]]) -> None:
        async def endpoint(request: Request) -> Response:
            async def answer() -> Response:
                return _json(found())

            return await guarded(request, answer)

        app.add_api_route(path, endpoint, methods=["GET"], response_model=None)

    async def unknown(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _json(Mistake(status, f"{request.method} is not answered there").as_dict(), status)

    app.add_exception_handler(HTTPException, unknown)
    post("/v1/chat/completions", protocol.chat)
    post("/v1/completions", protocol.complete)
    post("/tokenize", protocol.tokenize)
    post("/detokenize", protocol.detokenize)
    get("/tokenizer_info", of.model.described)
    get("/v1/models", protocol.models)
    get("/health", dict)
    return app


class Protocol:
    """The endpoints. Each raises what `guarded` turns into an answer."""

    def __init__(self, of: Serving) -> None:
        self._of, self._model = of, of.model
        self._since = int(time.time())
        self._bytes = 0
        self._reading = asyncio.Lock()  # of texts: one at a time goes through the tokenizer
        self.waiting: Waiting

    # --- who may ask, and what comes in ---

    def admit(self, request: Request) -> None:
        """Raises Mistake where the key is not shown, or a page of another site may be asking."""
        if self._of.key:
            said = request.headers.get("authorization", "")
            if not hmac.compare_digest(said.encode("utf-8", "replace"), f"Bearer {self._of.key}".encode()):
                raise Mistake(401, "the API key is missing or another", code="invalid_api_key")
        elif request.headers.get("host", "").rsplit(":", 1)[0] not in HERE:
            raise Mistake(403, "without an API key only localhost is answered", code="host")

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """What was sent; its bytes count as in use until it is answered. Raises Mistake."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Mistake(415, "send the body as application/json")
        data, held = bytearray(), 0
        try:
            try:
                async with asyncio.timeout(SLOW):
                    async for chunk in request.stream():
                        if len(data) + len(chunk) > BODY:
                            raise Mistake(413, f"a body has at most {BODY} bytes")
                        if self._bytes + len(chunk) > BODIES:
                            raise Full
                        self._bytes, held = self._bytes + len(chunk), held + len(chunk)
                        data += chunk
            except TimeoutError:
                raise Mistake(408, f"the body took more than {SLOW:.0f} seconds to come") from None
            given = bodies.read(bytes(data))
            data.clear()
            yield given
        finally:
            self._bytes -= held

    def _checked(self, kind: type[bodies.B], given: dict[str, Any]) -> bodies.B:
        asked = bodies.checked(kind, given)
        if asked.model != self._of.name:
            raise Mistake(404, f"there is no model {asked.model[:100]!r}; there is {self._of.name!r}", "model")
        return asked

    async def _read(self, reading: Callable[[], T]) -> T:
        async with self._reading:
            return await asyncio.to_thread(reading)

    # --- what is asked for ---

    def models(self) -> dict[str, Any]:
        of = {"id": self._of.name, "object": "model", "created": self._since, "owned_by": "precept"}
        if self._model.context is not None:
            of["max_model_len"] = self._model.context
        return {"object": "list", "data": [of]}

    async def chat(self, request: Request, given: dict[str, Any]) -> Response:
        asked = self._checked(Conversation, given)
        chat, stops = asked.chat(), asked.stops()
        if asked.top_logprobs and not asked.logprobs:
            raise Mistake(400, "top_logprobs is told where logprobs is true", "top_logprobs")
        before, prompt = await self._read(lambda: self._model.chats.prompt(chat))
        most = asked.max_completion_tokens or asked.max_tokens or CHAT_TOKENS
        top = (asked.top_logprobs or 0) if asked.logprobs else None
        plan = Plan(self, asked, [prompt], most, stops, top=top, chat=(chat, before))

        def shown(place: int, done: Done) -> dict[str, Any]:
            message = {"role": "assistant", "content": done.text}
            if done.reasoning:
                message["reasoning_content"] = done.reasoning
            logs = {"logprobs": answers.of_chat(self._model, done.steps) if top is not None else None}
            return {"index": place, "message": message, "finish_reason": done.why, **logs}

        return await plan.answer(request, "chat.completion", "chatcmpl", shown)

    async def complete(self, request: Request, given: dict[str, Any]) -> Response:
        asked = self._checked(Completion, given)
        stops = asked.stops()
        model, as_ids, wanted = self._model, asked.return_tokens_as_token_ids, tuple(asked.logprob_token_ids)
        if any(token >= model.vocabulary for token in wanted):
            raise Mistake(400, f"logprob_token_ids: ids are under {model.vocabulary}", "logprob_token_ids")
        if wanted and asked.logprobs is None:
            raise Mistake(400, "logprob_token_ids are told where logprobs is set", "logprob_token_ids")
        prompts = await self._read(lambda: asked.prompts(model))
        all_of_it = (asked.echo and asked.logprobs is not None) or asked.prompt_logprobs is not None
        top = asked.logprobs if asked.prompt_logprobs is None else max(asked.prompt_logprobs, asked.logprobs or 0)
        plan = Plan(
            self, asked, prompts, asked.max_tokens, stops,
            top=top, from_start=all_of_it, wanted=wanted, special=not asked.skip_special_tokens,
        )  # fmt: skip

        def shown(place: int, done: Done) -> dict[str, Any]:
            prompt = prompts[place // asked.n]
            steps, split = done.steps, len(prompt) if all_of_it else 0
            found = {"index": place, "text": done.text, "finish_reason": done.why, "logprobs": None}
            if asked.echo:
                found["text"] = model.decode(prompt, not asked.skip_special_tokens) + done.text
            if asked.logprobs is not None:
                found["logprobs"] = answers.of_completion(model, steps if asked.echo else steps[split:], as_ids)
            if asked.prompt_logprobs is not None:
                found["prompt_logprobs"] = answers.of_prompt(model, steps[:split])
            if asked.return_token_ids:
                found["token_ids"] = list(done.ids)
            return found

        if asked.stream and (asked.echo or asked.return_token_ids):
            raise Mistake(400, "echo and return_token_ids are not streamed", "stream")
        return await plan.answer(request, "text_completion", "cmpl", shown)

    async def tokenize(self, request: Request, given: dict[str, Any]) -> Response:
        """Of a text (`prompt`) or of a chat (`messages`), whose text is read as it stands."""
        special = given.get("add_special_tokens", "messages" not in given)
        if isinstance(text := given.get("prompt"), str):
            ids = await self._read(lambda: self._model.encode(text, bool(special)))
        else:
            messages = {k: v for k, v in given.items() if k in ("messages", "chat_template_kwargs")}
            asked = bodies.checked(Conversation, {"model": self._of.name, **messages})
            open_turn = given.get("add_generation_prompt", True) is not False
            ids = await self._read(lambda: self._model.rendered(asked.chat(), open_turn))
        return _json({"tokens": ids, "count": len(ids), "max_model_len": self._model.context})

    async def detokenize(self, request: Request, given: dict[str, Any]) -> Response:
        ids = given.get("tokens")
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < self._model.vocabulary for i in ids):
            raise Mistake(400, "tokens: a list of token ids", "tokens")
        return _json({"prompt": await self._read(lambda: self._model.decode(ids, True))})


@dataclass(frozen=True)
class Done:
    text: str
    reasoning: str
    why: str
    ids: Sequence[int]
    steps: Sequence[Step]


class Plan:
    """One request: its prompts, each `n` times, sampled and read. `top` none: no log-probabilities; `from_start`: of
    the prompt, too."""

    def __init__(
        self, protocol: Protocol, asked: Body, prompts: Sequence[Sequence[int]], most: int, stops: tuple[str, ...], *,
        top: int | None, from_start: bool = False, wanted: tuple[int, ...] = (), special: bool = False,
        chat: tuple[Chat, str] | None = None,
    ) -> None:  # fmt: skip
        self._protocol, self._asked, self._most = protocol, asked, most
        self._top, self._from_start, self._wanted = top, from_start, wanted
        model, self._waiting = protocol._model, protocol.waiting
        self._stop = frozenset(asked.stop_token_ids)
        if len(prompts) * asked.n > self._waiting.most:
            raise Mistake(400, f"one request asks for at most {self._waiting.most} texts", "n")
        for prompt in prompts:
            if model.context is not None and len(prompt) + (most > 0) > model.context:
                raise Mistake(
                    400, f"a prompt has {len(prompt)} tokens, and the model reads and writes at most {model.context}",
                    "messages" if chat else "prompt", "context_length_exceeded",
                )  # fmt: skip
        if asked.stream and (top is not None or not most):
            raise Mistake(400, "log-probabilities are not streamed, and neither is nothing", "stream")
        first = secrets.randbits(62) if asked.seed is None else asked.seed
        self._prompts = [tuple(prompt) for prompt in prompts for _ in range(asked.n)]
        self._seeds = [_seed(first, place % asked.n) for place in range(len(self._prompts))]
        end = model.stop | self._stop
        self._texts = [answers.Text(model, prompt, stops, end, chat, special) for prompt in self._prompts]

    def _sampling(self, prompt: Sequence[int]) -> Sampling:
        context = self._protocol._model.context
        room = self._most if context is None else min(self._most, context - len(prompt))
        return Sampling(self._asked.temperature, self._asked.top_p, room)

    def _continues(self, notice: Callable[[int, list[int]], None] | None = None) -> list[Continue]:
        def one(place: int, prompt: tuple[int, ...]) -> Continue:
            def ended(written: list[int]) -> bool:
                if notice is not None:
                    notice(place, written)
                return self._texts[place].ended(written)

            return Continue(prompt, self._sampling(prompt), self._seeds[place], self._stop, ended)

        return [one(place, prompt) for place, prompt in enumerate(self._prompts)]

    async def answer(
        self, request: Request, what: str, short: str, shown: Callable[[int, Done], dict[str, Any]]
    ) -> Response:
        head = {"id": f"{short}-{secrets.token_hex(12)}", "object": what, "created": int(time.time()),
                "model": self._asked.model}  # fmt: skip
        if self._asked.stream:
            return self._streamed(head)
        done = await self._done(request)
        usage = self._usage(sum(len(each.ids) for each in done))
        return _json({**head, "choices": [shown(place, each) for place, each in enumerate(done)], "usage": usage})

    def _usage(self, written: int) -> dict[str, int]:
        read = sum(map(len, self._prompts[:: self._asked.n]))
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def _done(self, request: Request) -> list[Done]:
        steps: list[list[Step]] = [[] for _ in self._prompts]
        starts = [0 if self._from_start else len(prompt) for prompt in self._prompts]
        written: list[list[int]] = [[] for _ in self._prompts]
        if self._most <= 1:  # one pass reads the prompt and draws the token
            reads = [
                Read(prompt, start, self._top or 0, self._wanted, self._sampling(prompt) if self._most else None, seed)
                for prompt, start, seed in zip(self._prompts, starts, self._seeds, strict=True)
            ]
            steps = await self._asked_for(request, reads)
            if self._most:
                written = [[found[-1].token] for found in steps]
        else:
            written = await self._asked_for(request, self._continues())
            if self._top is not None:
                steps = await self._asked_for(
                    request,
                    [
                        Read((*prompt, *ids), start, self._top, self._wanted)
                        for prompt, ids, start in zip(self._prompts, written, starts, strict=True)
                    ],
                )
        return [Done(*text.of(ids), ids, found) for text, ids, found in zip(self._texts, written, steps, strict=True)]

    async def _asked_for(self, request: Request, asked: Sequence[Continue | Read]) -> list[Any]:
        """What was found of each; given up where whoever asked is gone. Raises Mistake for one that is refused."""
        jobs = self._waiting.put(asked)
        try:
            told = [asyncio.wrap_future(job.done) for job in jobs]
            left: set[asyncio.Future[Any]] = set(told)
            while left := (await asyncio.wait(left, timeout=LOOK))[1]:
                if await request.is_disconnected():
                    raise Mistake(499, "whoever asked is gone")
            failed = [error for each in told if (error := each.exception())]
            if failed:
                raise failed[0]
            found = [each.result() for each in told]
        finally:
            _give_up(jobs)
        for one in found:
            if isinstance(one, Refused):
                raise Mistake(400, one.said, "prompt", one.kind)
        return found

    def _streamed(self, head: dict[str, Any]) -> Response:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        seen: dict[int, list[int]] = {}

        def notice(place: int, written: list[int]) -> None:
            seen[place] = written  # which the model's thread goes on to write
            loop.call_soon_threadsafe(changed.set)

        jobs = self._waiting.put(self._continues(notice))
        return StreamingResponse(self._events(head, jobs, seen, changed), media_type="text/event-stream")

    async def _events(
        self, head: dict[str, Any], jobs: list[Job], seen: dict[int, list[int]], changed: asyncio.Event
    ) -> AsyncIterator[bytes]:
        chat = head["object"] == "chat.completion"
        head = {**head, "object": "chat.completion.chunk"} if chat else head
        sent = [("", "")] * len(jobs)
        open_, written = set(range(len(jobs))), 0

        def event(place: int, text: str, reasoning: str, why: str | None, first: bool = False) -> bytes:
            choice: dict[str, Any] = {"index": place, "finish_reason": why}
            if chat:
                delta = {"role": "assistant", "content": ""} if first else {}
                delta |= {"content": text} if text else {}
                choice["delta"] = delta | ({"reasoning_content": reasoning} if reasoning else {})
            else:
                choice["text"] = text
            return _event({**head, "choices": [choice]})

        try:
            if chat:
                for place in range(len(jobs)):
                    yield event(place, "", "", None, first=True)
            futures = [asyncio.wrap_future(job.done) for job in jobs]
            for future in futures:
                future.add_done_callback(lambda _: changed.set())
            while open_:
                await changed.wait()
                changed.clear()
                for place in sorted(open_):
                    why = None
                    if futures[place].done():
                        found: Any = futures[place].result()
                        if isinstance(found, Refused):
                            raise Mistake(400, found.said, "prompt", found.kind)
                        *texts, why = self._texts[place].of(found)
                        written += len(found)
                        open_.discard(place)
                    else:
                        texts = list(self._texts[place].sure(list(seen.get(place, ()))))
                    new = [
                        text.removeprefix(old) if text.startswith(old) else ""
                        for text, old in zip(texts, sent[place], strict=True)
                    ]
                    if any(new) or why:
                        sent[place] = sent[place][0] + new[0], sent[place][1] + new[1]
                        yield event(place, new[0], new[1], why)
            if self._asked.stream_options and self._asked.stream_options.include_usage:
                yield _event({**head, "choices": [], "usage": self._usage(written)})
            yield b"data: [DONE]\n\n"
        except Exception as error:  # the answer has begun: what went wrong is its last event
            mistake = error if isinstance(error, Mistake) else Mistake(500, "the server failed, or was stopped")
            yield _event(mistake.as_dict())
        finally:
            _give_up(jobs)


def _give_up(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.done.cancel()


def _seed(first: int, place: int) -> int:
    """Of each of the answers to one prompt; the first has the seed that was given."""
    if not place:
        return first
    return int.from_bytes(hashlib.sha256(f"{first}:{place}".encode()).digest()[:7])


def _event(found: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(found)}\n\n".encode()


def _json(found: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(found, separators=(",", ":"), allow_nan=False)
    return Response(content, status, headers, media_type="application/json")
