"""Best-of-n: the parent answers each prompt n times, the reward names the best, and SFT learns the winners.

No gradient passes through the reward, and the policy cannot go further than its own best answers: n holds it. How
far that is, in nats a sequence from the parent:

- `kl_bound` = log n - (n - 1) / n, what is often quoted as the KL of best-of-n. It is an upper bound, reached where no
  two answers are rewarded alike (arXiv 2401.01879, theorem 3.1).
- `kl_estimate`, from the samples. Answers with equal rewards are one event: which of them comes first is not the
  reward's doing, so that the KL of best-of-n is the KL between the rewards of its answers and the parent's. Into the
  paper's estimator (its section 4) goes therefore the parent's probability e of an answer with the winner's reward,

      (1 - e)^n (log n + (n - 1) log(1 - e) - (n - 1) / n)  +  (1 - (1 - e)^n) log((1 - (1 - e)^n) / e)

  which is the bound at e = 0 and 0 at e = 1. e is taken as the larger of the winner's own probability, which is known,
  and the share of the other n - 1 answers that are rewarded as it is. The paper has the first alone: of a reward
  of two values it then reports the bound, 1.83 where the KL is 0.72 (n = 16), and this 0.83.
- `kl`: what the tuned model came to, measured on answers of its own. SFT learns the winners only so far.

An answer cut at the token limit never wins; a prompt all of whose answers were cut is left out and counted. Of equal
rewards the first drawn wins. `job.resume` keeps what was drawn, so that a resumed job does not draw it again, and the
checkpoint's `winners.jsonl` has the rows that were trained on, each with its reward.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from constitution.records import seed_of
from pipeline.models.checkpoint import Kind
from pipeline.trainers.arguments import SFT_READS
from pipeline.trainers.progress import read
from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Progress, TrainingStopped

if TYPE_CHECKING:
    from pipeline.rewards.reward import Reward
    from pipeline.trainers.rollouts import Rollout, Sampler

log = logging.getLogger(__name__)

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt",)
ONLINE = True
COEFFICIENT = "n"
SAMPLING: dict[str, Any] = {"n": 8, "max_completion_length": 256, "temperature": 1.0}
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 2e-5, **SAMPLING}  # the rest is SFT's
READS = SFT_READS | set(SAMPLING)

DRAWN, WINNERS = "drawn.jsonl", "winners.jsonl"
AT_ONCE = 128  # answers between two writes of what was drawn
MEASURED = 64  # prompts on which the tuned model's KL is measured


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics: those of `sft`; `n`, `reward_mean` of all answers that were not cut, `reward_winners`, `cut` (the share
    that was), `no_winner` (prompts left out); the three KLs of the module; and the evaluation callback's.

    Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from pipeline import rewards
    from pipeline.trainers import fitting
    from pipeline.trainers.evaluation_callback import EvaluationCallback, TrainerHook, log_ratios
    from pipeline.trainers.rollouts import InProcess, Reference
    from pipeline.trainers.rows import check_prompts, load_rows

    class Trainer(fitting.TrainerMixin, SFTTrainer):  # type: ignore[misc]
        pass

    arguments = job.arguments
    if job.reward is None:
        raise UserError("best_of_n needs a reward to choose by; give the job one")
    n = arguments["n"]
    tuning = dataclasses.replace(job, arguments={k: v for k, v in arguments.items() if k not in SAMPLING})
    tokenizer = fitting.load_tokenizer(job)
    limit = fitting.context_length(job, tokenizer)
    asked_of = load_rows(Path(job.dataset), COLUMNS, tokenizer, tuning, limit)
    prompts = list(asked_of.table["prompt"])
    device = "cuda" if fitting.use_cuda(job) else "cpu"

    def settings(batch_size: int) -> Any:
        return fitting.configure(tuning, SFTConfig, batch_size, limit, completion_only_loss=True)

    settings(arguments["per_device_train_batch_size"])  # a mistake in them is told before anything is drawn

    def sampler(model: Any) -> InProcess:
        return InProcess(
            model,
            tokenizer,
            temperature=arguments["temperature"],
            max_new_tokens=arguments["max_completion_length"],
            template=arguments["chat_template_kwargs"],
        )

    reward = rewards.build(job.reward or {})
    callbacks: list[EvaluationCallback] = []
    trainers: list[Trainer] = []
    try:
        if len(drawn := _drawn(job)) < len(prompts):
            parent = fitting.load_model(job, AutoModelForCausalLM).to(device)
            check_prompts(job, asked_of.table, render=sampler(parent).render)
            draw(job, prompts, sampler(parent), parent, reward, tokenizer.pad_token_id)
            drawn = _drawn(job)
            del parent
        metrics = {"n": n, **figures(drawn, n)}
        rows = load_rows(_winners(job, prompts, drawn), ("prompt", "completion"), tokenizer, tuning, limit)

        def build(batch_size: int) -> Trainer:
            parent = fitting.load_model(job, AutoModelForCausalLM)
            # TRL binds the model's forward to this very model: a copy made after that would read these weights.
            copy = Reference(parent) if job.watch is not None and not job.lora else None
            trainer = Trainer(
                model=parent,
                args=settings(batch_size),
                train_dataset=rows.table,
                processing_class=tokenizer,
                peft_config=fitting.lora_config(job, "CAUSAL_LM"),
            )
            if job.watch is not None:
                _close(callbacks)
                model = trainer.model
                if copy:
                    copy.model.to(model.device)
                reference = copy or Reference(model)
                callbacks.append(EvaluationCallback(job, sampler(model), reward, reference, tokenizer.pad_token_id))
                trainer.add_callback(TrainerHook(callbacks[0]))
            trainers[:] = [trainer]
            return trainer

        try:
            _, fitted = fitting.fit(tuning, progress, build)
            metrics |= fitted
        except TrainingStopped as stop:
            if not callbacks or not callbacks[0].rescue(stop, trainers[0].model):
                raise
            metrics["steps"] = trainers[0].state.global_step
        metrics |= {**rows.counted, "left_out": asked_of.left_out + rows.left_out}
        if named := [*asked_of.named, *rows.named]:
            metrics["left_out_rows"] = named
        model = trainers[0].accelerator.unwrap_model(trainers[0].model)
        if callbacks:
            metrics |= callbacks[0].settle(model)
        reference = Reference(model if job.lora else fitting.load_model(job, AutoModelForCausalLM).to(device))
        asked = prompts[:MEASURED]
        answers = sampler(model).sample(asked, _seeds(job, n * len(prompts), len(asked)))
        ratios, _ = log_ratios(model, reference, answers, tokenizer.pad_token_id, arguments["temperature"])
        metrics["kl"] = sum(ratios) / len(ratios)
        fitting.save(job, trainers[0])
        shutil.copyfile(job.resume / WINNERS, job.partial / WINNERS)
        return metrics
    finally:
        _close(callbacks)
        reward.close()


def kl_bound(n: int) -> float:
    """The most that best-of-n can be from its parent, in nats (arXiv 2401.01879, theorem 3.1)."""
    return math.log(n) - (n - 1) / n


def kl_estimate(e: float, n: int) -> float:
    """The part that one winner adds to the mean, in nats; `e`: the parent's probability of an answer rewarded as it is.
    See the module."""
    if e >= 1:
        return 0.0
    rest = n * math.log1p(-e)
    none, some = math.exp(rest), -math.expm1(rest)
    alone = none * (math.log(n) + (n - 1) * math.log1p(-e) - (n - 1) / n)
    return alone + (some * math.log(some / e) if e > 0 else 0.0)


def draw(job: Job, prompts: Sequence[Any], sampler: Sampler, model: Any, reward: Reward, pad: int) -> None:
    """Answers every prompt that `job.resume` has no answers to, and writes a line for each: the `rewards` in the order
    of the draws (null for an answer that was cut), the place of the `winner` or null, its `text`, and `logp`, its
    log-probability."""
    import torch

    from pipeline.trainers.rollouts import logprobs, pack

    n, temperature = job.arguments["n"], job.arguments["temperature"]
    job.resume.mkdir(parents=True, exist_ok=True)
    lines = _drawn(job)
    _write(job.resume / DRAWN, lines)  # without a last line cut short by a crash
    size = max(1, AT_ONCE // n)
    for start in range(len(lines), len(prompts), size):
        chunk = prompts[start : start + size]
        asked = [prompt for prompt in chunk for _ in range(n)]
        answers = sampler.sample(asked, _seeds(job, start * n, len(asked)))
        scores = iter(reward.score(*_ended(answers)))
        found = []
        for place, index in enumerate(range(start, start + len(chunk))):
            mine = answers[place * n : (place + 1) * n]
            rewarded = [next(scores) if answer.ended else None for answer in mine]
            winner = best(rewarded)
            line = {"job": job.id, "index": index, "rewards": rewarded, "winner": winner}
            if winner is not None:
                batch = pack([mine[winner]], pad, next(model.parameters()).device)
                with torch.no_grad():
                    logp = float(logprobs(model, batch, temperature)[0].sum())
                line |= {"text": mine[winner].text, "logp": logp}
            found.append(line)
        with (job.resume / DRAWN).open("a", encoding="ascii") as file:
            file.writelines(json.dumps(line) + "\n" for line in found)
        log.info("%d of %d prompts answered %d times", start + len(chunk), len(prompts), n)


def best(rewarded: Sequence[float | None]) -> int | None:
    """The place of the highest reward, the first of equals; None where there is none."""
    there = {place: value for place, value in enumerate(rewarded) if value is not None}
    return max(there, key=there.__getitem__, default=None)


def figures(drawn: Sequence[dict[str, Any]], n: int) -> dict[str, float]:
    """What is told of the draws of `draw`. Raises UserError where no prompt has a winner."""
    won = [line for line in drawn if line["winner"] is not None]
    if not won:
        raise UserError(
            f"all {n} answers to every prompt were cut at the token limit, so there is nothing to learn from; raise "
            "max_completion_length"
        )
    scores = [value for line in drawn for value in line["rewards"] if value is not None]
    tops = [line["rewards"][line["winner"]] for line in won]
    estimates = []
    for line, top in zip(won, tops, strict=True):
        alike = (line["rewards"].count(top) - 1) / (n - 1) if n > 1 else 0.0
        estimates.append(kl_estimate(max(math.exp(line["logp"]), alike), n))
    return {
        "reward_mean": math.fsum(scores) / len(scores),
        "reward_winners": math.fsum(tops) / len(tops),
        "cut": 1 - len(scores) / (n * len(drawn)),
        "no_winner": len(drawn) - len(won),
        "kl_bound": kl_bound(n),
        "kl_estimate": math.fsum(estimates) / len(estimates),
    }


def _seeds(job: Job, first: int, count: int) -> list[int]:
    return [seed_of("best_of_n", job.seed, first + place) for place in range(count)]


def _ended(answers: Sequence[Rollout]) -> tuple[list[Any], list[str]]:
    whole = [answer for answer in answers if answer.ended]
    return [answer.prompt for answer in whole], [answer.text for answer in whole]


def _drawn(job: Job) -> list[dict[str, Any]]:
    """The lines of this very job, as far as they go on from one another."""
    lines = [line for line in read(job.resume / DRAWN) if line["job"] == job.id]
    return [line for place, line in enumerate(lines) if line["index"] == place]


def _winners(job: Job, prompts: Sequence[Any], drawn: Sequence[dict[str, Any]]) -> Path:
    path = job.resume / WINNERS
    rows = [
        {
            "prompt": list(prompts[line["index"]]),
            "completion": [{"role": "assistant", "content": line["text"]}],
            "reward": line["rewards"][line["winner"]],
        }
        for line in drawn
        if line["winner"] is not None
    ]
    _write(path, rows)
    return path


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    partial.replace(path)


def _close(callbacks: list[Any]) -> None:
    while callbacks:
        callbacks.pop().close()
