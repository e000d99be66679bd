"""PPO where the right answer is known: a bandit, a closed form, and an update worked out one sequence at a time."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.trainers import ppo, runner
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.rollouts import InProcess, Reference, Rollout, pack
from pipeline.trainers.trainer import Job, TrainingStopped

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of nine tokens, four of which are arms. Its distribution over them can be read off exactly."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "<turn>", "pull", "wait", "red", "blue", "green", "grey"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="wait"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", additional_special_tokens=["<turn>"]
    )
    turns = "{% for m in messages %}<turn> {{ m['content'] }} <end> {% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}<turn>{% endif %}"
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.5,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("table") / "model"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


END = 1  # its id


def distribution(folder: Path) -> tuple[torch.Tensor, list[str]]:
    """What the model answers to "pull", over its tokens, and the text each is read as."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "pull"}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt])).logits[0, -1]
    return logits.softmax(-1), [tokenizer.decode([i], skip_special_tokens=True) for i in range(len(logits))]


def one_token(make_job: MakeJob, table: Path, name: str, **options: Any) -> Job:
    defaults = {
        "max_steps": 50,
        "max_completion_length": 1,
        "per_device_train_batch_size": 128,
        "num_ppo_epochs": 1,
        "learning_rate": 2e-2,
        "lr_scheduler_type": "cosine",
    }
    rows = [{"prompt": [{"role": "user", "content": "pull"}]}]
    return make_job("ppo", name, model=str(table), rows=rows, **{**defaults, **options})


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Total variation."""
    return 0.5 * float((one - other).abs().sum())


ARMS = '{"red": 2.0, "blue": 1.0, "green": -2.0}.get(answer, 0.0)'


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_a_bandit_finds_its_best_arm(trunk: str, make_job: MakeJob, rewarded: Any, table: Path) -> None:
    options = {"max_steps": 20, "per_device_train_batch_size": 64, "num_ppo_epochs": 4, "value_trunk": trunk}
    job = rewarded(one_token(make_job, table, trunk, kl_coef=0.0, **options), ARMS)
    metrics = runner.run(job).metrics
    after, texts = distribution(Path(job.out))
    before, _ = distribution(table)
    assert before[texts.index("red")] < 0.5  # with no coefficient nothing keeps it there
    assert after[texts.index("red")] > 0.97
    assert metrics["reward"] > 1.8
    lines = read(Path(job.out) / NAME)
    assert abs(lines[0]["kl"]) < 1e-6 and lines[-1]["kl"] > 0.5
    # The value model came to expect it: of a reward of 2 little is left to explain.
    assert lines[-1]["value_loss"] < 0.1 * max(line["value_loss"] for line in lines)


@pytest.mark.parametrize(("beta", "penalty"), [(0.5, None), (1.0, None), (2.0, None), (1.0, 3.0)])
def test_the_optimum_is_the_reference_tilted_by_the_reward(
    beta: float, penalty: float | None, make_job: MakeJob, rewarded: Any, table: Path
) -> None:
    """pi ~ ref x exp(r / beta), whatever the reference; the penalty is for every answer but the end itself."""
    job = rewarded(one_token(make_job, table, "tilt", kl_coef=beta, missing_eos_penalty=penalty), ARMS)
    runner.run(job)
    reference, texts = distribution(table)
    rewards = torch.tensor([eval(ARMS, {"answer": text}) for text in texts]) - (penalty or 0.0)
    rewards[END] += penalty or 0.0
    optimum = (reference.log() + rewards / beta).softmax(-1)
    assert distance(reference, optimum) > 0.06
    found, _ = distribution(Path(job.out))
    assert distance(found, optimum) < 0.01  # measured: 0.002 to 0.003


def test_a_very_large_coefficient_leaves_the_policy_at_the_reference(
    make_job: MakeJob, rewarded: Any, table: Path
) -> None:
    job = rewarded(one_token(make_job, table, "tied", kl_coef=1e4), ARMS)
    runner.run(job)
    assert distance(distribution(table)[0], distribution(Path(job.out))[0]) < 0.02


# --- an update against another implementation --------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(model: Path) -> list[Rollout]:
    """Four answers of the tiny model, of different lengths, one of them empty but for its end."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    sampler = InProcess(AutoModelForCausalLM.from_pretrained(model), tokenizer, max_new_tokens=5)
    prompts = [[{"role": "user", "content": text}] for text in ("the cat", "open the red door please", "help", "a")]
    rollouts = sampler.sample(prompts, [1, 2, 3, 4])
    end = tokenizer.eos_token_id
    shorter = dataclasses.replace(rollouts[1], ids=[*rollouts[1].ids[:2], end], ended=True)
    return [rollouts[0], shorter, rollouts[2], dataclasses.replace(rollouts[3], ids=[end], text="", ended=True)]


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_a_recorded_rollout_gives_the_update_of_a_plain_implementation(
    trunk: str, recorded: list[Rollout], make_job: MakeJob, model: Path
) -> None:
    """One sequence at a time, nothing padded, every formula written out."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"kl_coef": 0.3, "gamma": 0.9, "lam": 0.7, "missing_eos_penalty": 0.5, "temperature": 0.7}
    scores = [1.0, -2.0, 0.5, 3.0]
    options |= {"max_steps": 1, "per_device_train_batch_size": 4, "num_ppo_epochs": 2, "value_trunk": trunk}
    job = make_job("ppo", **{**ppo.DEFAULTS, "learning_rate": 1e-3, **options})
    policy = AutoModelForCausalLM.from_pretrained(model)
    critic = ppo.Critic(policy, trunk)
    torch.manual_seed(5)
    torch.nn.init.normal_(critic.head.weight, std=0.1)
    with torch.no_grad():  # a policy that has left its reference
        reference = Reference(policy)
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    plain, plain_trunk = copy.deepcopy(policy), copy.deepcopy(critic.trunk) if critic.trunk is not None else None
    plain_head = copy.deepcopy(critic.head)
    agent = ppo.PPO(job, policy, critic, reference, None, None, [[]] * 4, 0, rows=3)  # type: ignore[arg-type]
    experience, seen = agent.weigh(recorded, scores)
    agent.learn(1, experience)

    def look(rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.ids]])
        places = range(len(rollout.prompt_ids) - 1, ids.shape[1] - 1)
        out = plain(ids, output_hidden_states=True)
        logs = (out.logits[0] / 0.7).log_softmax(-1)
        hidden = out.hidden_states[-1] if plain_trunk is None else plain_trunk(ids).last_hidden_state
        new = torch.stack([logs[place, token] for place, token in zip(places, rollout.ids, strict=True)])
        return new, torch.stack([plain_head(hidden[0, place])[0] for place in places])

    old, advantages, returns = [], [], []
    for rollout, score in zip(recorded, scores, strict=True):
        with torch.no_grad():
            new, values = look(rollout)
            ref = reference.logprobs(pack([rollout], 0), 0.7)[0]
        rewards = [-0.3 * float(a - b) for a, b in zip(new, ref, strict=True)]
        rewards[-1] += score - (0.0 if rollout.ended else 0.5)
        line = [*values.tolist(), 0.0]
        deltas = [r + 0.9 * line[t + 1] - line[t] for t, r in enumerate(rewards)]
        gains = [sum(0.63 ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]
        old.append((new, values))
        advantages.append(torch.tensor(gains))
        returns.append(torch.tensor(gains) + values)
    flat = torch.cat(advantages)
    advantages = [(each - flat.mean()) / (flat.var(correction=0) + 1e-8).sqrt() for each in advantages]
    roles = [list(plain.parameters()), [*plain_head.parameters(), *(plain_trunk.parameters() if plain_trunk else ())]]
    optimizer = torch.optim.AdamW([*roles[0], *roles[1]], lr=1e-3, eps=1e-5, weight_decay=0.0)
    for _ in range(2):
        loss = torch.tensor(0.0)
        for rollout, (before, was), gain, target in zip(recorded, old, advantages, returns, strict=True):
            new, values = look(rollout)
            ratio = (new - before).exp()
            loss = loss - torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).sum()
            held = was + (values - was).clamp(-0.2, 0.2)
            loss = loss + 0.1 * 0.5 * torch.maximum((values - target) ** 2, (held - target) ** 2).sum()
        optimizer.zero_grad()
        (loss / len(flat)).backward()
        for role in roles:
            torch.nn.utils.clip_grad_norm_(role, 1.0)
        optimizer.step()
    assert seen["reward"] == pytest.approx(0.625)
    pairs = [(policy, plain), (critic.head, plain_head), *([(critic.trunk, plain_trunk)] if plain_trunk else [])]
    for mine, other in pairs:
        for (name, one), two in zip(mine.named_parameters(), other.parameters(), strict=True):
            assert torch.allclose(one, two, atol=1e-5), name


def test_a_reward_that_is_not_finite_is_told_with_its_answer(
    recorded: list[Rollout], make_job: MakeJob, model: Path
) -> None:
    """`pipeline.rewards` refuses it first; this is for rewards that come from elsewhere."""
    from transformers import AutoModelForCausalLM

    class Broken:
        def score(self, prompts: Any, answers: Any) -> list[float]:
            return [0.0] * (len(answers) - 1) + [math.nan]

    policy = AutoModelForCausalLM.from_pretrained(model)
    job = make_job("ppo", **{**ppo.DEFAULTS, "max_steps": 1})
    agent = ppo.PPO(job, policy, ppo.Critic(policy, "shared"), None, None, Broken(), [[]], 0, 1)  # type: ignore[arg-type]
    with pytest.raises(TrainingStopped, match="step 7: the reward of '' is nan") as stop:
        agent.score(7, recorded)
    assert stop.value.good_steps == 6
