"""Proximal policy optimisation (Schulman et al. 2017) of a language model on a reward, in one file.

One update: answer a batch of prompts, reward the answers, take the drift from the reference off the reward token by
token, ask the value model how much of it was expected, and go over the batch a few times, raising what was better than
expected and lowering what was worse, no further than the clips let it. Read `PPO.update` first; the arithmetic is in
the small functions above it. In RLHF by Ziegler et al. 2019; what follows is how each implementation detail known to
matter is treated ("The N Implementation Details of RLHF with PPO", Huang et al. 2023; arXiv 2403.17031 on TL;DR).

Answers
- Prompts are padded on the left, answers on the right; positions count from the first real token (`rollouts`).
- The end-of-turn token is sampled, scored and trained on like any other; padding is told apart by masks, never by its
  id, so a tokenizer whose padding is its end token does no harm. Nothing is sampled after it.
- An answer cut at `max_completion_length` ends there: the score sits at its last token and no value follows it.
- `missing_eos_penalty` is taken off the score of an answer without an end (TL;DR: 1). Nothing is resampled or thrown
  away for its form (Ziegler's rule that a text must hold a full stop is a reward's business).
- Sampling at `temperature`, without top-p; log-probabilities, ratio, KL and entropy are of the tempered policy. The
  log-probabilities of the sampler are not used: the training pass recomputes them, so that the first ratio is 1.
- Dropout is off in every pass. Prompts come in a new order, from the seed, at every pass over them.

Rewards and values
- The reward reads text; it is normalised before training, by `pipeline.rewards`, and neither scaled nor whitened here.
- The KL is estimated token by token by log pi - log ref of the sampled token (k1), inside the reward, so that it meets
  the discount and the value model; with `gamma` 1 it is the exact penalty in expectation.
- `kl_coef` is fixed, or with `kl_target` steered by Ziegler's proportional controller (section 2.2).
- GAE with `gamma` 1 and `lam` 0.95; the value after the last token is 0.
- Values are read where logits are: before each token. The head is linear, in float32, and starts at zero, weight and
  bias, as Ziegler's: values start at exactly 0, so the first advantages are the rewards to come and not the noise of
  a random head, and on a shared trunk its first gradient leaves the policy alone.
- The value model starts from the policy, not from the reward model, which may have another tokenizer or be no model.
  `value_trunk` "separate": a copy, trained whole. "shared": a head on the policy's hidden states, whose gradient also
  reaches the trunk, by `vf_coef`; with LoRA the four roles then fit in the memory of one frozen model. There rewards
  far from unit size move the policy through its trunk: normalise them, or lower `vf_coef`.
- Advantages are whitened over the answers' tokens of the whole batch, before minibatches, by masked mean and variance.
- The critic is kept in the resume state. It is not published: a checkpoint's digest is that of the policy alone.

Updates
- A batch is `per_device_train_batch_size` x `gradient_accumulation_steps` episodes, whatever `num_mini_batches` (in
  TRL that multiplies it), and makes `num_ppo_epochs` x `num_mini_batches` optimiser steps.
- Losses are sums over tokens divided by the tokens of the whole minibatch: cutting it for memory changes nothing.
- Ratio in float32, clipped by `cliprange`; values clipped around their old ones by `cliprange_value`, the worse of the
  two losses counts (Schulman's code; not in the paper). No entropy bonus.
- `target_kl` ends the inner epochs before a step whose minibatch shows more (k3, nats a token, old to new policy).
- AdamW with `adam_epsilon` 1e-5 (1e-8 makes rough first updates: torch's weighs less there than TensorFlow's did),
  no weight decay; learning rate annealed to 0 over the updates; gradients of policy and critic clipped apart, so that a
  large value loss does not shrink the policy's step.

Of several processes each samples and scores its part of the episodes and computes its part of every minibatch. What
they find is shared, so that whitening, losses, clips and the KL coefficient are those of the whole batch.

Of a LoRA policy the reference is the model with the adapter off, on the parent with earlier adapters merged; of full
weights it is a copy. So the KL is 0 at the first update: exactly, and of a copy but for the last bit of a float.

On a CPU a large batch goes faster in pieces that its caches hold: 16 x 4 took half the time of 64 x 1.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from constitution.records import seed_of
from pipeline.models.checkpoint import Kind
from pipeline.trainers import processes
from pipeline.trainers.trainer import ONLINE_DEFAULTS, Job, Progress, TrainingStopped

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.rewards.reward import Reward
    from pipeline.trainers.evaluation_callback import EvaluationCallback
    from pipeline.trainers.rollouts import Batch, Dialogue, Reference, Rollout, Sampler
    from pipeline.trainers.trackers import Tracking

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt",)
ONLINE = True
COEFFICIENT = "kl_coef"
DEFAULTS: dict[str, Any] = {
    **ONLINE_DEFAULTS,
    "missing_eos_penalty": None,  # reward units
    "learning_rate": 3e-6,  # arXiv 2403.17031 for full weights; a LoRA wants about 100 times as much
    "adam_epsilon": 1e-5,
    "num_ppo_epochs": 4,  # Ziegler
    "num_mini_batches": 1,
    "kl_coef": 0.05,  # reward units a nat; arXiv 2403.17031
    "kl_target": None,  # nats a sequence; None: kl_coef is fixed
    "kl_horizon": 10_000,  # episodes; Ziegler
    "gamma": 1.0,
    "lam": 0.95,
    "cliprange": 0.2,
    "cliprange_value": 0.2,  # reward units
    "vf_coef": 0.1,
    "target_kl": None,  # nats a token; None: every inner epoch is run
    "value_trunk": "separate",
}
READS = frozenset(DEFAULTS) | {"run_name"}
_COUNTS = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length", "num_ppo_epochs")
_SIZES = ("temperature", "cliprange", "cliprange_value", "kl_target", "kl_horizon", "target_kl", "max_grad_norm")
RANGES: tuple[tuple[tuple[str, ...], float, float, str], ...] = (  # of finite numbers
    ((*_COUNTS, "num_mini_batches", "save_steps"), 1, math.inf, "a number of 1 or more"),
    (_SIZES, math.ulp(0.0), math.inf, "a finite number above 0"),
    (("kl_coef", "missing_eos_penalty", "vf_coef", "learning_rate"), 0, math.inf, "a finite number, 0 or more"),
    (("gamma", "lam"), 0, 1, "a number from 0 to 1"),
)


# --- the arithmetic: tensors of answers are [N, T], `mask` true where there is a token --------------------------


def token_rewards(scores: Tensor, logratio: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """[N, T]: -kl_coef * (log pi - log ref) at every token, and at the last one the score [N] as well."""
    last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0)
    return (-kl_coef * logratio).scatter_add(1, last, scores[:, None]).masked_fill(~mask, 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Advantages [N, T], 0 where there is no token (Schulman et al. 2016, equations 11, 12 and 16):
    A_t = delta_t + gamma lam A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t, with V = A = 0 after the last token."""
    advantages = rewards.new_zeros(rewards.shape)
    advantage = value = rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * value - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        value = values[:, t] * mask[:, t]
        advantages[:, t] = advantage
    return advantages


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the tokens; 0 where there is none."""
    count = mask.sum()
    centred = (values - values.masked_fill(~mask, 0.0).sum() / count).masked_fill(~mask, 0.0)
    return centred * (centred.square().sum() / count + 1e-8).rsqrt()


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, cliprange: float) -> tuple[Tensor, Tensor]:
    """Of each token -min(r A, clip(r, 1 - c, 1 + c) A), r = pi_new / pi_old (Schulman et al. 2017, equation 7), and
    whether the clip decided it."""
    ratio = (new - old).exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return free.maximum(clipped), clipped > free


def value_loss(new: Tensor, old: Tensor, returns: Tensor, cliprange: float) -> Tensor:
    """Of each token half the squared error, or that of the value clipped to old +- cliprange where it is larger."""
    clipped = new.clamp(old - cliprange, old + cliprange)
    return 0.5 * (new - returns).square().maximum((clipped - returns).square())


def approximate_kl(new: Tensor, old: Tensor) -> Tensor:
    """Of each token r - 1 - log r, r = pi_new / pi_old: in expectation KL(old || new), never negative (k3)."""
    return (new - old).expm1() - (new - old)


@dataclass
class KLCoefficient:
    """What a nat of KL costs. With a target it follows the KL of each batch (Ziegler et al. 2019, section 2.2)."""

    value: float
    target: float | None = None
    horizon: float = 10_000

    def update(self, kl: float, episodes: int) -> None:
        """`kl`: nats a sequence. At most 20% off the target count, so one odd batch cannot throw it far."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.value *= 1 + error * episodes / self.horizon


