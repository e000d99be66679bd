"""What a request may ask, checked: what this server does not do is refused by name, never passed over.

A setting that says nothing (`presence_penalty: 0`, `tools: []`) is taken, whatever it is of. Beside OpenAI's, these of
vLLM's are known: `prompt_logprobs`, `logprob_token_ids`, `return_tokens_as_token_ids`, `return_token_ids`,
`stop_token_ids`, `skip_special_tokens`, `add_special_tokens`, `chat_template_kwargs`, `continue_final_message`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from constitution.records import Message
from pipeline.engines.engine import Chat
from pipeline.serving.model import ServedModel

DEPTH = 16  # of a body's JSON
MOST_TOP = 20  # likeliest tokens of a place
MOST_WANTED = 64  # further tokens whose log-probability is asked
MOST_STOPS = 16
LONGEST_STOP = 256  # characters
B = TypeVar("B", bound="Body")

# Settings that are not done here, by what they are where they ask nothing.
NOTHING: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,), "frequency_penalty": (0,), "repetition_penalty": (1,), "top_k": (0, -1), "min_p": (0,),
    "best_of": (1,), "logit_bias": ({},), "suffix": ("",), "tools": ([],), "tool_choice": ("none", "auto"),
    "functions": ([],), "response_format": ({"type": "text"},), "user": (), "metadata": ({},), "store": (False,),
    "ignore_eos": (False,), "parallel_tool_calls": (True, False), "modalities": (["text"],), "min_tokens": (0,),
    "include_stop_str_in_output": (False,), "use_beam_search": (False,), "length_penalty": (1,),
    "spaces_between_special_tokens": (True,), "service_tier": ("auto", "default"), "truncate_prompt_tokens": (),
}  # fmt: skip


class Mistake(Exception):
    """A request that is not done, in the protocol's words: a status, a message, and the parameter and code if any."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def as_dict(self) -> dict[str, Any]:
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool = False


class Body(BaseModel):
    """What chats and completions have in common. `seed` none: another answer each time."""

    model_config = ConfigDict(strict=True, extra="forbid")
    model: str
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=128)
    stop: str | list[str] | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = Field([], max_length=MOST_WANTED)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions | None = None

    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer. Raises Mistake."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > MOST_STOPS or any(not 0 < len(text) <= LONGEST_STOP for text in given):
            raise Mistake(400, f"stop: at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters", "stop")
        return tuple(given)


class Completion(Body):
    prompt: Any
    max_tokens: int = Field(16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    prompt_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    logprob_token_ids: list[Annotated[int, Field(ge=0)]] = Field([], max_length=MOST_WANTED)
    return_tokens_as_token_ids: bool = False
    return_token_ids: bool = False
    skip_special_tokens: bool = True
    add_special_tokens: bool = True

    def prompts(self, model: ServedModel) -> list[list[int]]:
        """The ids of each. Raises Mistake for what is no prompt."""
        given = self.prompt
        if isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int):
            given = [given]
        if not isinstance(given, list) or not given:
            raise Mistake(400, "prompt: a text, a list of token ids, or a list of either", "prompt")
        found = []
        for one in given:
            if isinstance(one, str):
                found.append(model.encode(one, self.add_special_tokens))
            elif isinstance(one, list) and all(type(i) is int and 0 <= i < model.vocabulary for i in one):
                found.append(one)
            else:
                what = "a text, or a list of token ids from 0 up to the vocabulary's end"
                raise Mistake(400, f"prompt: each is {what}, {model.vocabulary}", "prompt")
            if not found[-1]:
                raise Mistake(400, "prompt: one has no tokens", "prompt")
        return found


class Said(BaseModel):
    """A message. `content` may come in parts, of text alone."""

    model_config = ConfigDict(strict=True, extra="ignore")  # clients hand back what they were answered with
    role: Literal["system", "developer", "user", "assistant"]
    content: Any = None
    tool_calls: list[Any] | None = Field(None, max_length=0)
    name: None = None

    def message(self) -> Message:
        content = self.content
        if isinstance(content, list) and all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in content
        ):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise Mistake(400, "messages: the content of each is text, or parts that are text", "messages")
        return Message("system" if self.role == "developer" else self.role, content)


class Conversation(Body):
    messages: list[Said] = Field(min_length=1, max_length=2048)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    chat_template_kwargs: dict[str, Any] = {}
    continue_final_message: bool = False
    add_generation_prompt: bool = True

    def chat(self) -> Chat:
        """Raises Mistake. A template comes with the model, and from nowhere else."""
        if "chat_template" in self.chat_template_kwargs:
            raise Mistake(400, "chat_template_kwargs: the model's own template is used", "chat_template_kwargs")
        if self.add_generation_prompt == self.continue_final_message:
            raise Mistake(
                400, "add_generation_prompt is false where continue_final_message is true, and only there",
                "add_generation_prompt",
            )  # fmt: skip
        messages = [said.message() for said in self.messages]
        prefix = ""
        if self.continue_final_message:
            if messages[-1].role != "assistant" or len(messages) < 2:
                raise Mistake(400, "continue_final_message: the last message is no assistant's", "messages")
            prefix = messages.pop().content
        return Chat(tuple(messages), prefix, self.chat_template_kwargs)


def read(data: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Mistake."""
    try:
        found = json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise Mistake(400, f"the body nests more than {DEPTH} deep") from None
    except ValueError:
        raise Mistake(400, "the body is not JSON") from None
    if not isinstance(found, dict):
        raise Mistake(400, "the body is no JSON object")
    level: list[Any] = [found]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return found
    raise Mistake(400, f"the body nests more than {DEPTH} deep")


def checked(kind: type[B], given: dict[str, Any]) -> B:
    """Raises Mistake with the first thing that is wrong."""
    asked = dict(given)
    for name, nothing in NOTHING.items():
        if name in asked and (asked[name] is None or name == "user" or asked[name] in nothing):
            del asked[name]
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        [first, *_] = error.errors(include_input=False, include_url=False, include_context=False)
        where = ".".join(map(str, first["loc"]))[:100]
        param = str(first["loc"][0])[:100] if first["loc"] else None
        if first["type"] == "extra_forbidden":
            raise Mistake(400, f"{where}: this server does not do that; leave it out", param, "unsupported") from None
        raise Mistake(400, f"{where}: {first['msg']}", param) from None


def _no_number(text: str) -> Any:
    raise ValueError(text)
