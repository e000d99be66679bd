"""A real HTTP server that speaks both dialects of the openai engine, around a toy language model, and breaks on demand.

The toy model is a hash: `distribution(ids)` is its next-token distribution, so a test knows the right answer to any
request. Its tokenizer has bytes, four special tokens, and " A" and " B", which are tokens other than "A" and "B".
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.engines.engine import EngineSettings
from pipeline.engines.openai import OpenAIEngine
from pipeline.engines.openai_identity import CANARIES

Connect = Callable[..., OpenAIEngine]  # the fixture `connect`: a server and settings in, an engine out

SPECIAL = {"<|user|>": 256, "<|assistant|>": 257, "<|end|>": 258, "<|system|>": 259, " A": 300, " B": 301}
TEXTS = {token: text for text, token in SPECIAL.items()}
VOCABULARY = 320
LABELS = (65, 66, 300, 301)  # "A", "B", " A", " B": made likely
_PIECE = re.compile("|".join(map(re.escape, SPECIAL)) + "|.", re.DOTALL)


def encode(text: str) -> list[int]:
    pieces = ([SPECIAL[piece]] if piece in SPECIAL else list(piece.encode()) for piece in _PIECE.findall(text))
    return [token for piece in pieces for token in piece]


def decode(ids: Sequence[int]) -> str:
    parts = (TEXTS[token].encode() if token in TEXTS else bytes([token % 256]) for token in ids)
    return b"".join(parts).decode("utf-8", "replace")


def chat_text(messages: Sequence[dict[str, str]], open_turn: bool = True, think: bool = False) -> str:
    turns = "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages)
    return turns + ("<|assistant|>" + "<think>" * think if open_turn else "")


def distribution(ids: Sequence[int], weights: bytes = b"") -> list[float]:
    """Log-probabilities of every next token after `ids`."""
    numbers = random.Random(hashlib.sha256(weights + repr(list(ids)).encode()).digest())
    logits = [numbers.gauss(0, 1) + 5 * (token in LABELS) for token in range(VOCABULARY)]
    total = math.log(math.fsum(math.exp(logit) for logit in logits))
    return [logit - total for logit in logits]


class TooLong(Exception):
    """What vLLM says to a prompt that is longer than its context."""


@dataclass
class Fault:
    """What happens to one request: a status, or half, hang, slow, garbage, drop, nothing or huge."""

    how: int | str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


class ProtocolServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        dialect: str = "vllm",
        key: str | None = None,
        models: Sequence[str] = ("toy",),
        context: int | None = None,
        tells_context: bool = True,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.dialect = dialect
        self.key = key
        self.models = models
        self.context, self.tells_context = context, tells_context  # tokens of a prompt and its answer; None: any
        self.weights = b""  # other weights are another model
        self.template = ""  # put before every chat
        self.requests: list[tuple[str, dict[str, Any]]] = []  # path and body, in order of arrival
        self.headers: list[dict[str, str]] = []
        self.faults: dict[str, deque[Fault]] = {}  # by path
        self.forever: dict[str, Fault] = {}
        self.honours_logprob_token_ids = True
        self.refuses: dict[str, str] = {}  # settings that it does not take, and what it says then
        self.without: set[str] = set()  # paths that are not there
        self.can_sleep = self.asleep = False
        self.drops_zero_width = False  # as normalisers do
        self.shows_logprobs = True
        self.shows_logits = False
        self.reply: str | None = None  # what every generation says, whatever max_tokens
        self.crowd: dict[str, int] = {}  # by path: answers wait until so many requests have been there at once
        self.peak: Counter[str] = Counter()  # most requests at once, by path
        self.released = threading.Event()
        self._now: Counter[str] = Counter()
        self._lock = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def when(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so; fails after 20 seconds."""
        end = time.monotonic() + 20
        while not reached():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)

    def fail(self, path: str, *hows: int | str, headers: dict[str, str] | None = None, body: str = "") -> None:
        """The next requests of `path` end as `hows` say, one each. "probe" is the path of one-token probes, "canary"
        that of questions about who the server is."""
        self.faults.setdefault(path, deque()).extend(Fault(how, headers or {}, body) for how in hows)

    def fail_forever(self, path: str, how: int | str, body: str = "") -> None:
        self.forever[path] = Fault(how, {}, body)

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Bodies of the requests of a path ("probe" for probes, "canary" for who the server is) so far."""
        return [body for where, body in self.requests if kind_of(where, body) == path]

    @contextmanager
    def counted(self, path: str) -> Iterator[Fault | None]:
        with self._lock:
            self._now[path] += 1
            self.peak[path] = max(self.peak[path], self._now[path])
            self._lock.notify_all()
            self._lock.wait_for(lambda: self.peak[path] >= self.crowd.get(path, 0), timeout=20)
            waiting = self.faults.get(path)
            fault = waiting.popleft() if waiting else self.forever.get(path)
        try:
            yield fault
        finally:
            with self._lock:
                self._now[path] -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


def kind_of(path: str, body: dict[str, Any]) -> str:
    """The path of a request; of those that an engine makes by itself, what it is."""
    return "probe" if _is_probe(body) else "canary" if _is_canary(body) else path


def _is_canary(body: dict[str, Any]) -> bool:
    asked = [message["content"] for message in body.get("messages", [])]
    prompts = body.get("prompt") or []
    if isinstance(prompts, list) and prompts and isinstance(prompts[0], list):
        asked += [text for ids in prompts for text in [decode(ids)]]
    return any(canary in text for canary in CANARIES for text in asked)


def _is_probe(body: dict[str, Any]) -> bool:
    return body.get("prompt") == "Hello" or (
        body.get("messages") == [{"role": "user", "content": "Hello"}] and body.get("max_tokens") == 1
    )


def quick(server: ProtocolServer, model: str = "toy", revision: str = "1", **options: Any) -> EngineSettings:
    """Settings of an engine for this server, with little patience."""
    options = {"backoff": 0.01, "max_backoff": 0.02, "attempts": 4, "timeout": 20.0, "deadline": 40.0, **options}
    return EngineSettings("openai", model, revision, "bfloat16", base_url=server.url, options=options)


@contextmanager
def running(**settings: Any) -> Iterator[ProtocolServer]:
    server = ProtocolServer(**settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 2**16  # headers and body in one piece
    server: ProtocolServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path in ("/sleep?level=1", "/wake_up"):
            return self._sleep()
        self._serve(json.loads(data))

    def _sleep(self) -> None:
        """vLLM's routes of sleep mode, which answer nothing. Who is asked while it sleeps does not answer."""
        server = self.server
        server.requests.append((self.path, {}))
        if not server.can_sleep:
            return self._send(404, {"detail": "Not Found"})
        server.asleep = self.path != "/wake_up"
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _serve(self, body: dict[str, Any]) -> None:
        server = self.server
        server.requests.append((self.path, body))
        server.headers.append(dict(self.headers))
        with server.counted(kind_of(self.path, body)) as fault:
            if server.asleep:
                return self._send(500, {"error": {"message": "it sleeps"}})
            if fault is not None:
                return self._break(fault)
            if server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}":
                given = self.headers.get("Authorization", "nothing")
                return self._send(401, {"error": {"message": f"bad key: {given}"}})
            if "model" in body and body["model"] not in server.models:
                return self._send(404, {"error": {"message": f"no model {body['model']}"}})
            answers = {
                "/v1/models": self._models,
                "/v1/chat/completions": self._chat,
                **(
                    {
                        "/tokenizer_info": self._tokenizer_info,
                        "/tokenize": self._tokenize,
                        "/detokenize": self._detokenize,
                        "/v1/completions": self._complete,
                    }
                    if server.dialect == "vllm"
                    else {}
                ),
            }
            if self.path not in answers or self.path in server.without:
                return self._send(404, {"error": {"message": "no such path"}})
            for name, words in server.refuses.items():
                if name in body and not (name == "top_logprobs" and body[name] <= 5):
                    return self._send(400, {"error": {"message": words}})
            try:
                self._send(200, answers[self.path](body))
            except TooLong as error:
                self._send(400, {"error": {"message": str(error), "param": "input_tokens"}})

    def _break(self, fault: Fault) -> None:
        if isinstance(fault.how, int):
            return self._send(fault.how, {"error": {"message": fault.body or "scripted"}}, fault.headers)
        whole = json.dumps({"choices": [{"index": 0, "text": "half an answer", "finish_reason": "stop"}]}).encode()
        self.close_connection = True
        if fault.how == "hang":
            self.server.released.wait(30)
        elif fault.how == "nothing":
            self._send_bytes(200, b"", 0)
        elif fault.how == "garbage":
            text = fault.body or "<html>503 but saying 200</html>"
            self._send_bytes(200, text.encode(), len(text.encode()))
        elif fault.how == "half":
            self._send_bytes(200, whole[: len(whole) // 2], len(whole))
        elif fault.how == "slow":
            self._send_bytes(200, b"", len(whole))
            for byte in whole:
                if self.server.released.wait(0.1):
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        elif fault.how == "huge":
            self._send_bytes(200, b'{"choices": [{"text": "', 2**40)
            for _ in range(64):
                self.wfile.write(b"x" * 2**20)
        else:
            assert fault.how == "drop"

    def _send(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(answer).encode()
        self._send_bytes(status, data, len(data), headers or {})

    def _send_bytes(self, status: int, data: bytes, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _fit(self, tokens: int) -> None:
        context = self.server.context
        if context is not None and tokens >= context:
            raise TooLong(
                f"This model's maximum context length is {context} tokens. However, your prompt contains {tokens} "
                "input tokens, which exceeds this limit even without any output tokens."
            )

    def _models(self, body: dict[str, Any]) -> dict[str, Any]:
        owner = "vllm" if self.server.dialect == "vllm" else "somebody"
        told = {"max_model_len": self.server.context} if self.server.tells_context else {}
        return {"object": "list", "data": [{"id": name, "owned_by": owner, **told} for name in self.server.models]}

    def _tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        if "messages" in body:
            arguments = body.get("chat_template_kwargs") or {}
            text = self.server.template + chat_text(body["messages"], body["add_generation_prompt"], **arguments)
        else:
            text = body["prompt"]
        if self.server.drops_zero_width:
            text = text.replace("\u200b", "")
        tokens = encode(text)
        return {"count": len(tokens), "max_model_len": 4096, "tokens": tokens}

    def _tokenizer_info(self, body: dict[str, Any]) -> dict[str, Any]:
        added = {str(token): text for text, token in SPECIAL.items() if text.startswith("<")}
        return {"tokenizer_class": "Toy", "eos_token": "<|end|>", "added_tokens_decoder": added, "chat_template": "{}"}

    def _detokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": decode(body["tokens"])}

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        given = body["prompt"]
        prompts = [encode(given)] if isinstance(given, str) else [given] if isinstance(given[0], int) else given
        self._fit(max(map(len, prompts)))
        choices = [{"index": index, **self._continue(ids, body)} for index, ids in enumerate(prompts)]
        choices.reverse()  # the order is in `index`
        used = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": sum(len(c["text"]) for c in choices)}
        return {"object": "text_completion", "choices": choices, "usage": used}

    def _continue(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        text, reason = self._text(ids, body)
        answer: dict[str, Any] = {"text": text, "finish_reason": reason, "logprobs": None}
        if body.get("logprobs") is not None:
            assert body["return_tokens_as_token_ids"]
            logs = distribution(ids, self.server.weights)
            if self.server.shows_logits:
                logs = [log + 20 for log in logs]
            likeliest = max(range(VOCABULARY), key=logs.__getitem__)
            asked = body["logprob_token_ids"] if self.server.honours_logprob_token_ids else []
            shown = {f"token_id:{token}": logs[token] for token in [likeliest, *asked]}
            answer["logprobs"] = {"top_logprobs": [shown]}
        if body.get("prompt_logprobs") is not None:
            steps = [
                {str(token): {"logprob": distribution(ids[:at], self.server.weights)[token]}}
                for at, token in enumerate(ids)
                if at
            ]
            answer["prompt_logprobs"] = [None, *steps]
        return answer

    def _text(self, ids: list[int], body: dict[str, Any]) -> tuple[str, str]:
        if self.server.reply is not None:
            return self.server.reply, "stop"
        seed = body.get("seed") if body.get("temperature") else None
        text = f"said {hashlib.sha256(repr((ids, seed)).encode()).hexdigest()}"
        most = body.get("max_tokens") or body["max_completion_tokens"]
        return text[:most], "length" if len(text) > most else "stop"

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = body["messages"]
        text = self.server.template + chat_text(messages)
        if body.get("continue_final_message"):
            text = self.server.template + chat_text(messages[:-1]) + messages[-1]["content"]
        ids = encode(text)
        self._fit(len(ids))
        said, reason = self._text(ids, body)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": reason,
        }
        if body.get("logprobs") and self.server.shows_logprobs:
            logs = distribution(ids, self.server.weights)
            likeliest = sorted(range(VOCABULARY), key=lambda token: -logs[token])[: body["top_logprobs"]]
            tops = [{"token": decode([token]), "logprob": logs[token]} for token in likeliest]
            choice["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]}
        used = {"prompt_tokens": len(ids), "completion_tokens": len(said)}
        return {"object": "chat.completion", "choices": [choice], "usage": used}
