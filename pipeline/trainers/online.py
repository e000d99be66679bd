"""RLOO and GRPO on TRL's trainers: our answers, rewards, reference and evaluation around TRL's advantages and losses.

What is ours, and why:

- Answers are sampled by `rollouts`' sampler, as PPO's: prompts rendered so that a special token spelled out is only
  text, each answer from a seed of its own, stopped at every token that the template ends a turn with. transformers'
  `generate`, which TRL calls, takes what it is not told (repetition penalties, suppressed tokens) from the folder's
  generation_config.json, and takes 2.8 times as long for a small model on a CPU. TRL's sampling options, top_p and the
  like, are refused: its losses take the probabilities of the whole vocabulary.
- The reward is a `pipeline.rewards` one, and reads the answer's text without a thinking block.
- The reference is `rollouts.Reference`: TRL would load the folder that the model's configuration names, and of a
  parent that is a merged LoRA that is the base below it.
- Prompts come in an order drawn from the seed and the epoch. TRL's own goes on from epoch to epoch, and a resumed run
  would begin with the first again. With `num_iterations` above 1, answers are used for several updates and not saved:
  resumed = uninterrupted then holds for states saved at a multiple of it.
- Of several processes each samples, scores and learns from its part of the update's answers; a group may lie across
  two of them. GRPO's `kl` is a mean of means of what goes through the model at a time, and differs a little there.

This module imports TRL: import it inside `train`.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl.trainer.utils import RepeatSampler, add_fused_lm_head

from constitution.errors import UserError
from constitution.records import seed_of
from pipeline import rewards
from pipeline.engines.chats import ChatTokenizer
from pipeline.rewards.reward import Reward
from pipeline.trainers import fitting, processes
from pipeline.trainers.evaluation_callback import EvaluationCallback, TrainerHook
from pipeline.trainers.rollouts import Batch, Dialogue, InProcess, Reference, Rollout, logprobs
from pipeline.trainers.rows import NAMED, Rows, check_prompts, load_rows
from pipeline.trainers.trainer import Job, Progress, TrainingStopped

log = logging.getLogger(__name__)

FIGURES = {  # TRL's names and ours
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "frac_reward_zero_std",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "truncated",
    "clip_ratio/region_mean": "clipfrac",
}


# What TRL would sample with, which the sampler does not do.
SAMPLING = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None}


class Prompts(RepeatSampler):  # type: ignore[misc]
    """TRL's order of prompts, drawn from (seed, epoch) alone."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        return super().__iter__()  # type: ignore[no-any-return]


