"""What the openai engine asks of a plain chat server: messages in, text and the likeliest few first tokens out.

It cannot score, and its mass is a lower bound: only the TOP_LOGPROBS likeliest tokens are shown, and those that are a
label once spaces are stripped are summed. A label that is not among them has probability 0. It shows no tokens, so of
control tokens that a text spells only those of well-known families are broken (`known_tokens`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from constitution.errors import UserError
from pipeline.engines.engine import Capabilities, Chat, Choice, Choose, Completion, Generate, Refused, Score, Scored
from pipeline.engines.known_tokens import broken
from pipeline.engines.openai_answers import choice_of, completion, count, in_protocol, logprob, shares
from pipeline.engines.openai_loop import gather
from pipeline.engines.openai_refusals import or_refused
from pipeline.engines.openai_settings import SAID, refused_setting, settle
from pipeline.engines.openai_tokens import Ids
from pipeline.engines.openai_transport import RefusedByServer, Transport
from pipeline.engines.thinking import OPTION, TAGS, opened_by, split, tags_named

TOP_LOGPROBS = 20  # the most that such servers show
OF_THE_CHAT = ("messages", "continue_final_message", "add_generation_prompt")
SEEDS = 2**31  # some servers keep a seed in 32 bits and refuse, or quietly cut, a longer one


class NoLogprobs(UserError):
    """The server shows no log-probabilities at all."""


class ChatDialect:
    context: int | None = None  # of the model, as the server says it

    def __init__(
        self, transport: Transport, api: str, model: str, ids: Ids | None, *, concurrency: int, continues: bool
    ) -> None:
        self.capabilities = Capabilities(score=False, exact_mass=False, in_flight=concurrency)
        self._transport = transport
        self._url = f"{api}/chat/completions"
        self._model = model
        self._ids = ids
        self._at_once = asyncio.Semaphore(concurrency)
        self._continues = continues
        self._unknown: dict[str, None] = {}  # settings that the server does not take

    async def probe(self, deadline: float) -> None:
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        await self._answer(body, deadline)

    async def rendered(self) -> tuple[int, ...]:
        return ()

    async def render(self, chat: Chat) -> list[int]:
        if self._ids is None:
            raise UserError("a chat server does not show its tokens; give the engine's option tokenizer, a folder")
        return await self._ids.render(chat)

    async def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        return await gather((self._generate(request) for request in requests), self._at_once)

    async def _generate(self, request: Generate) -> Completion | Refused:
        sampling = request.sampling
        body = {
            **self._chat(request.chat),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed % SEEDS,
        }
        answered = await self._or_refused(body)
        if isinstance(answered, Refused):
            return answered
        choice, usage = answered
        prefix, named = request.chat.answer_prefix, tags_named(request.chat.template_args)
        tags = (*named, *TAGS)
        with in_protocol(self._transport.host):
            message = choice["message"]
            return completion(
                message.get("content") or "",
                choice.get("finish_reason"),
                sampling,
                count(usage, "prompt_tokens"),
                count(usage, "completion_tokens"),
                reasoning=message.get("reasoning_content") or message.get("reasoning") or "",
                reply=lambda text: split(text, opened_by("", prefix, tags), tags, named),
            )

    async def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        asked = [self._choose(chat, group.labels) for group in groups for chat in group.chats]
        answers = iter(await gather(asked, self._at_once))
        return [[next(answers) for _ in group.chats] for group in groups]

    async def _choose(self, chat: Chat, labels: tuple[str, ...]) -> Choice | Refused:
        body = {
            **self._chat(chat),
            "max_tokens": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
        }
        answered = await self._or_refused(body)
        if isinstance(answered, Refused):
            return answered
        choice, usage = answered
        with in_protocol(self._transport.host):
            steps = (choice.get("logprobs") or {}).get("content") or []
            tops = steps[0]["top_logprobs"] if steps else []
            shown = [(top["token"].strip(), logprob(top["logprob"])) for top in tops]
        if not shown:
            raise NoLogprobs(
                f"the server at {self._transport.host} shows no log-probabilities, so it cannot choose between "
                "options; take a judge that reasons in words, or a server that shows them (vLLM does)"
            )
        of_each = shares([log for _, log in shown], self._transport.host)
        held = [
            math.fsum(p for (token, _), p in zip(shown, of_each, strict=True) if token == label) for label in labels
        ]
        return choice_of(held, count(usage, "prompt_tokens"))

    async def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        raise UserError(
            f"the chat server at {self._transport.host} cannot score a text; use vLLM or the transformers engine"
        )

    def _chat(self, chat: Chat) -> dict[str, Any]:
        messages = [{"role": message.role, "content": broken(message.content)} for message in chat.messages]
        body: dict[str, Any] = {"messages": messages}
        if chat.answer_prefix:
            if not self._continues:
                raise UserError(
                    "this server cannot continue an answer: unset answer_prefix, or, if it knows "
                    "continue_final_message (vLLM and SGLang do), set the engine's option of that name"
                )
            messages.append({"role": "assistant", "content": chat.answer_prefix})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        arguments = {name: value for name, value in chat.template_args.items() if name != OPTION}
        if arguments:
            body["chat_template_kwargs"] = arguments
        return body

    async def _or_refused(self, body: dict[str, Any]) -> tuple[dict[str, Any], Any] | Refused:
        async def harmless() -> object:
            settings = {name: value for name, value in body.items() if name not in OF_THE_CHAT}
            return await self._answer({"messages": [{"role": "user", "content": "Hello"}], **settings})

        answered = await or_refused(self._answer(body), harmless)
        if not isinstance(answered, Refused) and answered[0].get("finish_reason") == "content_filter":
            return Refused("refused", f"the server at {self._transport.host} filtered what was asked, or its answer")
        return answered

    async def _answer(self, body: dict[str, Any], deadline: float | None = None) -> tuple[dict[str, Any], Any]:
        """The first choice, and what was used. What the server does not take is left out (`openai_settings`)."""
        tried = dict(self._unknown)
        while True:
            sent = settle(body, tried)
            try:
                answer = await self._transport.request("POST", self._url, {"model": self._model, **sent}, deadline)
                break
            except RefusedByServer as refusal:
                name = refused_setting(refusal, sent)
                if name == "logprobs":
                    raise NoLogprobs(
                        f"the server at {self._transport.host} shows no log-probabilities ({refusal.said}), so it "
                        "cannot choose between options; take a judge that reasons in words, or a server that shows them"
                    ) from None
                if name is None or name in tried:
                    raise
                tried[name] = None
        for name in tried.keys() - self._unknown.keys():  # it is what the server did not take
            self._unknown[name] = None
            self._transport.say(f"the server at {self._transport.host} does not take {SAID[name]}")
        with in_protocol(self._transport.host):
            choice: dict[str, Any] = answer["choices"][0]
            choice["message"].get("content")  # every chat answer has a message
        return choice, answer.get("usage")
