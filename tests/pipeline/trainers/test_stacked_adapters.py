"""LoRA on LoRA, on a tiny Llama: what a loop with adapters in every step trains, loads again, rewards by and merges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.engine import Chat, EngineSettings, Score
from pipeline.engines.folder import find_model, load
from pipeline.engines.transformers import build
from pipeline.models import checkpoint, merging
from pipeline.models.checks import check_model_folder
from pipeline.rewards import model as model_reward
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job
from tests.pipeline.trainers.conftest import MakeJob

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
FAST = {"learning_rate": 2e-2, "max_steps": 3, "num_train_epochs": 1}
IDS = torch.arange(3, 40)[None]


@pytest.fixture(scope="module")
def llama(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers with the tokenizer of the tiny model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama") / "base"
    tokenizer = AutoTokenizer.from_pretrained(model)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    checkpoint.copy_tokenizer(model, folder)
    return folder


@pytest.fixture
def sft(make_job: MakeJob, llama: Path) -> Job:
    job = make_job("sft", "sft", model=str(llama), lora=LORA, **FAST)
    run(job)
    return job


@pytest.fixture
def dpo(make_job: MakeJob, sft: Job) -> Job:
    job = make_job("dpo", "dpo", model=sft.out, lora=LORA, **FAST)
    run(job)
    return job


def by_hand(llama: Path, *adapters: str) -> Any:
    """The language model with adapters merged by peft alone, the lowest first."""
    model: Any = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        model.__dict__.pop("peft_config", None)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits.float()


def engine_model(folder: str, dtype: str = "float32") -> Any:
    return load(find_model(folder), dtype, "cpu")[0]


def test_an_adapter_of_an_adapter_is_the_merged_model_in_the_engine(llama: Path, sft: Job, dpo: Job) -> None:
    """Before: "itself an adapter. Merge that one into its base first", after everything had been trained."""
    expected, found = logits(by_hand(llama, sft.out, dpo.out)), logits(engine_model(dpo.out))
    assert torch.allclose(found, expected, atol=1e-5)
    trained = merging.load(Path(dpo.out), AutoModelForCausalLM, dtype=torch.float32)
    assert torch.allclose(logits(trained), expected, atol=1e-5)
    for below in ([], [sft.out]):
        assert not torch.allclose(found, logits(by_hand(llama, *below)), atol=1e-2)


def test_its_card_says_that_transformers_loads_one_adapter_only(sft: Job, dpo: Job) -> None:
    assert "precept model merge" in (Path(dpo.out) / "README.md").read_text()
    assert "precept model merge" not in (Path(sft.out) / "README.md").read_text()


def test_a_third_adapter_goes_on_from_what_the_engine_has(
    make_job: MakeJob, llama: Path, sft: Job, dpo: Job, tmp_path: Path
) -> None:
    again = make_job("dpo", "again", model=dpo.out, lora=LORA, **FAST)
    run(again)
    first = json.loads((Path(again.out) / "progress.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)  # it begins at its reference, the two adapters below it
    expected = logits(by_hand(llama, sft.out, dpo.out, again.out))
    assert torch.allclose(logits(engine_model(again.out)), expected, atol=1e-5)
    merging.merge(Path(again.out), tmp_path / "merged")
    assert torch.allclose(logits(engine_model(str(tmp_path / "merged"))), expected, atol=1e-5)
    assert find_model(again.out).folders == [Path(again.out), Path(dpo.out), Path(sft.out), llama]


def test_lower_adapters_are_rounded_once_as_the_trainer_does(llama: Path, sft: Job, dpo: Job) -> None:
    """In bfloat16: merged in float32, rounded, and the top adapter beside it."""
    rounded = by_hand(llama, sft.out)
    for weight in rounded.parameters():  # not its angles of positions, which transformers leaves in float32
        weight.data = weight.data.bfloat16()
    expected = logits(PeftModel.from_pretrained(rounded, dpo.out).get_base_model())
    assert torch.equal(logits(engine_model(dpo.out, "bfloat16")), expected)
    parent = merging.load(Path(sft.out), AutoModelForCausalLM, dtype=torch.bfloat16)
    assert torch.equal(parent.lm_head.weight, rounded.lm_head.weight)
    assert parent.model.layers[0].mlp.up_proj.weight.dtype is torch.bfloat16
    assert torch.equal(parent.model.layers[0].mlp.up_proj.weight, rounded.model.layers[0].mlp.up_proj.weight)
    assert parent.model.rotary_emb.inv_freq.dtype is torch.float32  # angles in bfloat16 would be off by degrees


def test_a_fingerprint_covers_every_folder(llama: Path, sft: Job, dpo: Job, tmp_path: Path) -> None:
    def name(folder: str | Path) -> str:
        return build(EngineSettings(model=str(folder), device="cpu")).fingerprint

    before = name(dpo.out)
    assert len({before, name(sft.out), name(llama)}) == 3
    weights = Path(sft.out) / "adapter_model.safetensors"
    tensors = load_file(weights)
    tensors[next(iter(tensors))] += 1
    save_file(tensors, weights)
    assert name(dpo.out) != before


@pytest.mark.parametrize("heads", [1, 3])
def test_a_reward_model_stands_on_the_adapter_of_a_language_model(
    make_job: MakeJob, llama: Path, sft: Job, tmp_path: Path, heads: int
) -> None:
    """Before: AttributeError, 'LlamaForSequenceClassification' object has no attribute 'prepare_inputs_for_...'."""
    job = make_job("reward", "reward", model=sft.out, lora=LORA, **FAST, heads=heads)
    run(job)
    trunk = by_hand(llama, sft.out)
    expected = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=heads, dtype=torch.float32)
    expected.model.load_state_dict(trunk.model.state_dict())
    expected = PeftModel.from_pretrained(expected, job.out).merge_and_unload().eval()
    expected.config.pad_token_id = 0
    prompt, answer = [{"role": "user", "content": "the cat sings"}], "please help the baker"
    turns = [*prompt, {"role": "assistant", "content": answer}]
    ids = AutoTokenizer.from_pretrained(llama).apply_chat_template(turns)["input_ids"]
    with torch.no_grad():
        by_peft = expected(torch.tensor([ids])).logits[0].tolist()
    merging.merge(Path(job.out), tmp_path / "merged")
    for folder in (job.out, tmp_path / "merged"):
        reward = model_reward.build({"paths": [str(folder)], "device": "cpu"})
        assert reward.members([prompt], [answer])[0] == pytest.approx(by_peft, abs=1e-5)
        reward.close()


def test_a_reward_head_is_drawn_as_on_full_weights(make_job: MakeJob, sft: Job, tmp_path: Path) -> None:
    merging.merge(Path(sft.out), tmp_path / "merged")
    curves = []
    for name, parent in (("on-adapter", sft.out), ("on-merged", str(tmp_path / "merged"))):
        job = make_job("reward", name, model=parent, lora=LORA, **FAST)
        run(job)
        lines = (Path(job.out) / "progress.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["loss"] for line in lines])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


def test_ppo_goes_on_from_an_adapter_rewarded_by_a_model_on_an_adapter(make_job: MakeJob, sft: Job) -> None:
    reward = make_job("reward", "reward", model=sft.out, lora=LORA, **FAST)
    run(reward)
    job = make_job("ppo", "ppo", model=sft.out, lora=LORA, rows=[{"prompt": row["prompt"]} for row in _prompts(sft)])
    paths = {"kind": "model", "paths": [reward.out], "device": "cpu"}
    arguments = {"max_steps": 1, "max_completion_length": 8, "learning_rate": 1e-3}
    job = Job(**{**vars(job), "reward": paths, "arguments": arguments})
    run(job)
    assert find_model(job.out).folders[1] == Path(sft.out)
    engine_model(job.out)


def _prompts(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(job.dataset).read_text().splitlines()][:8]


def test_the_adapter_of_a_reward_model_is_no_policy(make_job: MakeJob, sft: Job) -> None:
    """Its trunk would have answered, without a word."""
    job = make_job("reward", "reward", model=sft.out, lora=LORA, **FAST)
    run(job)
    with pytest.raises(UserError, match="is the adapter of a reward model"):
        find_model(job.out)
    with pytest.raises(UserError, match="is the adapter of a reward model"):
        merging.load(Path(job.out), AutoModelForCausalLM)


def test_adapters_in_a_circle_are_refused_in_one_line(sft: Job, dpo: Job) -> None:
    config = Path(sft.out) / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": dpo.out}))
    for look in (lambda: find_model(dpo.out), lambda: check_model_folder(Path(dpo.out))):
        with pytest.raises(UserError) as refused:
            look()
        assert "\n" not in str(refused.value)
        assert "circle" in str(refused.value) or "name each other as their base" in str(refused.value)


def test_a_base_that_is_gone_is_told_in_one_line(sft: Job, dpo: Job) -> None:
    shutil.rmtree(sft.out)
    for look in (lambda: find_model(dpo.out), lambda: check_model_folder(Path(dpo.out))):
        with pytest.raises(UserError, match="no such model folder") as refused:
            look()
        assert sft.out in str(refused.value) and "\n" not in str(refused.value)


def test_a_stack_is_found_again_where_its_home_was_moved(llama: Path, dpo: Job, tmp_path: Path) -> None:
    """Adapters name their bases by path; a project was renamed, its models and its home with it."""
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    for name in ("sft", "dpo"):
        shutil.copytree(tmp_path / name, old / "runs" / "checkpoints" / name)
    shutil.copytree(llama, old / "models" / "policy")
    for name, base in (("sft", old / "models" / "policy"), ("dpo", old / "runs" / "checkpoints" / "sft")):
        config = old / "runs" / "checkpoints" / name / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(base)}))
    expected = logits(engine_model(dpo.out))
    new.parent.mkdir()
    old.rename(new)
    moved = new / "runs" / "checkpoints" / "dpo"
    assert find_model(str(moved)).weights == new / "models" / "policy"
    assert torch.equal(logits(engine_model(str(moved))), expected)
    check_model_folder(moved)
    # Another model under the name of before is not taken for it.
    weights = new / "models" / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    checkpoint._moved.clear()
    with pytest.raises(UserError, match="no such model folder"):
        find_model(str(moved))


def test_an_adapter_without_some_of_its_weights_is_refused(sft: Job) -> None:
    file = Path(sft.out) / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if "layers.1" not in name}, file)
    with pytest.raises(UserError, match="lacks weights of the model that it names as its base"):
        engine_model(sft.out)


def test_the_engine_scores_with_a_stack(sft: Job, dpo: Job) -> None:
    request = [Score(Chat((Message("user", "the cat"),)), " sings")]
    one, other = (build(EngineSettings(model=job.out, device="cpu")).score(request)[0].logprob for job in (sft, dpo))
    assert abs(one - other) > 1e-3


def test_a_classifier_takes_the_trunk_of_an_adapter_that_also_trained_the_head_of_words(
    make_job: MakeJob, llama: Path
) -> None:
    lora = {**LORA, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["norm", "lm_head"]}
    job = make_job("sft", "sft", model=str(llama), lora=lora, **FAST)
    run(job)
    found = merging.load(Path(job.out), AutoModelForSequenceClassification, num_labels=1)
    expected = by_hand(llama, job.out).model.state_dict()
    assert torch.equal(found.model.state_dict()["norm.weight"], expected["norm.weight"])
    assert not torch.equal(expected["norm.weight"], torch.ones(32))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())
