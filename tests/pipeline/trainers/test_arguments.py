"""An argument has an effect, or it is refused, before anything is loaded; and no stored job changes its id by it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from constitution.errors import UserError
from constitution.records import job_id
from pipeline import trainers
from pipeline.trainers import arguments, declared
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

ROOT = Path(__file__).parents[3]
# Of jobs as they are stored: with no arguments, and with those of the precept.toml that ships.
IDS = {
    "best_of_n": ("1a5b2dc5f29763b9", "4e574531bb29e014"),
    "dpo": ("16984bb8df94529d", "09f22ca295ddca6b"),
    "grpo": ("e681c790354f664a", "3e9d5462af26f99c"),
    "kto": ("343ad8ded2c844e8", "9f440acc2122eeb1"),
    "orpo": ("e38e690f611712d3", "348fe906817b432e"),
    "ppo": ("7a4e5c9aec7a8ab9", "b607a9ac766e4e1e"),
    "reward": ("8853c7a3a699dbc5", "66a38be7d9795c01"),
    "rloo": ("c2b5178467be55a1", "38c33051d63a66cc"),
    "sft": ("a4be6f2ae2631e8d", "68ae40b182fac0dc"),
}
CONFIGS = {  # what a method's arguments are passed to
    "sft": "SFTConfig",
    "reward": "RewardConfig",
    "dpo": "DPOConfig",
    "orpo": "DPOConfig",
    "kto": "KTOConfig",
    "rloo": "RLOOConfig",
    "grpo": "GRPOConfig",
    "best_of_n": "SFTConfig",
}
OURS = {  # what the methods read themselves
    **dict.fromkeys(CONFIGS, frozenset({"divergence_factor", "chat_template_kwargs", "max_length"})),
    "reward": {"divergence_factor", "chat_template_kwargs", "heads"},
    "best_of_n": {"divergence_factor", "chat_template_kwargs", "n", "max_completion_length", "temperature"},
}
UNREAD_DEFAULTS = {"best_of_n": {"per_device_eval_batch_size"}}


@pytest.mark.parametrize("method", IDS)
def test_the_ids_of_stored_jobs_stay_what_they_are(method: str) -> None:
    shipped = tomllib.loads((ROOT / "precept.toml").read_text())
    sections = {"sft": shipped["sft"]["arguments"], "reward": shipped["reward"]["arguments"], **shipped["arguments"]}
    for given, expected in zip(({}, sections[method]), IDS[method], strict=True):
        resolved = trainers.resolve(method, given)
        found = job_id(parent="parent", dataset="data", method=method, arguments=resolved, seed=0)
        assert found.hex()[:16] == expected, given


@pytest.mark.parametrize(
    ("method", "name", "value", "hint"),
    [
        ("dpo", "loss_type", ["ipo"], ""),
        ("dpo", "label_smoothing", 0.1, ""),
        ("sft", "beta", 0.1, ""),
        ("sft", "epochs", 3, "did you mean num_train_epochs?"),
        ("sft", "learning_rat", 1e-3, "did you mean learning_rate?"),
        ("grpo", "batch_size", 4, "did you mean per_device_train_batch_size?"),
        ("reward", "center_rewards_coefficient", 0.1, ""),
        ("kto", "loss_type", "kto", ""),
        ("kto", "train_sampling_strategy", "random", ""),
        ("orpo", "precompute_ref_batch_size", 2, ""),
        ("rloo", "top_p", 0.9, ""),
        ("ppo", "num_generations", 4, ""),
        ("best_of_n", "per_device_eval_batch_size", 8, ""),
        ("dpo", "seed", 1, "the job's seed says it"),
        ("sft", "fp16", True, "the job's dtype says it"),
        ("sft", "output_dir", "x", "the job's out says it"),
    ],
)
def test_what_would_change_nothing_is_refused_and_it_is_said_where_all_are_listed(
    method: str, name: str, value: Any, hint: str
) -> None:
    with pytest.raises(UserError) as refused:
        trainers.resolve(method, {name: value})
    said = str(refused.value)
    assert said.startswith(f"arguments: {method} does not read {name}; ") and hint in said
    assert said.endswith(f"all that it reads: python -m pipeline.trainers --arguments {method}")


def test_a_job_is_refused_before_a_library_is_imported(make_job: Callable[..., Job], tmp_path: Path) -> None:
    make_job("dpo", loss_type=["ipo"]).write(tmp_path / "job.json")
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.trainers.runner import run\n"
        "from pipeline.trainers.trainer import Job\n"
        f"try: run(Job.read(Path({str(tmp_path / 'job.json')!r})), launched=(0, 2))\n"
        "except Exception as error: print(error)\n"
        "print(sorted({'torch', 'transformers', 'trl', 'datasets', 'accelerate'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    said, imported = done.stdout.splitlines()
    assert said.startswith("arguments: dpo does not read loss_type") and imported == "[]"
    assert not (tmp_path / "out.resume").exists()


@pytest.mark.parametrize("method", IDS)
def test_every_default_is_read_or_can_only_be_given_as_it_is(method: str) -> None:
    module = trainers.load(method)
    unread = set(module.DEFAULTS) - arguments.reads(module)
    assert unread == UNREAD_DEFAULTS.get(method, set())
    assert trainers.resolve(method, module.DEFAULTS) == module.DEFAULTS


@pytest.mark.parametrize("method", CONFIGS)
def test_what_a_method_declares_is_there_where_it_is_passed_to(method: str) -> None:
    import trl

    fields = {field.name for field in dataclasses.fields(getattr(trl, CONFIGS[method])) if field.init}
    declared = arguments.reads(trainers.load(method))
    assert declared - fields <= OURS[method]
    assert OURS[method] - {"max_length", "max_completion_length", "temperature"} - fields <= declared


def test_what_ppo_declares_is_what_its_code_looks_up() -> None:
    """It passes its arguments to nobody: each name stands in its own source, or is one that all methods share."""
    source = (ROOT / "pipeline" / "trainers" / "ppo.py").read_text().partition("READS =")[2]
    elsewhere = {"max_length", "divergence_factor", "report_to"}  # fitting.context_length, progress, trackers
    assert {name for name in arguments.reads(trainers.load("ppo")) if f'"{name}"' not in source} == elsewhere


def test_all_that_a_method_reads_is_listed() -> None:
    def listed(method: str) -> tuple[int, list[str], str]:
        command = [sys.executable, "-m", "pipeline.trainers", "--arguments", method]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
        return done.returncode, done.stdout.splitlines(), done.stderr

    code, lines, _ = listed("best-of-n")
    assert code == 0 and {"n = 8", "loss_type", "temperature = 1.0"} <= set(lines)
    assert [line.partition(" ")[0] for line in lines] == sorted(arguments.reads(trainers.load("best_of_n")))
    code, lines, said = listed("drpo")
    assert (code, lines) == (2, []) and "no training method 'drpo'" in said


# --- a value is one that the method can work with ------------------------------------------------------------------


def kinds_of(method: str, name: str) -> set[type]:
    """What a value of an argument may be: by the library's own dataclass, or the method's default."""
    accepted = set()
    module = trainers.load(method)
    for value in (True, 1, 0.5, "words", ["words"], {"a": 1}, [0.1, 0.2]):
        with contextlib.suppress(UserError):
            arguments.check(method, SimpleNamespace(**{**vars(module), "check": lambda _: None}), {name: value})
            accepted.add(type(value))
    return accepted


@pytest.mark.parametrize("method", IDS)
def test_every_argument_refuses_what_is_no_value_of_its_by_name(method: str) -> None:
    for name in sorted(arguments.reads(trainers.load(method))):
        known = kinds_of(method, name)
        assert known != {bool, int, float, str, list, dict}, f"{name} takes anything"
        for value in (math.nan, math.inf, -math.inf, [math.nan], {"a": math.inf}, "a\0b", b"bytes", object()):
            with pytest.raises(UserError, match=f"^sft.arguments: {name} is "):
                trainers.resolve(method, {name: value}, "sft.arguments")
        for value in (True, "words", ["words"], {"a": 1}, 1.5, 10**400):
            if type(value) not in known and not (type(value) is int and float in known):
                with pytest.raises(UserError, match=f"^arguments: {name} is .*; it must be "):
                    trainers.resolve(method, {name: value})


@pytest.mark.parametrize("method", IDS)
@hypothesis.settings(deadline=None)  # the first call imports what the method reads
@hypothesis.given(data=st.data())
def test_a_number_is_refused_or_is_one_of_its_type_and_range(method: str, data: st.DataObject) -> None:
    module = trainers.load(method)
    name = data.draw(st.sampled_from(sorted(arguments.reads(module) & module.DEFAULTS.keys())))
    value = data.draw(st.one_of(st.integers(-(10**9), 10**9), st.floats(), st.booleans(), st.text(max_size=5)))
    try:
        found = trainers.resolve(method, {name: value})[name]
    except UserError as error:
        assert str(error).startswith("arguments: ") and "\n" not in str(error)
    else:
        default = module.DEFAULTS[name]
        assert found is value and (not isinstance(value, float) or math.isfinite(value))
        assert isinstance(value, bool) == isinstance(default, bool) or name == "scale_rewards"
        assert isinstance(value, str) == isinstance(default, str) or name == "scale_rewards"
        assert isinstance(default, bool | str) or name == "max_steps" or value >= 0


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("dpo", {"learning_rate": "fast"}, "learning_rate is 'fast'; it must be a finite number, 0 or more"),
        ("dpo", {"beta": math.nan}, "beta is nan; it must be a finite number, 0 or more"),
        ("dpo", {"learning_rate": -1e-5}, "learning_rate is -1e-05; it must be a finite number, 0 or more"),
        ("sft", {"max_steps": True}, "max_steps is True; it must be a whole number"),
        ("sft", {"max_steps": 0}, "max_steps is 0; it must be a whole number, 1 or more, or -1"),
        ("sft", {"learning_rate": [1e-5]}, "learning_rate is [1e-05]; it must be a finite number"),
        ("sft", {"per_device_train_batch_size": 2.5}, "per_device_train_batch_size is 2.5; it must be a whole number"),
        ("sft", {"gradient_checkpointing": "yes"}, "gradient_checkpointing is 'yes'; it must be true or false"),
        ("sft", {"lr_scheduler_type": "cosin"}, "lr_scheduler_type is 'cosin'; it must be one of linear, cosine"),
        ("sft", {"optim": "adam"}, "optim is 'adam'; it must be one of adamw_torch"),
        ("sft", {"loss_type": "dpo"}, "loss_type is 'dpo'; it must be one of nll, dft"),
        ("sft", {"report_to": "wandbb"}, "report_to is 'wandbb'; it must be none, or of tensorboard, trackio"),
        ("sft", {"report_to": ["clearml"]}, "a tracker that is installed: pip install clearml"),
        ("sft", {"lr_scheduler_kwargs": {"min_lr_rate": math.nan}}, "lr_scheduler_kwargs is {'min_lr_rate': nan}"),
        ("grpo", {"scale_rewards": "team"}, "scale_rewards is 'team'; it must be true or false or one of group"),
        ("grpo", {"num_generations": 5}, "an update has 16 answers .* num_generations 5 does not divide"),
        ("grpo", {"loss_type": "luspo"}, "loss_type luspo asks for importance_sampling_level = 'sequence'"),
        ("rloo", {"num_generations": 1}, "num_generations is 1; .* 2 or more"),
        ("rloo", {"reward_clip_range": [1.0]}, "reward_clip_range is [1.0]; it must be 2 numbers"),
        ("ppo", {"num_mini_batches": 3}, "make no 3 equal minibatches"),
        ("ppo", {"value_trunk": "both"}, "value_trunk is 'both'; it must be one of separate, shared"),
        ("kto", {"per_device_train_batch_size": 1}, "per_device_train_batch_size is 1; kto estimates the KL"),
        ("best_of_n", {"temperature": 0}, "temperature is 0; it must be a finite number above 0"),
    ],
)
def test_what_is_wrong_with_a_value_is_said(method: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said).replace(r"\.\*", ".*")):
        trainers.resolve(method, given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rank": 4}, "lora: peft's LoRA has no rank to set; did you mean"),
        ({"r": "8"}, "lora: r is '8'; it must be a whole number, 1 or more"),
        ({"r": 0}, "lora: r is 0"),
        ({"r": True}, "lora: r is True"),
        ({"lora_alpha": math.nan}, "lora: lora_alpha is nan"),
        ({"lora_dropout": 1.5}, "lora: lora_dropout is 1.5; it must be a number from 0 up to, and not, 1"),
        ({"bias": "some"}, "lora: bias is 'some'; it must be one of none, all, lora_only"),
        ({"target_modules": 3}, "lora: target_modules is 3"),
        ({"task_type": "SEQ_CLS"}, "lora: peft's LoRA has no task_type to set"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        arguments.check_lora(given)


def test_an_adapter_that_is_well_is_not_refused() -> None:
    arguments.check_lora(None)
    arguments.check_lora({"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"})
    arguments.check_lora({"r": 8, "lora_alpha": 0.5, "target_modules": ["q_proj"], "use_dora": True, "bias": "none"})


def test_types_are_read_from_the_source_of_libraries_that_stay_unimported() -> None:
    code = (
        "import sys\nfrom pipeline import trainers\nfrom pipeline.trainers import arguments, declared\n"
        "assert declared.fields('DPOConfig')['learning_rate'] is float\n"
        "trainers.resolve('grpo', {'learning_rate': 1e-5, 'optim': 'sgd'}); arguments.check_lora({'r': 8})\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'datasets', 'accelerate'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("name", sorted({*CONFIGS.values()}))
def test_the_types_that_are_read_are_those_of_the_dataclass(name: str) -> None:
    import trl

    found = declared.fields(name)
    assert found.keys() == {field.name for field in dataclasses.fields(getattr(trl, name)) if field.init}
    for field in dataclasses.fields(getattr(trl, name)):
        if field.type in (int, float, bool, str):
            assert found[field.name] is field.type, field.name


# --- what is declared has an effect --------------------------------------------------------------------------------

OFF_POLICY = {"num_iterations": 2}
ADAPTIVE = {"entropy_coef": 0.1, "use_adaptive_entropy": True, "entropy_target": 9.0}
VESPO = dict.fromkeys(("vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg"), 9.0)
OPTIMISER = {"optim": "sgd", "adam_beta1": 0.5, "adam_beta2": 0.5, "adam_epsilon": 1e-2, "weight_decay": 0.9}
EFFECTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [  # method, what all runs have, what each changes alone
    (
        "sft",
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
        {
            **OPTIMISER,
            "lr_scheduler_kwargs": {"min_lr_rate": 0.5},
            "max_grad_norm": 0.01,
            "neftune_noise_alpha": 5.0,
            "dataloader_drop_last": True,
            "loss_type": "dft",
            "label_smoothing_factor": 0.2,
            "shuffle_dataset": True,
        },
    ),
    ("reward", {}, {"neftune_noise_alpha": 5.0, "max_grad_norm": 0.01, "dataloader_drop_last": True, "heads": 2}),
    ("dpo", {}, {"neftune_noise_alpha": 5.0, "max_grad_norm": 0.01, "dataloader_drop_last": True, "beta": 0.5}),
    ("orpo", {}, {"neftune_noise_alpha": 5.0, "max_grad_norm": 0.01, "dataloader_drop_last": True, "beta": 0.5}),
    ("kto", {}, {"neftune_noise_alpha": 5.0, "desirable_weight": 3.0, "undesirable_weight": 3.0, "beta": 0.5}),
    (
        "rloo",
        OFF_POLICY,
        {
            "normalize_advantages": True,
            "reward_clip_range": [-0.1, 0.1],
            "epsilon": 0.01,
            "epsilon_high": 0.01,
            "mask_truncated_completions": True,
            "shuffle_dataset": False,
        },
    ),
    (
        "grpo",
        OFF_POLICY,
        {
            "scale_rewards": "none",
            "delta": 0.5,
            "importance_sampling_level": "sequence",
            "off_policy_mask_threshold": 0.001,
            "use_bias_correction_kl": False,
            "top_entropy_quantile": 0.2,
            "entropy_coef": 0.5,
        },
    ),
    ("grpo", ADAPTIVE, {"use_adaptive_entropy": False, "entropy_target": 0.1, "entropy_coef_delta": 0.9}),
    ("grpo", {**ADAPTIVE, "entropy_coef_delta": 0.9}, {"entropy_coef_max": 0.2}),
    ("grpo", {**OFF_POLICY, "loss_type": "sapo"}, {"sapo_temperature_pos": 3.0, "sapo_temperature_neg": 3.0}),
    ("grpo", {**OFF_POLICY, "loss_type": "vespo"}, VESPO),
]
ONLINE = ("rloo", "grpo")


@pytest.fixture
def trained(make_job: Callable[..., Job], sample_rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`trained(method, name, arguments)`: the figures of each of a few steps, and the weights."""
    (tmp_path / "argued.py").write_text(
        "def letters(prompts, answers):\n    return [a.count('e') - len(a) * 0.01 for a in answers]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def rows(method: str) -> list[dict[str, Any]]:
        pairs = sample_rows("dpo", 20)
        if method in ONLINE:
            return [{"prompt": row["prompt"]} for row in pairs[:6]]
        if method == "kto":
            sides = ("chosen", "rejected")
            return [
                {"prompt": r["prompt"], "completion": r[sides[n % 2]], "label": not n % 2} for n, r in enumerate(pairs)
            ]
        return pairs if method != "sft" else list(sample_rows("sft", 20))

    def train(method: str, name: str, given: dict[str, Any]) -> tuple[Any, Any]:
        from safetensors.torch import load_file

        few: dict[str, Any] = {"max_steps": 3, "learning_rate": 1e-2}
        if method in ONLINE:
            few |= {"max_completion_length": 6, "num_generations": 4, "per_device_train_batch_size": 8, "beta": 0.1}
        job = make_job(method, name, rows=rows(method), **{**few, **given})
        if method in ONLINE:
            job = dataclasses.replace(job, reward={"kind": "function", "name": "argued:letters"})
        run(job)
        lines = [{k: v for k, v in line.items() if k != "time"} for line in read(Path(job.out) / NAME)]
        return lines, load_file(Path(job.out) / "model.safetensors")

    return train


@pytest.mark.parametrize(
    ("method", "common", "changes"), [pytest.param(*case, id=f"{case[0]}-{next(iter(case[2]))}") for case in EFFECTS]
)
def test_what_is_declared_changes_the_training(
    method: str, common: dict[str, Any], changes: dict[str, Any], trained: Any
) -> None:
    plain, weights = trained(method, "plain", common)
    void = []
    for name, value in changes.items():
        changed, others = trained(method, name, {**common, name: value})
        same = weights.keys() == others.keys() and all(map(torch.equal, weights.values(), others.values()))
        if same and plain == changed:
            void.append(name)
    assert void == []


def test_rows_that_fill_no_batch_are_told(trained: Any) -> None:
    with pytest.raises(UserError, match=r"20 rows fill no batch of 64, .* leave out dataloader_drop_last"):
        trained("sft", "none", {"dataloader_drop_last": True, "per_device_train_batch_size": 64, "max_steps": -1})