class Online(fitting.TrainerMixin):
    """Mixed into TRL's RLOOTrainer or GRPOTrainer. `reference` is None where nobody asks for it."""

    sampler: InProcess
    reference: Reference | None
    model: Any
    _metrics: Any

    def __init__(self, *, model: Any, args: Any, reward: Reward, measured: bool, **options: Any) -> None:
        self.reward = reward
        wanted, lora = bool(args.beta) or measured, options.get("peft_config") is not None
        # Before TRL changes the model's forward: a copy made after that would compute with the weights of this one.
        self.reference = Reference(model) if wanted and not lora else None
        beta, args.beta = args.beta, 0.0  # at 0 TRL loads no reference of its own
        super().__init__(model=model, args=args, reward_funcs=self.score, **options)  # type: ignore[call-arg]
        self.beta = args.beta = beta
        if self.reference:
            self.reference.model.to(self.model.device)
            if beta:
                add_fused_lm_head(self.reference.model, temperature=args.temperature)
                self.ref_model = self.reference.model
        elif wanted:
            self.reference = Reference(self.model)
        tokenizer: PreTrainedTokenizerBase = options["processing_class"]
        chats = ChatTokenizer(tokenizer)
        self.eos_token_ids = sorted({*self.eos_token_ids, *chats.stop_ids})  # type: ignore[has-type]  # as the sampler
        self.sampler = InProcess(
            self.model,
            tokenizer,
            temperature=args.temperature,
            max_new_tokens=args.max_completion_length,
            template=args.chat_template_kwargs,
        )
        self._answers: Sequence[Rollout] = ()
        self._length = 0.0  # tokens: the mean of the last answers

    # --- prompts, answers and rewards ---

    def get_train_dataloader(self) -> Any:
        return super(fitting.TrainerMixin, self).get_train_dataloader()  # type: ignore[misc]

    def _get_train_sampler(self, train_dataset: Any = None) -> Prompts:
        args: Any = self.args  # type: ignore[attr-defined]
        self.order = order = Prompts(
            self.train_dataset if train_dataset is None else train_dataset,
            mini_repeat_count=args.num_generations,
            batch_size=args.generation_batch_size // args.num_generations,
            repeat_count=args.num_iterations * args.steps_per_generation,
            shuffle=args.shuffle_dataset,
            seed=args.seed,
        )
        return order

    def _tokenize_prompts(self, prompts: Sequence[Dialogue]) -> tuple[list[Sequence[int]], None, dict[str, Any]]:
        """TRL asks for the prompts' tokens, and gets them with the answers."""
        args, accelerator = self.args, self.accelerator  # type: ignore[attr-defined]
        place = (self.state.global_step, self._step % args.gradient_accumulation_steps)  # type: ignore[attr-defined]
        first = accelerator.process_index * len(prompts)
        seeds = [seed_of(args.seed, "rollout", *place, first + index) for index in range(len(prompts))]
        self.sampler.refresh(self.model)
        with accelerator.autocast():
            self._answers = self.sampler.sample(prompts, seeds)
        return [answer.prompt_ids for answer in self._answers], None, {}

    def answers(self) -> list[list[int]]:
        """What TRL's `_generate_single_turn` is to return, whose form is another in each trainer."""
        return [list(answer.ids) for answer in self._answers]

    def score(self, prompts: Sequence[Dialogue], **_: Any) -> list[float]:
        """TRL's reward function. Raises UserError where the reward is none (`pipeline.rewards`)."""
        texts = [answer.text for answer in self._answers]
        together = processes.current()
        return list(together.share(together.pool(lambda: self.reward.score(prompts, texts))))

    # --- log-probabilities ---

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **options: Any,
    ) -> Any:
        """[rows, T] of the answers' tokens, and their entropies. On a GPU by TRL's fused head, which never holds the
        logits of a large vocabulary; on a CPU that head works through the prompts' positions, too."""
        bonus = getattr(self, "_entropy_bonus_enabled", False)  # needs the gradient of the entropies
        if input_ids.is_cuda or bonus or self.aux_loss_enabled:  # type: ignore[attr-defined]
            return super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **options
            )
        whole = Batch(input_ids, attention_mask, attention_mask[:, -logits_to_keep:].bool())
        size = batch_size or len(input_ids)
        with self.accelerator.autocast():  # type: ignore[attr-defined]
            parts = [
                logprobs(model, whole.rows(slice(start, start + size)), self.temperature)  # type: ignore[attr-defined]
                for start in range(0, len(input_ids), size)
            ]
        found, entropies = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return found, entropies if compute_entropy else None, None

    # --- figures ---

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Our names for TRL's figures, and the KL of a sequence where TRL has that of a token."""
        found = {name: sum(values) / len(values) for name, values in self._metrics["train"].items() if values}
        figures = {ours: found[name] for name, ours in FIGURES.items() if name in found}
        if "truncated" in figures:
            figures["ended"] = 1 - figures.pop("truncated")
        self._length = figures.get("length", self._length)  # answers that are used again are not counted again
        if "kl" in figures:
            figures["kl"] *= self._length
        kept = {name: [value] for name, value in figures.items() if math.isfinite(value)}
        self._metrics = {**self._metrics, "train": defaultdict(list, kept)}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def learn(job: Job, progress: Progress, trainer_class: type[Any], config_class: type[Any]) -> dict[str, Any]:
    """Train by `trainer_class`, an `Online` one. See `rloo` for the metrics. Raises UserError, TrainingStopped or
    KeyboardInterrupt."""
    a = job.arguments
    answers = a["per_device_train_batch_size"] * a["gradient_accumulation_steps"]
    if not job.reward:
        raise UserError(
            f'{job.method} learns from a reward; name one, for example {{"kind": "model", "paths": ["checkpoints/x"]}}'
        )
    tokenizer = fitting.load_tokenizer(job)
    found = _prompts(job, tokenizer, answers // a["num_generations"])
    reward = rewards.build(job.reward or {})
    trainer: Any = None
    callback: EvaluationCallback | None = None

    def build(batch_size: int) -> Any:
        nonlocal trainer, callback
        if callback:
            callback.close()
        trainer = callback = None  # the attempt that ran out of memory must be gone before the next one
        fixed = {**SAMPLING, "chat_template_kwargs": dict(a["chat_template_kwargs"]), "sync_ref_model": False}
        named = dataclasses.replace(job, arguments={key: a[key] for key in a.keys() - {"max_length"}})
        trainer = trainer_class(
            model=fitting.load_model(job, AutoModelForCausalLM),
            args=fitting.configure(named, config_class, batch_size, 0, **fixed),
            reward=reward,
            measured=job.watch is not None,
            train_dataset=found.table.select_columns(["prompt"]),
            processing_class=tokenizer,
            peft_config=fitting.lora_config(job, "CAUSAL_LM"),
        )
        check_prompts(job, found.table, render=trainer.sampler.render)
        if job.watch is not None:
            callback = EvaluationCallback(job, trainer.sampler, reward, trainer.reference, tokenizer.pad_token_id)
            trainer.add_callback(TrainerHook(callback))
        return trainer

    try:
        try:
            _, metrics = fitting.fit(job, progress, build)
        except TrainingStopped as stop:
            if not (callback and callback.rescue(stop, trainer.model)):
                raise
            metrics = {"steps": trainer.state.global_step}
        if callback:
            metrics |= callback.settle(trainer.model)
    finally:
        if callback:
            callback.close()
        reward.close()
    fitting.save(job, trainer)
    return {**metrics, **found.counted}


def _prompts(job: Job, tokenizer: PreTrainedTokenizerBase, needed: int) -> Rows:
    """The prompts, at least as many as one update takes, each with room for an answer: others are left out."""
    found = load_rows(Path(job.dataset), ("prompt",), tokenizer, job, fitting.context_length(job, tokenizer))
    everything = dataclasses.replace(job, arguments={**job.arguments, "max_length": None})
    context, longest = fitting.context_length(everything, tokenizer), job.arguments["max_completion_length"]
    lengths = found.table["length"]
    fit = [place for place, length in enumerate(lengths) if length + longest <= context]
    if len(fit) < len(found.table):
        crowded = [
            f"line {line}: after a prompt of {length} tokens the model has room for {context - length} of an answer, "
            f"not for max_completion_length {longest}; lower that"
            for line, length in zip(found.table["line"], lengths, strict=True)
            if length + longest > context
        ]
        if not fit:
            raise UserError(f"{job.dataset}: no row is left to train on; {crowded[0]}")
        log.warning("%s: %d prompts are left out, the first: %s", job.dataset, len(crowded), crowded[0])
        named = (*found.named, *crowded)[:NAMED]
        found = Rows(found.table.select(fit), found.left_out + len(crowded), named)
    if len(found.table) < needed:
        raise UserError(
            f"{job.dataset}: {len(found.table)} prompts, and an update takes {needed} different ones (answers of an "
            "update / num_generations); add prompts, or lower per_device_train_batch_size or "
            "gradient_accumulation_steps"
        )
    return found
