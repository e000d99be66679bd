"""The evaluation callback: it measures a model that learns online, may stop it, and keeps its good weights.

    job.watch = {"dataset": FILE, "judge": SPEC, "every": 5, "kl_budget": null, "stop": true}

(The field of a job, its file and its metrics are called `watch`, the word of before: a job's id hashes it.)

`dataset`: JSON lines of {"prompt": messages, "answer": text}, the prompts that are answered, with the starting model's
answers, which a judge may compare with. `judge`: a reward (`pipeline.rewards`), normally a judge that made none of the
labels; one of kind `judge` compares with the answers of `dataset` unless it names others. `every`: updates between
evaluation steps. `kl_budget`: nats a sequence from the reference, or null. `stop`: false only tells which rule fired
first and what it would have kept; the run goes on and keeps its last weights.

An evaluation step (in short an evaluation), at step 0, every so many updates and at the last, samples one answer to
each prompt at the temperature of training and with the same seeds each time, so that two differ by what was learnt. It
leaves the random state as it found it: the run is the one that it would have been without. In `job.resume`, and
published with the checkpoint:

    watch.jsonl     each evaluation: step; means of `proxy` and `judge` with their standard errors `_se`; `kl` [nats a
                    sequence, the mean over answers of the sum of log pi - log ref]; `entropy` [nats a token]; `tokens`;
                    `truncated`; `pipeline.metrics.style.rates`; `kept`, the step of the good weights so far; `seconds`;
                    the rule that fired as `stopped`, and its `reason`
    samples.jsonl   each answer: step, index of the prompt, text, proxy, judge; the prompt itself at the first

Of several processes, each of which has the whole model, the first measures and writes; what it found all of them know,
and stop together.

Truth is not among the figures and cannot be: whoever knows it measures it afterwards, on samples.jsonl.

The stop rules, and what good weights are, are in `stop_rules`. They lie in `job.resume/good`, with the good ones before
them: a run that resumes at an earlier step finds those. A run that no rule has stopped keeps its last weights.

This module imports torch and transformers: import it inside `train`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState

from constitution.errors import UserError
from constitution.records import seed_of
from pipeline import rewards
from pipeline.metrics import style
from pipeline.rewards.reward import Reward
from pipeline.trainers import processes
from pipeline.trainers.progress import read
from pipeline.trainers.rollouts import Dialogue, InProcess, Reference, Rollout, Sampler, evaluating, logprobs, pack
from pipeline.trainers.stop_rules import (
    DIVERGED,
    NOT_FINITE,
    EvaluationStep,
    Stop,
    decide,
    kept,
    mean,
    standard_error,
)
from pipeline.trainers.trainer import Job, TrainingStopped
from pipeline.training_rows import read_rows

log = logging.getLogger(__name__)

EVALUATIONS, SAMPLES, GOOD = "watch.jsonl", "samples.jsonl", "good"
ROWS = 16  # answers in one pass for their log-probabilities


@dataclass(frozen=True)
class Plan:
    """`job.watch`, checked."""

    prompts: Sequence[Dialogue]
    judge: Mapping[str, Any]
    every: int
    kl_budget: float | None
    stop: bool

    @classmethod
    def read(cls, watch: Mapping[str, Any]) -> Plan:
        """Raises UserError for what is missing, unknown or out of range."""
        options = {"every": 5, "kl_budget": None, "stop": True, **watch}
        known = {"dataset", "judge", "every", "kl_budget", "stop"}
        if wrong := sorted(options.keys() ^ known):
            raise UserError(f"watch: {', '.join(wrong)}: missing or unknown; it has {', '.join(sorted(known))}")
        every, budget = options["every"], options["kl_budget"]
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise UserError(f"watch: every is {every!r}; it must be a whole number of updates, 1 or more")
        if budget is not None and not (isinstance(budget, int | float) and 0 < budget < math.inf):
            raise UserError(f"watch: kl_budget is {budget!r}; it must be a number of nats above 0, or null")
        if not isinstance(options["stop"], bool):
            raise UserError(f"watch: stop is {options['stop']!r}; it must be true or false")
        prompts = [row["prompt"] for row in read_rows(Path(options["dataset"]), ("prompt",))]
        judge = dict(options["judge"])
        if judge.get("kind") == "judge":
            judge = {"against": options["dataset"], **judge}
        return cls(prompts, judge, every, None if budget is None else float(budget), options["stop"])

    def due(self, step: int, total: int) -> bool:
        return step % self.every == 0 or step >= total

    def steps(self, total: int) -> int:
        """How many a run of so many updates has, the one at step 0 among them."""
        return 1 + math.ceil(total / self.every)


def _answerable(plan: Plan, sampler: InProcess) -> tuple[Plan, int]:
    """The plan with the prompts that can be answered, and how many others there are. UserError where there is none."""
    refused = [sampler.refusal(prompt) for prompt in plan.prompts]
    kept = [prompt for prompt, why in zip(plan.prompts, refused, strict=True) if not why]
    first = next(((place, why) for place, why in enumerate(refused, start=1) if why), None)
    if first is None:
        return plan, 0
    if not kept:
        raise UserError(f"watch: none of the {len(refused)} prompts can be answered; the first: {first[1]}")
    left_out = len(refused) - len(kept)
    log.warning("watch: %d prompts are left out, the first the %d.: %s", left_out, *first)
    return replace(plan, prompts=kept), left_out


class EvaluationCallback:
    """Measures a model every few updates of an online training. Of a job without `watch` it does and writes nothing.

    `reward`: what it trains on. `stopped`: the rule that fired, and its figures.
    """

    def __init__(self, job: Job, sampler: Sampler, reward: Reward, reference: Reference, pad: int) -> None:
        self.stopped: str | None = None
        self._stop: Stop | None = None
        self._lost = False  # the loss was not finite or diverged: the run is over, whatever the plan says
        self._evaluations: list[EvaluationStep] = []
        self._lines: list[dict[str, Any]] = []
        self._folder, self._id = job.resume, job.id
        self._sampler, self._reward, self._reference, self._pad = sampler, reward, reference, pad
        self._temperature = float(job.arguments.get("temperature", 1.0))
        self._plan = Plan.read(job.watch) if job.watch is not None else None
        self._left_out = 0
        if self._plan and isinstance(sampler, InProcess):
            self._plan, self._left_out = _answerable(self._plan, sampler)
        self._together = processes.current()
        self._judge = rewards.build(self._plan.judge) if self._plan and self._together.first else None
        self._seeds = [
            seed_of("watch", job.seed, index) for index in range(len(self._plan.prompts) if self._plan else 0)
        ]

    def start(self, step: int, model: Any) -> None:
        """Before the first step, or after resuming at `step`: what was measured later is dropped and measured again."""
        if self._plan is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lines, self._evaluations = self._together.once(lambda: self._recalled(step))
        self._stop, self.stopped, self._lost = None, None, False
        for line in self._lines:
            if line["stopped"]:
                self._fire(Stop(line["stopped"], line["reason"], line["step"]))
        if not self._ended and self._plan.due(step, step + 1) and not any(x.step == step for x in self._evaluations):
            self._evaluate(step, self._lines[-1]["total"] if self._lines else step, model)

    def evaluate(self, step: int, total: int, model: Any) -> bool:
        """After every update: measures where that is due. False where training must end now."""
        if self._plan is None:
            return True
        if not self._ended and self._plan.due(step, total):
            self._evaluate(step, total, model)
        return not self._ended

    def rescue(self, stop: TrainingStopped, model: Any) -> bool:
        """After a loss that was not finite or that diverged: whether there are good weights to end with."""
        if self._plan is None or self._kept() is None:
            return False
        self._lost = True
        self._fire(Stop(DIVERGED if "diverge" in str(stop) else NOT_FINITE, str(stop), self._lines[-1]["step"]))
        return True

    def settle(self, model: Any) -> dict[str, Any]:
        """At the end. A run that was stopped gets its good weights back. Returns the manifest's metrics:

        `watch_stopped` (the rule that fired, or ""), `watch_reason`, `watch_stopped_step` (None where none did),
        `watch_kept_step`, `watch_steps` (the last that was measured), `watch_seconds`, and the figures of the first,
        the kept and the last evaluation. Raises TrainingStopped where no evaluation was good before the rule fired.
        """
        if self._plan is None or not self._lines:
            return {}
        first, last = self._lines[0], self._lines[-1]
        good = last
        if self._stop:
            before = kept(
                [evaluation for evaluation in self._evaluations if evaluation.step <= self._stop.step],
                self._plan.kl_budget,
            )
            step = self._kept() if self._ended else before.step if before else None
            if step is None:
                raise TrainingStopped(f"{self._stop}; no evaluation before that was good, and the parent is unchanged")
            if self._ended:
                self._put_back(step, model)
            good = next(line for line in self._lines if line["step"] == step)
        return {
            "watch_stopped": self._stop.rule if self._stop else "",
            "watch_reason": self._stop.reason if self._stop else "",
            "watch_stopped_step": self._stop.step if self._stop else None,
            "watch_kept_step": good["step"],
            "watch_steps": last["step"],
            **({"watch_left_out": self._left_out} if self._left_out else {}),
            "watch_seconds": round(sum(line["seconds"] for line in self._lines), 2),
            **{
                f"{name}_{which}": line[name]
                for name in ("proxy", "judge", "kl")
                for which, line in (("first", first), ("kept", good), ("last", last))
                if (name, which) != ("kl", "first")  # 0: it starts as its reference
            },
        }

    def close(self) -> None:
        """Frees the judge. The reward is its owner's."""
        if self._judge is not None:
            self._judge.close()

    @property
    def _ended(self) -> bool:
        """Whether a rule has ended the run: what was fired is only told where the plan does not stop."""
        assert self._plan is not None
        return self._stop is not None and (self._plan.stop or self._lost)

    # --- an evaluation step --------------------------------------------------------------------------------------

    def _evaluate(self, step: int, total: int, model: Any) -> None:
        evaluation, line, stop = self._together.once(lambda: self._measured(step, total, model))
        if not self._together.first:
            self._evaluations.append(evaluation)
        self._lines.append(line)
        if stop:
            self._fire(stop)

    def _measured(self, step: int, total: int, model: Any) -> tuple[EvaluationStep, dict[str, Any], Stop | None]:
        """By the first process: an evaluation, its line, and the rule that fires."""
        assert self._plan is not None and self._judge is not None
        began = time.monotonic()
        with torch.random.fork_rng():
            self._sampler.refresh(model)
            rollouts = self._sampler.sample(self._plan.prompts, self._seeds)
            ratios, entropy = log_ratios(model, self._reference, rollouts, self._pad, self._temperature)
            texts = [rollout.text for rollout in rollouts]
            proxy = self._reward.score(self._plan.prompts, texts)
            judge = self._judge.score(self._plan.prompts, texts)
        evaluation = EvaluationStep(step, tuple(proxy), tuple(judge), mean(ratios), entropy)
        self._evaluations.append(evaluation)
        self._write_samples(step, texts, proxy, judge)
        stop = decide(self._evaluations, self._plan.steps(total), self._plan.kl_budget)
        good = kept(self._evaluations, self._plan.kl_budget)
        if good is evaluation or (self._kept() is None and stop is None):
            self._keep(step, model)
        line = {
            "step": step,
            "total": total,
            "proxy": mean(proxy),
            "proxy_se": standard_error(proxy),
            "judge": mean(judge),
            "judge_se": standard_error(judge),
            "kl": evaluation.kl,
            "kl_se": standard_error(ratios),
            "entropy": entropy,
            "tokens": mean([len(rollout.ids) for rollout in rollouts]),
            "truncated": mean([not rollout.ended for rollout in rollouts]),
            **style.rates(texts),
            "kept": good.step if good else None,
            "seconds": round(time.monotonic() - began, 3),
            "stopped": stop.rule if stop else "",
            "reason": stop.reason if stop else "",
        }
        # JSON has no NaN: a number that is not finite is written as null.
        line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with (self._folder / EVALUATIONS).open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
        return evaluation, line, stop

    def _write_samples(self, step: int, texts: Sequence[str], proxy: Sequence[float], judge: Sequence[float]) -> None:
        assert self._plan is not None
        with (self._folder / SAMPLES).open("a", encoding="ascii") as file:
            for index, (text, *scores) in enumerate(zip(texts, proxy, judge, strict=True)):
                line = {"step": step, "index": index, "text": text, "proxy": scores[0], "judge": scores[1]}
                if len(self._evaluations) == 1:
                    line["prompt"] = list(self._plan.prompts[index])
                file.write(json.dumps(line) + "\n")

    def _fire(self, stop: Stop) -> None:
        if self._stop is None or self._lost:
            self._stop, self.stopped = stop, str(stop)

    def _recalled(self, step: int) -> tuple[list[dict[str, Any]], list[EvaluationStep]]:
        """What was measured up to `step`, from its files, which are cut there."""
        assert self._plan is not None
        lines = [line for line in read(self._folder / EVALUATIONS) if line["step"] <= step]
        seen: dict[int, list[dict[str, Any]]] = {}
        for sample in read(self._folder / SAMPLES):
            seen.setdefault(sample["step"], []).append(sample)
        # One whose answers were not all written is no evaluation; a crash between the two files leaves answers alone.
        lines = [line for line in lines if len(seen.get(line["step"], ())) == len(self._plan.prompts)]
        evaluations = []
        for line in lines:
            answers = seen[line["step"]]
            proxy, judge = ([sample[name] for sample in answers] for name in ("proxy", "judge"))
            kl, entropy = (math.nan if line[name] is None else line[name] for name in ("kl", "entropy"))
            evaluations.append(EvaluationStep(line["step"], tuple(proxy), tuple(judge), kl, entropy))
        _rewrite(self._folder / EVALUATIONS, lines)
        _rewrite(self._folder / SAMPLES, [sample for line in lines for sample in seen[line["step"]]])
        return lines, evaluations

    # --- good weights -------------------------------------------------------------------------------------------

    def _kept(self) -> int | None:
        """The step of the good weights, or, where a resumed run has not come to it again, of the last before it that
        were good and are there. None where there are none."""
        assert self._plan is not None
        steps = {evaluation.step for evaluation in self._evaluations} & self._saved().keys()
        evaluation = kept(
            [evaluation for evaluation in self._evaluations if evaluation.step in steps], self._plan.kl_budget
        )
        return evaluation.step if evaluation else None

    def _saved(self) -> dict[int, Path]:
        """By step, the weights of this job that are whole."""
        found = {}
        for path in (self._folder / GOOD).glob("*.json"):
            try:
                note = json.loads(path.read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
            if note["job"] == self._id:
                found[int(note["step"])] = path.with_suffix(".safetensors")
        return found

    def _keep(self, step: int, model: Any) -> None:
        """Writes the weights that are trained, in float32. The good ones before these stay; older ones go.

        Raises OSError where the disk is full: what was kept before is then as it was.
        """
        folder = self._folder / GOOD
        folder.mkdir(parents=True, exist_ok=True)
        before = self._saved()
        weights = {name: p.detach().float().cpu().contiguous() for name, p in _trained(model).items()}
        path, partial = folder / f"{step}.safetensors", folder / "partial"
        try:
            save_file(weights, partial)
            _sync(partial)
        except Exception as error:  # safetensors has errors of its own for a disk that is full
            partial.unlink(missing_ok=True)
            raise OSError(f"{path}: the good weights of step {step} cannot be written: {error}") from error
        partial.replace(path)
        evaluation = self._evaluations[-1]
        note = {
            "job": self._id,
            "step": step,
            "proxy": mean(evaluation.proxy),
            "judge": mean(evaluation.judge),
            "kl": evaluation.kl,
        }
        _rewrite(path.with_suffix(".json"), [note])  # last: weights without their note are none
        stay = {step, max((s for s in before if s < step), default=step)}
        for old in before.keys() - stay:
            before[old].with_suffix(".json").unlink()
            before[old].unlink(missing_ok=True)

    def _put_back(self, step: int, model: Any) -> None:
        weights = load_file(self._folder / GOOD / f"{step}.safetensors")
        trained = _trained(model)
        if weights.keys() != trained.keys():
            raise RuntimeError(f"the good weights of step {step} are of another model than the one that is trained")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(weights[name])


class TrainerHook(TrainerCallback):  # type: ignore[misc]
    """Calls an evaluation callback in transformers' and TRL's trainers. `settle` is the method's, after training."""

    def __init__(self, callback: EvaluationCallback) -> None:
        self.callback = callback

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        self.callback.start(state.global_step, model)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any) -> None:
        if not self.callback.evaluate(state.global_step, state.max_steps, model):
            control.should_training_stop = True


