"""What a server is to serve: a word of the command line as a folder, its tokenizer, its adapters, and a name.

A word is the name of a role of the settings, a checkpoint (by id, or `promoted`), a folder, or a name on the hub. What
is served under which name follows from it, so that two servers of one model can stand behind one role.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.engines.fingerprint import fingerprint
from pipeline.engines.folder import ModelFolder, find_model
from service.identity import ROLES
from service.settings import RoleSettings
from service.wiring import Wiring

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the adapters' ranks that vLLM makes room for
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


@dataclass(frozen=True)
class Model:
    """`name`: what a request calls it. `weights`: the folder of full weights. `adapters`: folders of LoRA adapters of
    those weights, by the names that requests call them. `named`: the one that was asked for, among all of these."""

    named: str
    name: str
    weights: Path
    tokenizer: Path
    adapters: Mapping[str, Path] = field(default_factory=dict)
    rank: int = 0
    role: str = ""
    dtype: str = ""

    @property
    def revision(self) -> str:
        """Which weights they are: digits of the digest of the folders that a request for `named` is answered from."""
        adapter = self.adapters.get(self.named)
        return fingerprint([*([adapter] if adapter else []), self.weights], "")[:12]


def find(word: str, adapters: Mapping[str, str], wiring: Wiring, name: str = "") -> Model:
    """The model that a word stands for, with further adapters of it by name. Raises UserError for what is no model,
    and for adapters that vLLM does not apply."""
    role = word if word in ROLES else ""
    settings: RoleSettings | None = getattr(wiring.settings, role) if role else None
    if role and settings is None:
        raise UserError(
            f"the settings have no section [{role}]; name a folder or a checkpoint: precept engine up MODEL"
        )
    found, given = _folder(word, settings, wiring)
    named = name or (
        given if settings is not None and settings.base_url else _short(word if settings is None else given)
    )
    if not NAME.fullmatch(named) and not name and "/" not in named:
        named = re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip("-.") or "model"
    served: dict[str, Path] = {}
    rank = 0
    if found.adapters:
        served[named], rank = _adapter(given, found), _rank(found.adapters[0])
    for called, which in adapters.items():
        more = find_model(wiring.resolve(which))
        if not more.adapters:
            raise UserError(f"{which} is no LoRA adapter: its weights are whole; give it a server of its own")
        folder = _adapter(which, more)
        if more.weights.resolve() != found.weights.resolve() and fingerprint([more.weights], "") != fingerprint(
            [found.weights], ""
        ):
            raise UserError(
                f"{which} is an adapter of {more.weights}, and the server is to have the weights in {found.weights}: "
                "an adapter is served beside its own base"
            )
        if called in served or called == named:
            raise UserError(f"two models would be called {called}; name one: --lora NAME={which}")
        served[called], rank = folder, max(rank, _rank(folder))
    base = f"{named}-base" if found.adapters else named
    return Model(
        named, base, found.weights, found.tokenizer, served, rank, role, settings.dtype if settings is not None else ""
    )


def _folder(word: str, settings: RoleSettings | None, wiring: Wiring) -> tuple[ModelFolder, str]:
    """The folders of a word, and the model's name as it was given."""
    if settings is None:
        return find_model(wiring.resolve(word)), word
    model = wiring.resolve(settings.model)
    tokenizer = str(settings.options.get("tokenizer", ""))
    there = Path(model).is_dir()
    if settings.base_url and not there and tokenizer and any(Path(tokenizer).glob("*.safetensors")):
        return find_model(tokenizer), model  # the settings that an earlier `up` printed
    return find_model(model, "" if there else settings.revision), model if settings.base_url else settings.model


def _short(word: str) -> str:
    """A name for what is served: the last part of a path, and of a checkpoint or the hub what it was called by."""
    return Path(word).absolute().name if Path(word).is_dir() else word.rpartition("/")[2].rpartition(":")[2]


def _adapter(word: str, found: ModelFolder) -> Path:
    """The folder of an adapter that vLLM can apply. Raises UserError, saying how it is merged."""
    config = _config(found.adapters[0])
    why = ""
    if len(found.adapters) > 1:
        why = f"an adapter of an adapter ({len(found.adapters)} deep)"
    elif config.get("modules_to_save"):
        why = f"an adapter with whole modules of its own ({', '.join(map(str, config['modules_to_save']))})"
    elif config.get("use_dora"):
        why = "an adapter by DoRA"
    elif config.get("bias", "none") != "none":
        why = "an adapter with biases"
    elif config.get("peft_type", "LORA") != "LORA":
        why = f"an adapter by {config['peft_type']}"
    elif _rank(found.adapters[0]) > RANKS[-1]:
        why = f"an adapter of rank {_rank(found.adapters[0])}"
    if why:
        raise UserError(
            f"{word} is {why}, which vLLM does not apply. Merge it into full weights, and serve those: "
            f"precept model merge {word} models/merged && precept engine up models/merged"
        )
    return found.adapters[0]


def _rank(adapter: Path) -> int:
    config = _config(adapter)
    ranks = [config.get("r", 0), *(config.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def _config(adapter: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return found
