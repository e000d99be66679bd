"""A training method, online, that learns nothing: it hears what an answer is worth, and keeps its parent as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline import rewards
from pipeline.trainers.trainer import Job, Progress

KIND = "policy"
COLUMNS = ("prompt",)
DEFAULTS = {"answer": "Maybe."}
ONLINE = True


def train(job: Job, progress: Progress) -> dict[str, Any]:
    prompts = [json.loads(line)["prompt"] for line in Path(job.dataset).read_text(encoding="utf-8").splitlines()]
    assert job.reward is not None
    reward = rewards.build(job.reward)
    try:
        worth = reward.score(prompts, [job.arguments["answer"]] * len(prompts))
    finally:
        reward.close()
    mean = sum(worth) / len(worth)
    progress.start(0)
    progress.step(1, 1, {"loss": 0.0, "reward": mean})
    for file in Path(job.model).iterdir():
        if file.suffix in (".json", ".jinja", ".safetensors") and file.name != "manifest.json":
            shutil.copyfile(file, job.partial / file.name)
    return {"reward": mean, "prompts": len(prompts)}
