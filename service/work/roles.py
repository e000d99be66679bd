"""Who answers, who criticises: models in their roles, for a run."""

from __future__ import annotations

from pipeline.asking import Role
from service.settings import RoleSettings
from service.work.work import Work


def role_of(work: Work, model: str, settings: RoleSettings | None = None) -> Role:
    """A policy, the start model or a checkpoint, as the settings say that policies are run."""
    start = work.start
    trained = work.settings.trained or work.settings.policy
    return work.wiring.policy(settings or (work.settings.policy if model == start else trained), model)


def critic_of(work: Work) -> Role:
    """Who criticises and revises: the policy this run began with, or a critic of its own."""
    critic = work.settings.critic
    if critic is None or critic.model == work.settings.policy.model:
        return role_of(work, work.start, critic)
    return work.wiring.role(critic)
