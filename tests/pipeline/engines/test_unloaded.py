"""An engine's name without its model."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline import engines
from pipeline.engines.engine import Engine, EngineSettings
from sandbox.models import folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_name_is_the_loaded_model_s(tiny_model, dtype):
    settings = EngineSettings(model=str(tiny_model("llama")), device="cpu", dtype=dtype)
    named, loaded = engines.named(settings), engines.build(settings)
    assert named.fingerprint == loaded.fingerprint and named.capabilities == loaded.capabilities
    assert isinstance(named, Engine)
    loaded.close()


def test_it_answers_nothing():
    named = engines.named(EngineSettings(model=str(folder("policy"))))
    for ask in (named.generate, named.choose, named.score):
        with pytest.raises(RuntimeError, match="not loaded"):
            ask([])
    named.close()


def test_no_model_library_is_imported_for_it():
    code = (
        "import sys; from pipeline import engines; from pipeline.engines.engine import EngineSettings; "
        f"print(engines.named(EngineSettings(model={str(folder('policy'))!r})).fingerprint); "
        "sys.exit(int('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 32


def test_an_engine_that_loads_nothing_is_itself(tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text("rules:\n  - {text: An answer.}\n")
    settings = EngineSettings(kind="scripted", model=str(script))
    assert engines.named(settings).fingerprint == engines.build(settings).fingerprint
