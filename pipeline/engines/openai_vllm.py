"""What the openai engine asks of vLLM's server: prompts as token ids, log-probabilities over the whole vocabulary."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any

from constitution.errors import UserError
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    EngineError,
    Generate,
    Refused,
    Score,
    Scored,
)
from pipeline.engines.openai_answers import choice_of, completion, count, in_protocol, logprob, shares, token_id
from pipeline.engines.openai_control import Unreadable
from pipeline.engines.openai_identity import CHATS
from pipeline.engines.openai_loop import gather
from pipeline.engines.openai_refusals import OF_ONE_REQUEST, or_refused, too_long
from pipeline.engines.openai_tokens import FolderIds, Ids, ServerIds
from pipeline.engines.openai_transport import RefusedByServer, Transport
from pipeline.engines.thinking import Reply

# Said outright, because vLLM fills in what is not said from the model's generation_config.json.
PLAIN_SAMPLING = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
# Words, numbers, scripts, spaces: tokenizers that make the same of it are the same, or near enough.
SAMPLE = (
    "The quick brown fox isn't 12345 years old.\n\tZ\u00fcrich, na\u00efve; \u6771\u4eac \u041c\u0438\u0440 x_y+=1;"
)
# Options are read at temperature 1: the same as greedy for a server that shows raw log-probabilities, and the right
# numbers from one that was told to show processed ones.
READ_OPTIONS = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, **PLAIN_SAMPLING}


class VllmDialect:
    """`choose` packs prompts of many groups into a request, those with a common beginning side by side, so that the
    server's prefix cache computes it once. The server must honour `logprob_token_ids` (0.32 does)."""

    context: int | None = None  # the most tokens that the server reads and writes, as it says

    def __init__(
        self,
        transport: Transport,
        api: str,
        model: str,
        ids: Ids,
        server: ServerIds,
        *,
        concurrency: int,
        prompts_per_request: int,
        requests_in_flight: int,
    ) -> None:
        self.capabilities = Capabilities(in_flight=concurrency)
        self._transport = transport
        self._url = f"{api}/completions"
        self._model = model
        self._ids = ids
        self._server = server
        self._single = asyncio.Semaphore(concurrency)
        self._packed = asyncio.Semaphore(requests_in_flight)
        self._prompts_per_request = prompts_per_request

    async def probe(self, deadline: float) -> None:
        await self._complete({"prompt": "Hello", "max_tokens": 1, "temperature": 0.0}, 1, deadline)

    async def rendered(self) -> tuple[int, ...]:
        """Raises UserError where the tokenizer's folder is not that of the model that is served."""
        try:
            if isinstance(self._ids, FolderIds) and self._ids.encode(SAMPLE) != await self._server.encoded(SAMPLE):
                raise UserError(
                    f"the tokenizer in {self._ids.folder} makes other tokens of a text than the server at "
                    f"{self._transport.host} does: name the folder of the model that is served as the engine's option "
                    "tokenizer"
                )
            return await self._server.rendered(CHATS[0])
        except RefusedByServer as refusal:
            if refusal.status in (404, 405):  # it does not tokenize for others
                return ()
            raise

    async def render(self, chat: Chat) -> list[int]:
        return await self._ids.render(chat)

    async def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        return await gather((self._generate(request) for request in requests), self._single)

    async def _generate(self, request: Generate) -> Completion | Refused:
        prompt = await self._read(request.chat)
        if isinstance(prompt, Refused):
            return prompt
        sampling = request.sampling
        room = sampling.max_tokens if self.context is None else min(sampling.max_tokens, self.context - len(prompt))
        body = {
            "prompt": prompt,
            "max_tokens": room,  # an answer that reaches the end of the context is cut there
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
            "stop_token_ids": await self._ids.stops(),
            "return_token_ids": True,
            **PLAIN_SAMPLING,
        }
        if await self._ids.keeps_special():
            body["skip_special_tokens"] = False
        answered = await self._or_refused(body)
        if isinstance(answered, Refused):
            return answered
        [choice], usage = answered
        with in_protocol(self._transport.host):
            text = choice["text"]
            ids = [token_id(token) for token in choice.get("token_ids") or []]
            if len(ids) > sampling.max_tokens:
                ids = []  # a server that does not keep to max_tokens: the text is cut
            reply = await self._ids.reply(request.chat, prompt, text, ids) if isinstance(text, str) else None
            return completion(
                text,
                choice.get("finish_reason"),
                sampling,
                len(prompt),
                count(usage, "completion_tokens"),
                ids=tuple(ids),
                reply=lambda cut: reply if cut is text and reply else Reply(cut, ""),
            )

    async def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        asked = [(chat, group.labels) for group in groups for chat in group.chats]
        found = await gather((self._prompt(chat, labels) for chat, labels in asked), self._single)
        choices: dict[int, Choice | Refused] = {
            place: prompt for place, prompt in enumerate(found) if isinstance(prompt, Refused)
        }
        prompts = {place: prompt for place, prompt in enumerate(found) if not isinstance(prompt, Refused)}
        # Requests hold prompts of the same label ids; sorted by ids, shared prefixes stand side by side.
        order = sorted(prompts, key=lambda place: (prompts[place][1], prompts[place][0]))
        packs = [
            same[start : start + self._prompts_per_request]
            for _, places in groupby(order, key=lambda place: prompts[place][1])
            for same in [list(places)]
            for start in range(0, len(same), self._prompts_per_request)
        ]
        answers = await gather((self._choose([prompts[place] for place in pack]) for pack in packs), self._packed)
        places = [place for pack in packs for place in pack]
        choices |= dict(zip(places, chain.from_iterable(answers), strict=True))
        in_order = iter(range(len(asked)))
        return [[choices[next(in_order)] for _ in group.chats] for group in groups]

    async def _prompt(self, chat: Chat, labels: tuple[str, ...]) -> tuple[list[int], tuple[int, ...]] | Refused:
        prompt = await self._read(chat)
        if isinstance(prompt, Refused):
            return prompt
        return prompt, tuple(await self._ids.labels(chat, prompt, labels))

    async def _read(self, chat: Chat, room: int = 1) -> list[int] | Refused:
        """The ids of a chat that the model can read, with room for so many more."""
        try:
            rendered = await or_refused(self.render(chat), lambda: self.render(CHATS[0]))
        except Unreadable as error:
            return Refused("template", str(error))
        if isinstance(rendered, Refused):
            return rendered
        if not rendered:
            return Refused("empty", "a prompt has no tokens at all; check the model's chat template")
        return self._fitting(rendered, room)

    def _fitting(self, ids: list[int], room: int = 1) -> list[int] | Refused:
        if self.context is not None and len(ids) + room > self.context:
            return too_long(len(ids), self.context, self._transport.host)
        return ids

    async def _choose(self, pack: Sequence[tuple[list[int], tuple[int, ...]]]) -> list[Choice | Refused]:
        """A pack that the server refuses is halved until the prompt is found that it will not have."""
        tokens = pack[0][1]
        body = {
            "prompt": [prompt for prompt, _ in pack],
            "logprobs": 1,
            "logprob_token_ids": list(tokens),
            "return_tokens_as_token_ids": True,  # "A" and " A" may print alike
            **READ_OPTIONS,
        }
        if len(pack) == 1:
            answered = await self._or_refused(body)
        else:
            try:
                answered = await self._complete(body, len(pack))
            except RefusedByServer as refusal:
                if refusal.status not in OF_ONE_REQUEST:
                    raise
                half = len(pack) // 2
                return [*await self._choose(pack[:half]), *await self._choose(pack[half:])]
        if isinstance(answered, Refused):
            return [answered]
        return [
            self._choice(answer, tokens, len(prompt)) for answer, (prompt, _) in zip(answered[0], pack, strict=True)
        ]

    def _choice(self, answer: dict[str, Any], tokens: tuple[int, ...], prompt_tokens: int) -> Choice:
        with in_protocol(self._transport.host):
            shown = answer["logprobs"]["top_logprobs"][0]
            missing = [token for token in tokens if f"token_id:{token}" not in shown]
            logs = [] if missing else [logprob(shown[f"token_id:{token}"]) for token in tokens]
        if missing:
            raise UserError(
                f"the server at {self._transport.host} did not give the log-probability of every option (tokens "
                f"{missing} are missing): it must honour logprob_token_ids, as vLLM 0.32 does; no verdict was guessed"
            )
        return choice_of(shares(logs, self._transport.host), prompt_tokens)

    async def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        return await gather((self._score(request) for request in requests), self._single)

    async def _score(self, request: Score) -> Scored | Refused:
        prompt = await self._read(request.chat)
        if isinstance(prompt, Refused):
            return prompt
        try:
            added = await self._ids.completion(request.chat, prompt, request.completion, request.end)
        except Unreadable as error:
            return Refused("template", str(error))
        if not added:
            return Scored(0.0, 0)
        whole = self._fitting(prompt + added)
        if isinstance(whole, Refused):
            return whole
        answered = await self._or_refused({"prompt": whole, "prompt_logprobs": 1, **READ_OPTIONS})
        if isinstance(answered, Refused):
            return answered
        [choice], _ = answered
        with in_protocol(self._transport.host):
            steps = choice["prompt_logprobs"][len(prompt) :]
            logs = [logprob(step[str(token)]["logprob"]) for step, token in zip(steps, added, strict=True)]
        for log in logs:  # each in a place of its own
            shares([log], self._transport.host)
        return Scored(math.fsum(min(log, 0.0) for log in logs), len(added), len(whole))

    async def _or_refused(self, body: dict[str, Any]) -> tuple[list[dict[str, Any]], Any] | Refused:
        """The answer to a body with one prompt, or why the server will not have it."""

        async def harmless() -> object:
            return await self._complete({**body, "prompt": "Hello"}, 1)

        return await or_refused(self._complete(body, 1), harmless)

    async def _complete(
        self, body: dict[str, Any], expected: int, deadline: float | None = None
    ) -> tuple[list[dict[str, Any]], Any]:
        """The choices in the order of the prompts, and what was used."""
        answer = await self._transport.request("POST", self._url, {"model": self._model, **body}, deadline)
        with in_protocol(self._transport.host):
            choices = sorted(answer["choices"], key=lambda choice: token_id(choice["index"]))
            if [choice["index"] for choice in choices] != list(range(expected)):
                raise EngineError(f"the server at {self._transport.host} answered {len(choices)} of {expected} prompts")
        return choices, answer.get("usage")