@torch.no_grad()
def log_ratios(
    model: Any, reference: Reference, rollouts: Sequence[Rollout], pad: int, temperature: float
) -> tuple[list[float], float]:
    """Each answer's log pi - log ref, summed over its tokens, and the mean entropy of a token, in nats.

    The mean of the first over answers of the model is its KL to the reference (without bias, and noisy: it may be
    below 0).
    """
    order = sorted(range(len(rollouts)), key=lambda i: len(rollouts[i].prompt_ids) + len(rollouts[i].ids))
    device = next(model.parameters()).device
    ratios, entropy, tokens = [0.0] * len(rollouts), 0.0, 0
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        batch = pack([rollouts[i] for i in rows], pad, device)
        with evaluating(model):
            ours, entropies = logprobs(model, batch, temperature)
        theirs = reference.logprobs(batch, temperature)
        for row, ratio in zip(rows, (ours - theirs).sum(-1).tolist(), strict=True):
            ratios[row] = ratio
        entropy += float(entropies.sum())
        tokens += int(batch.mask.sum())
    return ratios, entropy / max(1, tokens)


def _trained(model: Any) -> dict[str, torch.nn.Parameter]:
    """By name, as the model itself has it, whatever trains it has wrapped around it."""
    return {name: p for name, p in getattr(model, "module", model).named_parameters() if p.requires_grad}


def _rewrite(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """The old file or the new one, whatever happens."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    _sync(partial)
    partial.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