# --- the loop ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experience:
    """A batch of answers with what its inner epochs leave as it is: tensors [N, T], zero where there is no token."""

    rollouts: Sequence[Rollout]
    mask: Tensor
    old: Tensor  # log-probabilities under the policy that sampled
    values: Tensor  # of its critic
    advantages: Tensor  # whitened
    returns: Tensor


class Critic:
    """Values [rows, T] of the state before each answer token: on a trunk of its own, or on the policy's."""

    def __init__(self, model: Any, trunk: str) -> None:
        """`model` is the causal model as it was loaded, before any adapter."""
        import copy

        import torch

        config = model.config.get_text_config()
        self.head = torch.nn.Linear(config.hidden_size, 1, device=model.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.trunk = copy.deepcopy(model.base_model).float().eval() if trunk == "separate" else None
        self._hidden: Any = None

    def listen(self, policy: Any) -> None:
        """A shared trunk's hidden states are what the policy's last layer reads: kept from its latest pass."""

        def keep(_: Any, inputs: tuple[Any, ...]) -> None:
            self._hidden = inputs[0]

        if self.trunk is None:
            policy.get_output_embeddings().register_forward_pre_hook(keep)

    def values(self, batch: Batch) -> Tensor:
        """Of a shared trunk: call it after the policy's pass over the same batch."""
        import torch

        if self.trunk is None:
            hidden, self._hidden = self._hidden, None
        else:
            positions = (batch.attention.cumsum(-1) - 1).clamp(min=0)
            out = self.trunk(batch.ids, attention_mask=batch.attention, position_ids=positions, use_cache=False)
            hidden = out.last_hidden_state[:, -batch.mask.shape[1] - 1 :]
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden[:, :-1].float())[..., 0].masked_fill(~batch.mask, 0.0)  # type: ignore[no-any-return]

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        for prefix, module in (("head", self.head), ("trunk", self.trunk)):
            yield from module.named_parameters(prefix) if module is not None else ()


