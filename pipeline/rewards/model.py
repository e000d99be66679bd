"""Reward models as a reward: one, or an ensemble of several folders and of all their heads.

`paths` names checkpoints of `pipeline.trainers.reward`: full weights or LoRA, one head or k. Each head is a member:

    z_m = (r_m - mean_m) / std_m

with the mean and standard deviation of that head's rewards on its reference set, as its manifest has them: rewards
mean something only as differences, and members of different scale cannot be combined as they are. Then `combine`
(Coste et al. 2024, arXiv 2310.02743, section 3.2):

- mean: the mean of the members. What a policy finds that fools one of them still pays.
- minimum: the worst case (WCO): what any one member dislikes does not pay.
- variance: mean - variance_weight * variance within the ensemble (UWO), the population variance, as numpy's `var`.

Which of two answers a member prefers is not changed by its normalisation, nor by the temperature that a reward model
is calibrated with (it says what a difference is worth as a probability), so no temperature is applied here.

A reward model with no figures of its own (one from elsewhere) is taken as it is where it is the only member, and
refused in an ensemble, unless `normalise` is false.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from constitution.errors import UserError
from constitution.records import make_id
from pipeline.models import checkpoint
from pipeline.models.checks import check_model_folder
from pipeline.rewards.checked import LengthLine
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue

if TYPE_CHECKING:
    from pipeline.rewards.loaded import RewardModel

Norm = tuple[float, float]  # mean and standard deviation on the reference set


class ModelOptions(Options):
    paths: tuple[Path, ...] = Field(min_length=1)
    combine: Literal["mean", "minimum", "variance"] = "mean"
    variance_weight: float = Field(1.0, ge=0)
    normalise: bool = True
    batch_size: int = Field(32, ge=1)
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")

    @field_validator("paths", mode="before")
    @classmethod
    def _one_or_many(cls, paths: Any) -> Any:
        return [paths] if isinstance(paths, str | Path) else paths


def check(options: Mapping[str, Any]) -> None:
    """Every folder is a whole reward model, and the members can be combined. Loads none."""
    _norms(_read(options))


def check_options(options: Mapping[str, Any]) -> None:
    """The options are sound; the folders need not be there yet."""
    read(ModelOptions, "model", options)


def fingerprint(options: Mapping[str, Any]) -> str:
    given = _read(options)
    parts: dict[str, Any] = {"combine": given.combine} if given.combine != "mean" else {}
    if given.combine == "variance":
        parts["variance_weight"] = given.variance_weight
    return make_id(
        "reward_model",
        models=[checkpoint.weights_digest(path) for path in given.paths],
        templates=[_template(path) for path in given.paths],
        norms=_norms(given),
        dtype=given.dtype,
        **parts,
    ).hex()


def length_line(options: Mapping[str, Any]) -> LengthLine:
    """The slope of the members' mean on length, from the folders' own figures, each counted by its heads. It stands for
    the minimum and the mean minus variance, too. Raises UserError where a folder has none."""
    given = _read(options)
    if not given.normalise:
        raise UserError("length_controlled: the slope is measured on normalised rewards; leave normalise at true")
    slopes, means, heads = [], [], []
    for path in given.paths:
        metrics = _metrics(path)
        try:
            slopes.append(float(metrics["length_slope"]))
            means.append(float(metrics["length_mean"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{path}: the manifest says no length_slope, so the reward cannot be length-controlled; train the "
                "reward model again, or give length_slope in reward units a character"
            ) from None
        heads.append(checkpoint.heads(path))
    return LengthLine(fmean(slopes, heads), fmean(means, heads))


def build(options: Mapping[str, Any]) -> ModelReward:
    """Loads every folder, after its files were hashed against its manifest where it has one."""
    from pipeline.rewards.loaded import RewardModel

    given = _read(options)
    norms = _norms(given)
    models = []
    for path in given.paths:
        if checkpoint.read(path):
            checkpoint.verify(path)
        heads = checkpoint.heads(path)
        models.append(RewardModel(path, heads, _template(path), given.dtype, given.device, given.batch_size))
    return ModelReward(given, models, norms, fingerprint(options))


class ModelReward:
    """See the module."""

    def __init__(
        self, options: ModelOptions, models: Sequence[RewardModel], norms: Sequence[Norm], digest: str
    ) -> None:
        self.fingerprint = digest
        self.name = ", ".join(path.name for path in options.paths)
        self._options, self._models, self._norms = options, list(models), list(norms)

    def members(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[list[float]]:
        """[answers, members]: the raw rewards, heads within folders in the order of `paths`."""
        of_models = [model.score(prompts, answers) for model in self._models]
        return [[reward for heads in row for reward in heads] for row in zip(*of_models, strict=True)]

    def combine(self, members: Sequence[Sequence[float]]) -> list[float]:
        """[answers] out of [answers, members] raw rewards."""
        rows = [[(r - mean) / std for r, (mean, std) in zip(row, self._norms, strict=True)] for row in members]
        if self._options.combine == "minimum":
            # min() passes over a NaN that is not first
            return [min(row) if all(map(math.isfinite, row)) else math.nan for row in rows]
        if self._options.combine == "variance":
            return [fmean(row) - self._options.variance_weight * _variance(row) for row in rows]
        return [fmean(row) for row in rows]

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        return self.combine(self.members(prompts, answers))

    def close(self) -> None:
        self._models.clear()


def _variance(row: Sequence[float]) -> float:
    return pvariance(row) if all(map(math.isfinite, row)) else math.nan


def _read(options: Mapping[str, Any]) -> ModelOptions:
    given = read(ModelOptions, "model", options)
    for path in given.paths:
        check_model_folder(path)
        checkpoint.heads(path)
    return given


def _norms(given: ModelOptions) -> list[Norm]:
    """Of every member. Raises UserError where members of unknown scale would be combined."""
    found = [_measured(path) if given.normalise else None for path in given.paths]
    heads = [checkpoint.heads(path) for path in given.paths]
    if given.normalise and sum(heads) > 1 and None in found:
        raise UserError(
            f"{given.paths[found.index(None)]}: its manifest does not say the mean and spread of its rewards, so it "
            "cannot be combined with others; train it again, or set normalise = false if their scales are the same"
        )
    return [norm for norms, k in zip(found, heads, strict=True) for norm in norms or [(0.0, 1.0)] * k]


def _measured(path: Path) -> list[Norm] | None:
    """Mean and standard deviation of each head on the reference set, None where the folder does not say."""
    metrics = _metrics(path)
    members = metrics.get("members") or [{"mean": metrics.get("reward_mean"), "std": metrics.get("reward_std")}]
    try:
        norms = [(float(member["mean"]), float(member["std"])) for member in members]
    except (KeyError, TypeError, ValueError):
        return None
    if len(norms) != checkpoint.heads(path):
        return None
    if not all(math.isfinite(mean) and math.isfinite(std) and std > 0 for mean, std in norms):
        raise UserError(f"{path}: the model gives every answer of its reference set the same reward; train it again")
    return norms


def _metrics(path: Path) -> Mapping[str, Any]:
    manifest = checkpoint.read(path)
    return manifest.metrics if manifest else {}


def _template(path: Path) -> dict[str, Any]:
    """What the model's chat template was given when it was trained."""
    try:
        arguments = json.loads((path / checkpoint.TRAINING).read_text(encoding="utf-8"))["arguments"]
        return dict(arguments.get("chat_template_kwargs", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
