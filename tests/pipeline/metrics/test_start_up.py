"""Importing every metric loads neither scipy nor scikit-learn: a program that only wants a name does not wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pipeline.metrics


def test_metrics_are_imported_without_what_computes_them() -> None:
    names = [p.stem for p in Path(pipeline.metrics.__path__[0]).glob("*.py") if p.stem != "__init__"]
    assert len(names) > 10
    code = (
        f"import sys, importlib; [importlib.import_module('pipeline.metrics.' + name) for name in {names}]; "
        "print([name for name in ('scipy', 'sklearn', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