class PPO:
    """The four roles, the optimiser, and what an update does with them."""

    def __init__(
        self,
        job: Job,
        model: Any,
        critic: Critic,
        reference: Reference,
        sampler: Sampler,
        reward: Reward,
        prompts: Sequence[Dialogue],
        pad: int,
        rows: int,
    ) -> None:
        """`model` has its adapter already; `rows` go through a model at a time."""
        import torch
        from transformers import get_scheduler

        self.together = processes.current()
        self.job, self.arguments, self.model, self.critic, self.reference = job, job.arguments, model, critic, reference
        self.sampler, self.reward, self.prompts, self.pad, self.rows = sampler, reward, prompts, pad, rows
        a = self.arguments
        self.episodes = _episodes(job)
        passes = math.ceil(a["num_train_epochs"] * len(prompts) / self.episodes)
        self.total = a["max_steps"] if a["max_steps"] > 0 else max(1, passes)
        self.coefficient = KLCoefficient(a["kl_coef"], a["kl_target"], a["kl_horizon"])
        self.seconds = {"sampling": 0.0, "scoring": 0.0, "training": 0.0}
        self.history: list[dict[str, float]] = []
        critic.listen(model)  # after the reference was copied: it must not be heard
        self.trained = {
            "policy": {name: weights for name, weights in model.named_parameters() if weights.requires_grad},
            "critic": dict(critic.named_parameters()),
        }
        self.optimizer = torch.optim.AdamW(
            [weights for role in self.trained.values() for weights in role.values()],
            lr=a["learning_rate"],
            eps=a["adam_epsilon"],
            weight_decay=a["weight_decay"],
        )
        warmup = a["warmup_steps"]
        warmup = math.ceil(warmup * self.total) if warmup < 1 else int(warmup)
        try:
            self.scheduler = get_scheduler(a["lr_scheduler_type"], self.optimizer, warmup, self.total)
        except ValueError as error:
            raise UserError(f"arguments: lr_scheduler_type: {error}") from None

    def update(self, step: int) -> dict[str, float]:
        """One batch of episodes, sampled, scored and learnt from; figures of it. Raises TrainingStopped where the
        reward is not finite."""
        times = [time.monotonic()]
        rollouts = self.sample(step)
        times.append(time.monotonic())
        scores = self.score(step, rollouts)
        times.append(time.monotonic())
        experience, seen = self.weigh(rollouts, scores)
        learnt = self.learn(step, experience)
        self.coefficient.update(seen["kl"], self.episodes)
        for name, start, end in zip(self.seconds, times, [*times[1:], time.monotonic()], strict=True):
            self.seconds[name] += end - start
        self.history.append({**learnt, **seen})
        return self.history[-1]

    def sample(self, step: int) -> list[Rollout]:
        places = range((step - 1) * self.episodes, step * self.episodes)
        count = len(self.prompts)
        orders = {epoch: _shuffled(count, self.job.seed, "prompts", epoch) for epoch in {p // count for p in places}}
        chosen = [self.prompts[orders[place // count][place % count]] for place in places]
        seeds = [seed_of(self.job.seed, "rollout", step, index) for index in range(self.episodes)]
        self.sampler.refresh(self.model)
        mine = self.together.share(chosen), self.together.share(seeds)
        with self._precision():
            return self.together.pool(lambda: self.sampler.sample(*mine))

    def score(self, step: int, rollouts: Sequence[Rollout]) -> list[float]:
        mine = self.together.share(rollouts)
        scores = self.together.pool(lambda: self.reward.score([r.prompt for r in mine], [r.text for r in mine]))
        for rollout, score in zip(rollouts, scores, strict=True):
            if not math.isfinite(score):
                raise TrainingStopped(f"step {step}: the reward of {rollout.text[:80]!r} is {score}", step - 1)
        return scores

    def weigh(self, rollouts: Sequence[Rollout], scores: Sequence[float]) -> tuple[Experience, dict[str, float]]:
        """What the models say of these answers before anything is learnt from them."""
        import torch

        self._settle()
        length = torch.tensor([len(r.ids) for r in rollouts])
        mask = (torch.arange(max(1, int(length.max()))) < length[:, None]).to(self.model.device)
        old, reference, values, entropy = (mask.new_zeros(mask.shape, dtype=torch.float32) for _ in range(4))
        for index, batch in self._pieces(rollouts, range(len(rollouts))):
            width = batch.mask.shape[1]
            with torch.no_grad(), self._precision():
                old[index, :width], values[index, :width], entropy[index, :width] = self.forward(batch)
                reference[index, :width] = self.reference.logprobs(batch, self.arguments["temperature"])
        self.together.add((old, reference, values, entropy))  # each row is one process's, and 0 in the others
        ended = torch.tensor([r.ended for r in rollouts])
        totals = torch.tensor(scores, dtype=torch.float32)
        totals -= (self.arguments["missing_eos_penalty"] or 0.0) * ~ended
        rewards = token_rewards(totals.to(mask.device), old - reference, mask, self.coefficient.value)
        advantages = gae(rewards, values, mask, self.arguments["gamma"], self.arguments["lam"])
        returns = advantages + values
        spread = returns[mask].var(correction=0)
        seen = {
            "reward": sum(scores) / len(scores),
            "kl": (old - reference).sum().item() / len(rollouts),
            "kl_coef": self.coefficient.value,
            "entropy": (entropy.sum() / mask.sum()).item(),
            "length": length.double().mean().item(),
            "ended": ended.double().mean().item(),
            "explained_variance": (1 - advantages[mask].var(correction=0) / spread).item() if spread > 0 else 0.0,
        }
        return Experience(rollouts, mask, old, values, whiten(advantages, mask), returns), seen

    def learn(self, step: int, experience: Experience) -> dict[str, float]:
        """The inner epochs: their figures, averaged over the optimiser steps."""
        self._settle()
        figures: list[dict[str, float]] = []
        rate = self.scheduler.get_last_lr()[0]
        for minibatch in self._minibatches(step):
            found = self._gradients(experience, minibatch)
            target = self.arguments["target_kl"]
            if figures and target is not None and found["approx_kl"] > target:
                break
            figures.append(found)
            if not math.isfinite(found["loss"] + found["grad_norm"]):
                break  # `progress.step` stops the run on these; the weights stay as they are
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        means = {name: sum(each[name] for each in figures) / len(figures) for name in figures[0]}
        return {**means, "inner_steps": len(figures), "learning_rate": rate}

    def _minibatches(self, step: int) -> Iterator[list[int]]:
        size = self.episodes // self.arguments["num_mini_batches"]
        for epoch in range(self.arguments["num_ppo_epochs"]):
            order = _shuffled(self.episodes, self.job.seed, "minibatches", step, epoch)
            yield from (order[start : start + size] for start in range(0, self.episodes, size))

    def _gradients(self, experience: Experience, minibatch: Sequence[int]) -> dict[str, float]:
        """Gradients of a minibatch, clipped, in place of those there were."""
        import torch

        a, tokens = self.arguments, experience.mask[minibatch].sum().clamp(min=1)
        self.optimizer.zero_grad()
        sums = torch.zeros(4, device=tokens.device)
        for index, batch in self._pieces(experience.rollouts, minibatch):
            width = batch.mask.shape[1]
            old, before, advantages, returns = (
                tensor[index, :width]
                for tensor in (experience.old, experience.values, experience.advantages, experience.returns)
            )
            with self._precision():
                new, values, _ = self.forward(batch)
            policy, clipped = policy_loss(new, old, advantages, a["cliprange"])
            value = value_loss(values, before, returns, a["cliprange_value"])
            ((policy.sum() + a["vf_coef"] * value.sum()) / tokens).backward()
            kl = approximate_kl(new.detach(), old)
            sums += torch.stack([part.detach().sum() for part in (policy, value, clipped, kl)])
        self.together.add([sums, *self._summands()])
        norms = [
            torch.nn.utils.clip_grad_norm_(list(part.values()), a["max_grad_norm"]).item()
            for part in self.trained.values()
        ]
        policy_mean, value_mean, clipfrac, kl_mean = (sums / tokens).tolist()
        return {
            "loss": policy_mean + a["vf_coef"] * value_mean,
            "policy_loss": policy_mean,
            "value_loss": value_mean,
            "clipfrac": clipfrac,
            "approx_kl": kl_mean,
            "grad_norm": math.hypot(*norms),
        }

    def _summands(self) -> Iterator[Tensor]:
        """The gradients, of which each process has its part; 0 where none of its answers made one."""
        import torch

        if self.together.count > 1:
            for weights in (*self.trained["policy"].values(), *self.trained["critic"].values()):
                weights.grad = torch.zeros_like(weights) if weights.grad is None else weights.grad
                yield weights.grad

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, values and entropies at the answers' tokens, [rows, T]."""
        from pipeline.trainers import rollouts

        logprobs, entropy = rollouts.logprobs(self.model, batch, self.arguments["temperature"])
        return logprobs, self.critic.values(batch), entropy

    def _pieces(self, rollouts: Sequence[Rollout], index: Sequence[int]) -> Iterator[tuple[list[int], Batch]]:
        """`self.rows` answers at a time, those of like length together: padding costs as much as text. Of several
        processes each has its own pieces, with answers of every length."""
        from pipeline.trainers.rollouts import pack

        order = sorted(index, key=lambda i: len(rollouts[i].prompt_ids) + len(rollouts[i].ids))
        order = order[self.together.index :: self.together.count]
        for start in range(0, len(order), self.rows):
            piece = order[start : start + self.rows]
            yield piece, pack([rollouts[i] for i in piece], self.pad, self.model.device)

    def _precision(self) -> Any:
        import torch

        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.job.dtype == "bfloat16")

    def _settle(self) -> None:
        """Dropout off. Layers that are to be computed again in the backward pass believe that they train."""
        for model in (self.model, self.critic.trunk):
            if model is None:
                continue
            model.eval()
            for module in model.modules():
                if getattr(module, "gradient_checkpointing", False):
                    module.training = True

    def save(self, step: int) -> None:
        from pipeline.trainers import resuming

        state = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "kl_coef": self.coefficient.value,
            "history": self.history,
        }
        self.together.once(lambda: resuming.save(self.job, step, self.rows, self.trained, state))

    def load(self, folder: Path) -> None:
        from pipeline.trainers import resuming

        state = resuming.load(folder, self.trained)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.coefficient.value, self.history = state["kl_coef"], state["history"]


# --- a job -------------------------------------------------------------------------------------------------------


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics: means over the last updates (a quarter of all, ten at most). `reward` is the mean as scored; `kl`, nats
    a sequence, log pi - log ref of the sampled answers; `entropy` and `approx_kl`, nats a token; `length`, tokens;
    `ended`, `clipfrac`, `explained_variance`, shares. `seconds_...` say where the time went.

    Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from pipeline import rewards
    from pipeline.trainers import resuming

    _check(job)
    began = time.monotonic()
    reward = rewards.build(job.reward or {})
    try:
        metrics = resuming.fit(job, lambda rows: _attempt(job, progress, reward, rows))
    finally:
        reward.close()
    return {**metrics, "seconds": round(time.monotonic() - began, 2)}


def _attempt(job: Job, progress: Progress, reward: Reward, rows: int) -> dict[str, Any]:
    """Train with `rows` rows through a model at a time, from the last state that was saved, and publish the policy."""
    from transformers import AutoModelForCausalLM

    from pipeline.trainers import fitting
    from pipeline.trainers.evaluation_callback import EvaluationCallback
    from pipeline.trainers.rollouts import InProcess, Reference
    from pipeline.trainers.rows import check_prompts, load_rows
    from pipeline.trainers.trackers import Tracking

    a = job.arguments
    tokenizer = fitting.load_tokenizer(job)
    found = load_rows(Path(job.dataset), COLUMNS, tokenizer, job, fitting.context_length(job, tokenizer))
    table = found.table
    model = fitting.load_model(job, AutoModelForCausalLM).to("cuda" if fitting.use_cuda(job) else "cpu")
    critic = Critic(model, a["value_trunk"])
    if config := fitting.lora_config(job, "CAUSAL_LM"):
        from peft import get_peft_model

        with fitting.setting_up():
            model = get_peft_model(model, config)
    if a["gradient_checkpointing"]:
        for each in filter(None, (model, critic.trunk)):
            each.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    sampler = InProcess(
        model,
        tokenizer,
        temperature=a["temperature"],
        max_new_tokens=a["max_completion_length"],
        batch_size=a["per_device_train_batch_size"] * a["gradient_accumulation_steps"],
        template=a["chat_template_kwargs"],
    )
    check_prompts(job, table, render=sampler.render)
    pad = tokenizer.pad_token_id
    ppo = PPO(job, model, critic, Reference(model), sampler, reward, table["prompt"][:], pad, rows)
    start = 0
    if state := fitting.resume_state(job):
        ppo.load(state[0])
        start = state[2]
    ppo.together.in_turn(lambda: progress.start(start))
    callback = EvaluationCallback(job, sampler, reward, ppo.reference, pad)
    tracking = Tracking(job, model, ppo.total, first=ppo.together.first)
    try:
        _run(ppo, progress, callback, tracking, start)
        judged = callback.settle(model)
    finally:
        tracking.close()
        callback.close()
    fitting.save_model(job, model)
    last = ppo.history[-max(1, min(10, len(ppo.history) // 4)) :]
    means = {name: sum(each[name] for each in last) / len(last) for name in last[0]} if last else {}
    spent = {f"seconds_{name}": round(seconds, 2) for name, seconds in ppo.seconds.items()}
    sizes = {"steps": len(ppo.history), **found.counted, "per_device_train_batch_size": rows}
    return {**means, **spent, **sizes, **judged}


def _run(ppo: PPO, progress: Progress, callback: EvaluationCallback, tracking: Tracking, start: int) -> None:
    callback.start(start, ppo.model)
    for step in range(start + 1, ppo.total + 1):
        try:
            figures = ppo.update(step)
            tracking.step(step, figures)
            progress.step(step, ppo.total, figures)
        except TrainingStopped as stop:
            if callback.rescue(stop, ppo.model):
                return
            raise
        if not callback.evaluate(step, ppo.total, ppo.model):
            return
        interrupted = ppo.together.any(progress.interrupted) and step < ppo.total
        if interrupted or step % ppo.arguments["save_steps"] == 0:
            ppo.save(step)
        if interrupted:
            raise KeyboardInterrupt


def check(a: Mapping[str, Any]) -> None:
    """Raises UserError for the first argument that PPO cannot work with."""
    for names, low, high, text in RANGES:
        for name in names:
            value = a[name]
            if value is None and DEFAULTS[name] is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not (number and low <= value <= high):
                raise UserError(f"arguments: {name} is {value!r}; it must be {text}")
    if a["kl_target"] is not None and a["kl_coef"] == 0:
        raise UserError("arguments: kl_target multiplies kl_coef, and 0 stays 0; start from a kl_coef above 0")
    if (episodes := a["per_device_train_batch_size"] * a["gradient_accumulation_steps"]) % a["num_mini_batches"]:
        raise UserError(
            f"arguments: {episodes} episodes an update (per_device_train_batch_size x gradient_accumulation_steps) "
            f"make no {a['num_mini_batches']} equal minibatches; change num_mini_batches"
        )
    if a["value_trunk"] not in ("separate", "shared"):
        raise UserError(f"arguments: value_trunk is {a['value_trunk']!r}; it must be separate or shared")


def _check(job: Job) -> None:
    """Raises UserError for a job that PPO cannot work with."""
    check(job.arguments)
    if job.dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype is {job.dtype!r}; it must be float32 or bfloat16")
    if not job.reward:
        raise UserError('ppo learns from a reward; name one, for example {"kind": "model", "paths": ["checkpoints/x"]}')


def _episodes(job: Job) -> int:
    """Of one update."""
    return int(job.arguments["per_device_train_batch_size"] * job.arguments["gradient_accumulation_steps"])


def _shuffled(count: int, *seed: Any) -> list[int]:
    return random.Random(seed_of(*seed)).sample(range(count), count)
