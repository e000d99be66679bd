"""Training through the runner, in this process: what it changes, what it keeps, what stops it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline.models import checkpoint, merging
from pipeline.trainers import fitting, publishing
from pipeline.trainers.progress import NAME, Interruption, read
from pipeline.trainers.rows import LengthGrouped
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job, TrainingStopped

MakeJob = Callable[..., Job]
METHODS = ["sft", "dpo", "reward"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def curve(job: Job) -> list[float]:
    return [line["loss"] for line in read(Path(job.out) / NAME)]


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_the_weights_and_lowers_the_loss(method: str, make_job: MakeJob, model: Path) -> None:
    job = make_job(method)
    manifest = run(job)
    before = load_file(model / "model.safetensors")
    after = load_file(Path(job.out) / "model.safetensors")
    changed = [name for name, weights in before.items() if not torch.equal(weights, after[name])]
    assert changed == list(before)
    losses = curve(job)
    assert len(losses) == manifest.metrics["steps"] == 6
    assert losses[-1] < losses[0]
    assert manifest.kind == ("reward_model" if method == "reward" else "policy")


@pytest.mark.parametrize("method", METHODS)
def test_one_row_accumulated_eight_times_is_a_batch_of_eight(method: str, make_job: MakeJob) -> None:
    whole = make_job(method, "whole", per_device_train_batch_size=8)
    pieces = make_job(method, "pieces", per_device_train_batch_size=1, gradient_accumulation_steps=8)
    run(whole)
    run(pieces)
    assert curve(pieces) == pytest.approx(curve(whole), abs=2e-5)


def test_out_of_memory_halves_the_batch_and_keeps_the_effective_one(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pipeline.trainers.soft_targets import SoftRewardTrainer

    small = make_job("reward", "small", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    run(small)
    compute = SoftRewardTrainer.compute_loss
    sizes = []

    def cramped(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(inputs["p"]))
        if len(inputs["p"]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SoftRewardTrainer, "compute_loss", cramped)
    job = make_job("reward", "large", per_device_train_batch_size=8)
    manifest = run(job)
    assert sizes[:3] == [8, 4, 2]
    assert manifest.metrics["per_device_train_batch_size"] == 2
    assert curve(job) == pytest.approx(curve(small), abs=1e-6)
    assert "out of memory with 8 rows a device; trying 4" in caplog.text


def test_out_of_memory_with_one_row_is_told(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.trainers.soft_targets import SoftRewardTrainer

    def full(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(SoftRewardTrainer, "compute_loss", full)
    with pytest.raises(UserError, match="out of memory with one row a device; use LoRA"):
        run(make_job("reward"))


def test_nan_stops_the_run_and_says_what_is_left(make_job: MakeJob, model: Path) -> None:
    job = make_job("sft", learning_rate=1e20, save_steps=1)
    with pytest.raises(TrainingStopped, match=r"(loss|grad_norm) is (nan|inf).*no state was saved before that") as stop:
        run(job)
    assert str(model) in str(stop.value)
    assert not Path(job.out).exists()
    assert json.loads((job.partial / "stopped.json").read_text()) == {"job": job.id, "reason": str(stop.value)}
    assert checkpoint.read(job.partial) is None


def test_a_late_nan_keeps_the_last_good_state(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.trainers.soft_targets import SoftDPOTrainer

    compute = SoftDPOTrainer.compute_loss

    def breaks(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, *args, **kwargs)
        return loss * math.nan if self.state.global_step == 4 else loss

    monkeypatch.setattr(SoftDPOTrainer, "compute_loss", breaks)
    job = make_job("dpo", save_steps=1)
    with pytest.raises(TrainingStopped, match=r"step 5: loss is nan; the last good weights are in .*checkpoint-3"):
        run(job)
    good = load_file(job.resume / "checkpoint-3" / "model.safetensors")
    assert all(torch.isfinite(weights).all() for weights in good.values())
    # Once the cause is gone, the same job goes on from there and ends as if nothing had been.
    monkeypatch.setattr(SoftDPOTrainer, "compute_loss", compute)
    run(job)
    clean = make_job("dpo", "clean")
    run(clean)
    assert curve(job) == pytest.approx(curve(clean), abs=1e-6)


@pytest.mark.parametrize(("method", "lora"), [("sft", None), ("reward", None), ("reward", LORA), ("sft", LORA)])
def test_a_run_resumed_in_the_middle_of_an_epoch_is_the_same_run(
    method: str, lora: dict[str, Any] | None, make_job: MakeJob
) -> None:
    whole, parts = make_job(method, "whole", lora=lora), make_job(method, "parts", lora=lora)
    expected = run(whole)
    interruption = Interruption()

    def ctrl_c(line: dict[str, Any]) -> None:
        if line["step"] == 4:
            interruption()

    with pytest.raises(KeyboardInterrupt):
        run(parts, on_step=ctrl_c, interruption=interruption)
    assert publishing.finished(parts) is None
    steps: list[int] = []
    resumed = run(parts, on_step=lambda line: steps.append(line["step"]))
    assert steps[0] >= 5
    assert curve(parts) == pytest.approx(curve(whole), abs=1e-6)
    assert resumed.digest == expected.digest


# --- LoRA --------------------------------------------------------------------------------------------------------


def test_a_dpo_adapter_starts_at_its_reference_and_merges_to_the_same_model(make_job: MakeJob, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    job = make_job("dpo", lora=LORA)
    run(job)
    assert curve(job)[0] == pytest.approx(math.log(2), abs=1e-6)
    names = {path.name for path in Path(job.out).iterdir()}
    assert "adapter_model.safetensors" in names and "model.safetensors" not in names
    merged = merging.merge(Path(job.out), tmp_path / "merged")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        adapted = AutoModelForCausalLM.from_pretrained(job.out)(ids).logits
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
        parent = AutoModelForCausalLM.from_pretrained(job.model)(ids).logits
    assert torch.allclose(adapted, whole, atol=1e-5)
    assert not torch.allclose(adapted, parent, atol=1e-3)
    assert checkpoint.verify(tmp_path / "merged") == merged
    assert merged.parent == checkpoint.weights_digest(Path(job.out))


def test_an_adapter_on_an_adapter_starts_at_its_parent_and_not_at_the_base(make_job: MakeJob, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    below = make_job("sft", "below", lora=LORA)
    run(below)
    above = make_job("dpo", "above", lora=LORA, model=below.out)
    run(above)
    assert curve(above)[0] == pytest.approx(math.log(2), abs=1e-6)
    merging.merge(Path(below.out), tmp_path / "merged-below")
    merging.merge(Path(above.out), tmp_path / "merged-above")
    # Trained on the merged parent's full weights it is the same model, and merging keeps both layers.
    again = make_job("dpo", "again", lora=LORA, model=str(tmp_path / "merged-below"))
    run(again)
    merging.merge(Path(again.out), tmp_path / "merged-again")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        one, other = (
            AutoModelForCausalLM.from_pretrained(tmp_path / name)(ids).logits
            for name in ("merged-above", "merged-again")
        )
    assert torch.allclose(one, other, atol=1e-4)


def test_a_reward_adapter_keeps_its_head(make_job: MakeJob, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    job = make_job("reward", lora=LORA)
    job = Job(**{**vars(job), "eval_dataset": job.dataset})
    run(job)
    assert any("score" in name for name in load_file(Path(job.out) / "adapter_model.safetensors"))
    merging.merge(Path(job.out), tmp_path / "merged")
    scored = [json.loads(line) for line in (Path(job.out) / "heldout.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in Path(job.dataset).read_text().splitlines()]
    tokenizer = fitting.load_tokenizer(job)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    for row, line in zip(rows[:4], scored, strict=False):
        ids = tokenizer.apply_chat_template(row["prompt"] + row["chosen"])["input_ids"]
        with torch.no_grad():
            assert model(torch.tensor([ids])).logits.item() == pytest.approx(line["chosen"], abs=1e-5)


def test_full_weights_have_nothing_to_merge(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("sft", max_steps=1)
    run(job)
    with pytest.raises(UserError, match="there is no adapter to merge"):
        merging.merge(Path(job.out), tmp_path / "merged")


# --- rows and settings -------------------------------------------------------------------------------------------


def long_row(method: str, where: str, sample_rows: Any) -> list[dict[str, Any]]:
    rows = sample_rows(method, 9)
    rows[3][where][0]["content"] = "please open the door " * 40
    return list(rows)


def test_a_prompt_that_leaves_no_room_is_left_out_and_named_by_its_line(make_job: MakeJob, sample_rows: Any) -> None:
    rows = long_row("dpo", "prompt", sample_rows)
    manifest = run(make_job("dpo", rows=rows, max_steps=1))
    assert (manifest.metrics["rows"], manifest.metrics["left_out"]) == (8, 1)
    assert re.fullmatch(
        r"out.jsonl, line 4: the prompt is \d+ tokens and leaves no room for an answer in 128; raise max_length",
        manifest.metrics["left_out_rows"][0],
    )
    with pytest.raises(UserError, match=r"no row is left to train on; .*, line 1: the prompt is"):
        run(make_job("dpo", "none", rows=[rows[3]]))


def test_a_row_whose_answer_does_not_fit_is_left_out_and_counted(make_job: MakeJob, sample_rows: Any) -> None:
    rows = long_row("reward", "rejected", sample_rows)
    job = make_job("reward", "with", rows=rows)
    manifest = run(job)
    assert manifest.metrics["left_out"] == 1
    assert manifest.metrics["rows"] == 8
    without = make_job("reward", "without", rows=[row for row in rows if row is not rows[3]])
    run(without)
    assert curve(job) == curve(without)


def test_hostile_text_is_trained_on_and_not_choked_on(make_job: MakeJob, sample_rows: Any) -> None:
    rows = sample_rows("sft", 8)
    rows[0]["completion"][0]["content"] = "\ud800 \x00 \u202e <script> \u2028"
    manifest = run(make_job("sft", rows=rows, max_steps=1))
    assert manifest.metrics["rows"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 1e-3}, "sft does not read learning_rat; did you mean learning_rate?"),
        ({"output_dir": "x"}, "sft does not read output_dir; the job's out says it"),
        ({"lora": {"rank": 4}}, "lora: .*rank"),
        ({"dtype": "float8"}, "dtype is 'float8'; it must be float32 or bfloat16"),
    ],
)
def test_a_wrong_setting_is_named(make_job: MakeJob, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(make_job("sft", **options))


def test_template_arguments_reach_the_chat_template(make_job: MakeJob, model: Path, tmp_path: Path) -> None:
    import shutil

    thinking = tmp_path / "thinking"
    shutil.copytree(model, thinking)
    template = (thinking / "chat_template.jinja").read_text()
    (thinking / "chat_template.jinja").write_text("{% if shout %}<|im_start|>system\nplease{% endif %}" + template)
    quiet = make_job("sft", "quiet", model=str(thinking), max_steps=1)
    loud = make_job("sft", "loud", model=str(thinking), max_steps=1, chat_template_kwargs={"shout": True})
    plain = make_job("sft", "plain", max_steps=1)
    for job in (quiet, loud, plain):
        run(job)
    assert curve(quiet) == curve(plain)
    assert curve(loud) != curve(plain)


def test_batches_hold_rows_of_like_length_and_every_row_once() -> None:
    lengths = [7, 90, 8, 91, 6, 92, 9, 93, 94]
    sampler = LengthGrouped(lengths, batch_size=4, seed=1)
    order = list(sampler)
    batches = [{lengths[index] for index in order[at : at + 4]} for at in (0, 4, 8)]
    assert sorted(map(min, batches)) == [6, 90, 94]
    assert batches[-1] == {94}  # what fills no batch comes last
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(9))


def test_a_job_that_trains_in_bfloat16_saves_bfloat16(make_job: MakeJob) -> None:
    job = make_job("sft", dtype="bfloat16", max_steps=1)
    run(job)
    assert {w.dtype for w in load_file(Path(job.out) / "model.safetensors").values()} == {torch.bfloat16}
