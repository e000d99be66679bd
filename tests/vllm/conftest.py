from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vllm.serving import Served, serve


@pytest.fixture(scope="session")
def smollm2_server(vllm_python: Path, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """SmolLM2 on a real vLLM, with 2,048 tokens of context: one server for all the tests of a session."""
    log = tmp_path_factory.mktemp("vllm") / "log"
    with serve(vllm_python, smollm2, log, "--max-model-len", "2048", "--enable-tokenizer-info-endpoint") as served:
        yield served
