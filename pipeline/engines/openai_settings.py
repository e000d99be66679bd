"""Settings of a request that a chat server does not take: it says so in a status 400, and is asked once more without.

Hosted models differ: some want `max_completion_tokens` for `max_tokens`, some take no seed, no temperature, or show no
more than five likely tokens. What helped is remembered for the server, and said in a line the first time.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline.engines.openai_transport import RefusedByServer

FEW_LOGPROBS = 5
SAID = {
    "max_tokens": "max_tokens: from now on it is asked with max_completion_tokens, in which thinking counts",
    "seed": "a seed: from now on it is asked without, and may answer the same request in another way",
    "temperature": "a temperature: from now on it is asked without, and samples at its own",
    "top_p": "top_p: from now on it is asked without, and samples from all tokens",
    "top_logprobs": f"so many top_logprobs: from now on it is asked for {FEW_LOGPROBS}; a letter that is not among the "
    "likeliest has probability 0",
}


def refused_setting(refusal: RefusedByServer, body: dict[str, Any]) -> str | None:
    """The setting in `body` that a refusal is about; None where it is about none of those that can be left out."""
    if refusal.status not in (400, 422):
        return None
    for name in SAID:
        asked = name in body and not (name == "top_logprobs" and body[name] <= FEW_LOGPROBS)
        if asked and re.search(rf"(?<![a-z_]){name}(?![a-z_])", refusal.said):
            return name
    if "logprobs" in body and re.search(r"log_?prob", refusal.said):
        return "logprobs"
    return None


def settle(body: dict[str, Any], unknown: dict[str, None]) -> dict[str, Any]:
    """`body` without the settings that are unknown to the server, or with what stands for them."""
    sent = {name: value for name, value in body.items() if name not in unknown}
    if "max_tokens" in unknown and "max_tokens" in body:
        sent["max_completion_tokens"] = body["max_tokens"]
    if "top_logprobs" in unknown and "top_logprobs" in body:
        sent["top_logprobs"] = min(body["top_logprobs"], FEW_LOGPROBS)
    return sent
