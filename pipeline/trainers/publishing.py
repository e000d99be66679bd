"""How a job's weights become a checkpoint: what is published beside them, and what was published already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.models.checkpoint import Kind, Manifest
from pipeline.trainers import card, progress
from pipeline.trainers.trainer import Job

EVALUATIONS = ("watch.jsonl", "samples.jsonl")  # see evaluation_callback.py


def finished(job: Job) -> Manifest | None:
    """The checkpoint this job already made, None where there is nothing yet. Tidies up after a kill that came between
    publishing it and dropping its resume state.

    Raises UserError where `out` is damaged or holds something else: nothing that exists is ever overwritten.
    """
    out = Path(job.out)
    if not out.exists():
        return None
    manifest = checkpoint.read(out)
    if manifest is None or manifest.job != job.id:
        raise UserError(f"{out}: exists and is not this job's checkpoint; move it away or choose another folder")
    manifest = checkpoint.verify(out)
    shutil.rmtree(job.resume, ignore_errors=True)
    return manifest


def publish(job: Job, kind: Kind, metrics: Mapping[str, Any]) -> Manifest:
    """Turn `job.partial`, which holds the weights, into the checkpoint `job.out`, and drop the resume state."""
    partial = job.partial
    for name in (progress.NAME, *EVALUATIONS):
        if (curve := job.resume / name).is_file():
            shutil.copyfile(curve, partial / name)
    parent = checkpoint.weights_digest(Path(job.model))
    training = {key: getattr(job, key) for key in ("method", "arguments", "lora", "seed", "dtype", "device")}
    (partial / checkpoint.TRAINING).write_text(json.dumps(training, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (partial / "README.md").write_text(card.write(job, kind, parent, metrics), encoding="utf-8")
    manifest = checkpoint.seal(
        partial,
        Path(job.out),
        job=job.id,
        kind=kind,
        method=job.method,
        parent=parent,
        dataset=checkpoint.file_digest(Path(job.dataset)),
        metrics=dict(metrics),
    )
    shutil.rmtree(job.resume, ignore_errors=True)
    return manifest
