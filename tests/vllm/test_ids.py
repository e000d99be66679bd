"""The ids that a real vLLM works with against those of the one renderer, that are trained on: SmolLM2 and Gemma."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.records import Message
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat
from tests.pipeline.families import GEMMA
from tests.vllm.serving import Served, serve

pytestmark = pytest.mark.vllm

TURNS = (
    ("user", "Is a whale a fish?"),
    ("assistant", "No, it is\n\na  mammal."),
    ("user", "Name one fish \u00fc\u4e2d."),
)
CHATS = (TURNS, (("user", "Say yes."),))


@pytest.fixture(scope="module")
def gemma_server(vllm_python: Path, gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("gemma")
    (folder / "template.jinja").write_text(GEMMA)
    template = ("--chat-template", str(folder / "template.jinja"))
    with serve(vllm_python, gemma, folder / "log", "--max-model-len", "512", *template) as served:
        yield served


def asked(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.parametrize("name", ["smollm2", "gemma"])
def test_the_ids_of_a_server_are_those_that_are_trained_on(name: str, request: pytest.FixtureRequest) -> None:
    from transformers import AutoTokenizer

    served: Served = request.getfixturevalue(f"{name}_server")
    tokenizer = AutoTokenizer.from_pretrained(served.folder)
    tokenizer.chat_template = tokenizer.chat_template or GEMMA
    chats = ChatTokenizer(tokenizer)
    root = served.url.removesuffix("/v1")
    for turns in CHATS:
        messages = [{"role": role, "content": text} for role, text in turns]
        chat = Chat(tuple(Message(role, text) for role, text in turns))  # type: ignore[arg-type]
        ids = chats.prompt(chat)[1]
        before, answer = chats.answered(chat, "A pike.")
        assert before == ids
        tokenized = asked(f"{root}/tokenize", {"model": served.model, "messages": messages})
        assert tokenized["tokens"] == ids
        ended = [*messages, {"role": "assistant", "content": "A pike."}]
        body = {"model": served.model, "messages": ended, "add_generation_prompt": False}
        assert asked(f"{root}/tokenize", body)["tokens"] == before + answer
        short = {"model": served.model, "max_tokens": 4, "temperature": 0.0, "return_token_ids": True}
        said = asked(f"{served.url}/chat/completions", {**short, "messages": messages})
        assert said["prompt_token_ids"] == ids
        sampled = asked(f"{served.url}/completions", {**short, "prompt": ids})["choices"][0]
        assert sampled["prompt_token_ids"] == ids
        assert sampled["token_ids"] == said["choices"][0]["token_ids"]


@pytest.mark.parametrize("name", ["smollm2", "gemma"])
def test_a_server_stops_at_every_token_that_was_learnt_as_an_end(name: str, request: pytest.FixtureRequest) -> None:
    """Told by `stop_token_ids`: what the folder names alone would let Gemma run on into the next turn."""
    from transformers import AutoTokenizer

    served: Served = request.getfixturevalue(f"{name}_server")
    tokenizer = AutoTokenizer.from_pretrained(served.folder)
    tokenizer.chat_template = tokenizer.chat_template or GEMMA
    chats = ChatTokenizer(tokenizer)
    ids = chats.prompt(Chat((Message("user", "Say yes."),)))[1]
    for stop in chats.stop_ids:
        body = {
            **{"model": served.model, "prompt": ids, "max_tokens": 6, "temperature": 1.0, "return_token_ids": True},
            **{"logit_bias": {str(stop): 100.0}, "stop_token_ids": chats.stop_ids},
        }
        choice = asked(f"{served.url}/completions", body)["choices"][0]
        assert (choice["finish_reason"], choice["token_ids"]) == ("stop", [stop])
