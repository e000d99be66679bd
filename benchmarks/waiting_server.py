"""A model server that waits: it answers OpenAI's chat protocol after so many seconds, counts what it was asked, and can
be told to keep the answers of one client. What it says is a hash of what it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.engines.openai_identity import CANARIES

Latency = Callable[[float], float]  # seconds, of a number in [0, 1) that a request's hash is


class Waiting:
    """`asked`: how often each request came; probes and canaries are none. `of`: how many requests each client sent, by
    its key. `keep`: a client whose requests are not answered until `release`."""

    def __init__(self, latency: Latency) -> None:
        self.latency = latency
        self.asked: Counter[str] = Counter()
        self.of: Counter[str] = Counter()
        self.keeps = ""
        self.port = 0
        self._changed = threading.Condition()
        self._released = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def clear(self) -> None:
        self.asked.clear()
        self.of.clear()
        self.keeps = ""
        self._released = asyncio.Event()

    def keep(self, client: str) -> None:
        self.keeps = client

    def release(self, loop: asyncio.AbstractEventLoop) -> None:
        self.keeps = ""
        loop.call_soon_threadsafe(self._released.set)

    def wait_for(self, client: str, requests: int, seconds: float = 120.0) -> None:
        """Until a client has sent so many requests."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.of[client] >= requests, seconds):
                raise RuntimeError(f"{client} never sent {requests} requests")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                answer = json.dumps(await self._answer(body, headers.get("authorization", ""))).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: bytes, key: str) -> dict[str, object]:
        if not body:
            return {"data": [{"id": "waits", "owned_by": "a benchmark"}]}
        asked = json.loads(body)
        text = json.dumps([asked["messages"], asked.get("seed"), asked.get("logprobs")], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        share = int(digest[:8], 16) / 2**32
        if asked["messages"][-1]["content"] != "Hello" and not any(
            c in asked["messages"][-1]["content"] for c in CANARIES
        ):
            client = key.removeprefix("bearer ")
            with self._changed:
                self.asked[digest] += 1
                self.of[client] += 1
                self._changed.notify_all()
            if client == self.keeps:
                await self._released.wait()
            await asyncio.sleep(self.latency(share))
        choice: dict[str, object] = {"finish_reason": "stop", "message": {"content": f"So it is, number {digest[:6]}."}}
        if asked.get("logprobs"):
            top = [{"token": "A", "logprob": -0.7 - share}, {"token": "B", "logprob": -0.7 - (1 - share)}]
            choice["logprobs"] = {"content": [{"top_logprobs": top}]}
        return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


@contextmanager
def waiting(latency: Latency) -> Iterator[tuple[Waiting, asyncio.AbstractEventLoop]]:
    """One, in a thread of its own, and that thread's loop."""
    loop, server, ready = asyncio.new_event_loop(), Waiting(latency), threading.Event()

    async def begin() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(begin())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server, loop
    finally:
        asyncio.run_coroutine_threadsafe(_end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end() -> None:
    """Whoever is still kept waiting gets no answer."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
