"""A checkpoint folder: whole or not there, recognised by its manifest, never a pickle, never overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.trainers import publishing
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job, Progress

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def published(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that is done: its "training" copied the parent's weights."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "data.jsonl").write_text("{}\n")
    job = Job(
        id="cafe",
        method="sft",
        model=str(model),
        out=str(folder / "out"),
        dataset=str(folder / "data.jsonl"),
        arguments={"learning_rate": 0.1},
        card={"constitution": "---\n# not a heading"},
    )
    copy_model(model, job.partial)
    job.resume.mkdir()
    (job.resume / "optimizer.pt").write_bytes(b"private")
    (job.resume / "progress.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    publishing.publish(job, "policy", {"loss": 0.5, "bins": [[0.5, 0.6, 3]]})
    return job


def copy_model(model: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for path in model.iterdir():
        (to / path.name).write_bytes(path.read_bytes())


def test_a_published_folder_is_plain_and_holds_no_pickle(published: Job) -> None:
    out = Path(published.out)
    names = {path.name for path in out.iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "README.md",
        "training.json",
        "progress.jsonl",
        "manifest.json",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert json.loads((out / "training.json").read_text())["arguments"] == {"learning_rate": 0.1}
    assert not published.partial.exists() and not published.resume.exists()


def test_the_manifest_names_every_other_file_and_was_written_last(published: Job) -> None:
    out = Path(published.out)
    manifest = checkpoint.verify(out)
    assert set(manifest.files) == {path.name for path in out.iterdir()} - {"manifest.json"}
    assert (manifest.job, manifest.kind, manifest.method) == ("cafe", "policy", "sft")
    assert manifest.metrics == {"loss": 0.5, "bins": [[0.5, 0.6, 3]]}
    newest = max(path.stat().st_mtime_ns for path in out.iterdir())
    assert (out / "manifest.json").stat().st_mtime_ns == newest


def test_the_digest_is_of_the_model_and_not_of_the_card(published: Job, model: Path) -> None:
    manifest = checkpoint.verify(Path(published.out))
    assert manifest.digest == manifest.parent == checkpoint.weights_digest(model)


def test_the_model_card_quotes_what_it_was_given(published: Job) -> None:
    card = (Path(published.out) / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "\n# not a heading" not in card
    assert "| loss | 0.5 |" in card


def test_a_folder_without_its_manifest_is_no_checkpoint(published: Job, model: Path, tmp_path: Path) -> None:
    assert checkpoint.read(model) is None
    assert checkpoint.read(tmp_path / "none") is None
    (tmp_path / "manifest.json").write_text('{"job": "cut sho')
    assert checkpoint.read(tmp_path) is None
    with pytest.raises(UserError, match=r"no readable manifest.json"):
        checkpoint.verify(tmp_path)


def test_an_altered_and_a_missing_file_are_found(published: Job, tmp_path: Path) -> None:
    copy_model(Path(published.out), tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors is not what was published"):
        checkpoint.verify(tmp_path / "copy")
    weights.unlink()
    with pytest.raises(UserError, match=r"model.safetensors is missing"):
        checkpoint.verify(tmp_path / "copy")


def test_a_kill_while_publishing_leaves_no_checkpoint(
    make_job: MakeJob, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("sft")
    copy_model(model, job.partial)

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        publishing.publish(job, "policy", {})
    assert not Path(job.out).exists()
    assert publishing.finished(job) is None


def test_a_pickle_is_never_published(make_job: MakeJob, model: Path) -> None:
    job = make_job("sft")
    copy_model(model, job.partial)
    (job.partial / "training_args.bin").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"training_args.bin would be published"):
        publishing.publish(job, "policy", {})
    assert not Path(job.out).exists()


def test_a_job_that_is_done_is_not_trained_again(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.trainers import sft

    job = make_job("sft", max_steps=1)
    first = run(job)
    job.resume.mkdir()  # as a kill right after publishing would leave it

    def trains(job: Job, progress: Progress) -> dict[str, Any]:
        raise AssertionError("trained again")

    monkeypatch.setattr(sft, "train", trains)
    assert run(job) == first
    assert not job.resume.exists()


def test_what_is_not_this_jobs_checkpoint_is_never_overwritten(make_job: MakeJob, published: Job) -> None:
    job = make_job("sft")
    other = Job(**{**vars(job), "out": published.out})
    with pytest.raises(UserError, match="exists and is not this job's checkpoint"):
        run(other)
    Path(job.out).mkdir()
    (Path(job.out) / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="exists and is not this job's checkpoint"):
        run(job)
    assert (Path(job.out) / "diary.txt").read_text() == "dear diary"
