"""A reward model in one pass over the data: a Bradley-Terry head on the frozen hidden states of one layer.

Every answer is read once, behind its prompt, and the mean of its tokens' states is kept at some layers. On those a
linear head is fitted to the differences of pairs, with soft targets as in `soft_targets` and a ridge; which layer, and
how strong a ridge, is chosen by cross-validation over the training prompts (openings: no dialogue is on both sides).
Then the layers above the chosen one are cut off. What is left is a sequence classifier whose config.json says that it
is read over the answer: `pipeline.rewards` serves it, and method `reward` may go on from it with all of its weights,
which is then linear probing before fine-tuning (Kumar et al. 2022, arXiv 2202.10054).

The last token's state is about the token that would come next; the mean says more of what was said, and the last token
beside it adds nothing (docs/methods.md). What is left out: several heads, adapters, and resuming, as a pass that is
interrupted begins again.
"""

from __future__ import annotations

from typing import Any

from constitution.errors import UserError
from pipeline.models.checkpoint import Kind
from pipeline.trainers.trainer import Job, Progress

KIND: Kind = "reward_model"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
FROZEN = True  # for the estimate of memory: there are no gradients
DEFAULTS: dict[str, Any] = {
    "layers": [],  # which are tried, counted from 1; none: eight of them, from a third of the depth on
    "ridges": [0.03, 0.1, 0.3, 1.0, 3.0],  # times the squares of the head's weights, in standard units
    "folds": 5,
    "per_device_eval_batch_size": 8,
    "max_length": 1024,  # tokens of prompt and answer; the model's own context where that is shorter
    "chat_template_kwargs": {},
}
NORMALISE = 500  # training pairs whose rewards are measured at the end, as in `reward`


def check(arguments: dict[str, Any]) -> None:
    """Raises UserError for values that mean nothing."""
    for name, whole in (("layers", True), ("ridges", False)):
        wrong = [v for v in arguments[name] if isinstance(v, bool) or not isinstance(v, int if whole else int | float)]
        wrong += [v for v in arguments[name] if v not in wrong and v < (1 if whole else 0)]
        if wrong:
            kind = "whole numbers, 1 or more" if whole else "numbers, 0 or more"
            raise UserError(f"{name} is {arguments[name]!r}; it must be a list of {kind}")
    if not arguments["ridges"]:
        raise UserError("ridges is empty; give at least one, as in [0.01]")
    if arguments["folds"] < 2:
        raise UserError(f"folds is {arguments['folds']!r}; it must be a whole number, 2 or more")


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics: `layer`, `ridge`, `cv_accuracy` and `cv_loss` on the prompts of each fold by a head that was fitted to
    the others; and those of method `reward`, `loss` being that of the training pairs. Writes `heldout.jsonl`.

    Raises UserError, or KeyboardInterrupt.
    """
    from transformers import AutoModelForSequenceClassification

    from pipeline.trainers import fitting, frozen
    from pipeline.trainers.material import Material

    if job.lora is not None:
        raise UserError("reward_head trains a head on frozen weights, and no adapter: leave lora out of its settings")
    given = Material.of(job, COLUMNS)
    model = fitting.load_model(job, AutoModelForSequenceClassification, num_labels=1)
    asked = frozen.layers_of(model, job.arguments["layers"])
    progress.start(0)
    states = frozen.Reader(job, model, asked, given.tokenizer.pad_token_id, progress)
    pairs = states.read(given.rows.table, "training pairs")
    fitted = frozen.choose(pairs, job.arguments["ridges"], job.arguments["folds"], job.seed)
    held = states.read(given.heldout.table, "held-out pairs") if given.heldout else None
    frozen.cut(model, fitted)
    fitting.save_model(job, model)
    metrics = {**given.counted, **fitted.metrics, **frozen.spread(pairs, fitted, NORMALISE)}
    if held is not None:
        metrics |= frozen.evaluate(held, fitted, job.partial / "heldout.jsonl")
    return {**metrics, "steps": states.steps, "seconds": states.seconds}
