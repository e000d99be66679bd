"""Two servers behind one role against one, and what one that dies in the middle costs.

    python -m benchmarks.servers [--requests 192] [--wait 1] [--json]

The servers stand in for vLLM and for a chat server: processes of their own that wait so long for each request, so many
at once, and compute nothing. So it is the engine's sharing that is measured, with the client's own work in it. The goal
is 1.9 times one server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from constitution.records import Message
from pipeline.engines.engine import Chat, Choose, EngineSettings, Generate, Sampling
from pipeline.engines.openai import build
from pipeline.plugins import packaged_model

SLOTS = 8  # requests that a server works on at once
PACKED = 4  # questions of which a server answers as many in the time of one request


async def _serve(owner: str, wait: float) -> None:
    slots = asyncio.Semaphore(SLOTS)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                path = head.split()[1]
                length = next((line for line in head.lower().splitlines() if line.startswith("content-length:")), "")
                body = json.loads(await reader.readexactly(int(length.partition(":")[2])) if length else b"{}")
                data = json.dumps(await _answer(path, body)).encode()
                status = "200 OK" if data != b"{}" else "404 Not Found"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/models":
            return {"data": [{"id": "m", "owned_by": owner}]}
        if not path.endswith("/completions"):
            return {}
        prompts = body.get("prompt", [0])
        number = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], list) else 1
        shown = {f"token_id:{token}": -1.0 for token in body.get("logprob_token_ids", [])}
        async with slots:
            await asyncio.sleep(wait * max(1.0, number / PACKED))
        choice = {"text": "ok", "finish_reason": "stop", "message": {"content": "ok"}, "token_ids": [1]}
        tops = {"content": [{"top_logprobs": [{"token": "A", "logprob": -0.1}]}], "top_logprobs": [shown]}
        return {"choices": [{"index": index, **choice, "logprobs": tops} for index in range(number)]}

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def waiting(owner: str, wait: float) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.servers", "--serve", owner, "--wait", str(wait)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process
        finally:
            process.kill()


def timed(
    urls: list[str], ask: Callable[[Any], list[Any]], then: Callable[[], None] | None = None
) -> tuple[float, Any]:
    """Seconds of a call, and its answers; `then` happens in the middle of it."""
    options = {"tokenizer": str(packaged_model("sandbox:policy")), "backoff": 0.05}
    with closing(build(EngineSettings("openai", "m", "1", base_url=urls, options=options))) as engine:
        engine.tell(lambda text: print(f"  {text}", file=sys.stderr))
        engine.check()
        if then is not None:
            threading.Timer(1.0, then).start()
        began = time.perf_counter()
        found = ask(engine)
        return time.perf_counter() - began, found


def measure(requests: int, wait: float) -> list[dict[str, Any]]:
    chats = [Chat((Message("user", f"How are the boots {number} cleaned?"),)) for number in range(requests)]
    texts = [Generate(chat, Sampling(max_tokens=4), number) for number, chat in enumerate(chats)]
    groups = [Choose((chat,), ("A", "B")) for chat in chats]
    rows = []
    for name, owner, ask in (
        ("texts, vLLM", "vllm", lambda engine: engine.generate(texts)),
        ("verdicts, vLLM, 32 a request", "vllm", lambda engine: engine.choose(groups)),
        ("texts, a chat server", "somebody", lambda engine: engine.generate(texts)),
        ("verdicts, a chat server", "somebody", lambda engine: engine.choose(groups)),
    ):
        with ExitStack() as stack:
            (first, _), (second, process) = [stack.enter_context(waiting(owner, wait)) for _ in range(2)]
            one, two = timed([first], ask), timed([first, second], ask)
            gone = timed([first, second], ask, process.kill)
        assert one[1] == two[1] == gone[1]
        rows.append({"what": name, "one": one[0], "two": two[0], "ratio": one[0] / two[0], "one dies": gone[0]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=192)
    parser.add_argument("--wait", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(_serve(args.serve, args.wait))
        return
    rows = measure(args.requests, args.wait)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{args.requests} requests, {args.wait} s each, {SLOTS} at once on a server")
    for row in rows:
        print(
            f"{row['what']:<30} one {row['one']:.2f} s   two {row['two']:.2f} s   {row['ratio']:.2f} x   "
            f"two, of which one is killed after 1 s: {row['one dies']:.2f} s"
        )


if __name__ == "__main__":
    main()
