"""Texts that a source of prompts has a model make, kept in the store: the same requests again ask nothing.

They are made before there is a run (which prompts a run has is part of what it is), so they are a document of their
own, named by the ids of all requests: model, sampling and seed are in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pipeline.engines
from constitution.records import Messages, dialogue_id, make_id
from pipeline import asking
from pipeline.asking import Ask, Role
from pipeline.made_prompts import calm, whole

if TYPE_CHECKING:
    from pipeline.engines.engine import EngineSettings, Sampling
    from service.settings import RoleSettings, Settings
    from storage.store import Store

DOCUMENT = "made prompts"


class Models(Protocol):
    """What is asked of the wiring."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store(self) -> Store: ...
    def resolve(self, model: str) -> str: ...
    def engine_settings(self, role: RoleSettings, model: str) -> EngineSettings: ...
    def sampling(self, settings: RoleSettings) -> Sampling: ...
    def role(self, settings: RoleSettings) -> Role: ...


def generate(wiring: Models, requests: Sequence[Messages], role: str, seed: int) -> list[str | None]:
    """A text for each request, None where it was refused, or cut in the midst of its first paragraph. `role`: `critic`,
    or the policy where there is none. The same request several times has as many samples."""
    critic = wiring.settings.critic
    settings: RoleSettings = critic if role == "critic" and critic and critic.model else wiring.settings.policy
    # The engine's fingerprint is known without its model: what was made before loads none.
    named = pipeline.engines.named(wiring.engine_settings(settings, wiring.resolve(settings.model)))
    try:
        plan = _plan(requests, Role(named, answer_prefix=settings.answer_prefix, template_args=settings.template_args),
                     wiring, settings, seed)  # fmt: skip
    finally:
        named.close()
    key = make_id(DOCUMENT, asks=[a.id for a in plan]).hex()
    kept = wiring.store.document(DOCUMENT, key)
    if kept is None:
        engine = wiring.role(settings).engine
        given: dict[bytes, str | None] = {}
        for batch in asking.batches(plan, settings.batch_size):
            made, _ = asking.answer(batch, engine)
            given |= {g.id: whole(g.text, g.finish_reason != "stop") for g in made}
        kept = wiring.store.put_document(
            DOCUMENT, key, {"model": settings.model, "texts": [given.get(a.id) for a in plan]}
        )
    texts: list[str | None] = kept["texts"]
    return texts


def _plan(requests: Sequence[Messages], role: Role, wiring: Models, settings: RoleSettings, seed: int) -> list[Ask]:
    role = replace(role, sampling=calm(wiring.sampling(settings)))
    seen: Counter[Messages] = Counter()
    plan = []
    for messages in requests:
        plan.append(
            asking.ask("response", role, messages, prompt=dialogue_id(messages), seed=seed, sample=seen[messages])
        )
        seen[messages] += 1
    return plan
