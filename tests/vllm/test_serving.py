"""The server that the other tests of this folder ask: it is there, and it is vLLM with the model that was named."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.vllm.serving import Served

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def test_it_serves_the_model_under_its_name_with_its_context(smollm2_server: Served) -> None:
    with urllib.request.urlopen(f"{smollm2_server.url}/models", timeout=10) as answer:
        (model,) = json.load(answer)["data"]
    assert (model["id"], model["owned_by"], model["max_model_len"]) == ("served", "vllm", 2048)
