"""The model card of a checkpoint: README.md with the front matter the Hub reads, written from the job alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.models.checkpoint import Kind, stack
from pipeline.trainers.trainer import Job

TITLES = {"policy": "A policy trained by precept", "reward_model": "A reward model trained by precept"}
LOADERS = {"policy": "AutoModelForCausalLM", "reward_model": "AutoModelForSequenceClassification"}

_STACKED = (
    "An adapter of an adapter: `precept model merge` writes its full weights into a folder, because transformers loads",
    "one adapter only. Of that folder:",
    "",
)
_OVER_ANSWER = (
    "Its reward is the mean, over the answer's tokens, of what its head makes of each: precept reads it so. The",
    "`logits` of transformers are those of the last token alone.",
    "",
)


def write(job: Job, kind: Kind, parent: str, metrics: Mapping[str, Any]) -> str:
    """Markdown. What the job's author wrote is quoted as JSON, so that it cannot become front matter or a heading."""
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    return "\n".join(
        [
            "---",
            f"library_name: {'peft' if job.lora else 'transformers'}",
            f"pipeline_tag: {'text-generation' if kind == 'policy' else 'text-classification'}",
            f"tags: [precept, {job.method}]",
            "---",
            "",
            f"# {TITLES[kind]}",
            "",
            f"Method: {job.method}{' (LoRA)' if job.lora else ''}. Job: `{job.id}`. Seed: {job.seed}. "
            f"Parent weights: `{parent}`.",
            "",
            *(_STACKED if job.lora and len(stack(Path(job.model))) > 1 else ()),
            "```python",
            f"from transformers import {LOADERS[kind]}",
            f"model = {LOADERS[kind]}.from_pretrained(folder)",
            "```",
            "",
            *(_OVER_ANSWER if _read_over_answer(job) else ()),
            "## Results",
            "",
            "| metric | value |",
            "|---|---|",
            *[f"| {key} | {value:.4g} |" for key, value in sorted(numbers.items())],
            "",
            "## Arguments",
            "",
            _block(job.arguments),
            "",
            "## Where it comes from",
            "",
            _block(job.card),
            "",
            "`manifest.json` lists every file with its SHA-256; `progress.jsonl` is the training curve.",
            "",
        ]
    )


def _read_over_answer(job: Job) -> bool:
    """See `pipeline.rewards.reading`, which cannot be imported without torch."""
    try:
        config = json.loads((job.partial / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(config.get("reward_reads") == "answer")


def _block(content: Mapping[str, Any]) -> str:
    return "```json\n" + json.dumps(dict(content), indent=2, sort_keys=True) + "\n```"
