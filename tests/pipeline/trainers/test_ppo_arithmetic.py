"""The small functions PPO is made of, each against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.trainers.ppo import (
    KLCoefficient,
    approximate_kl,
    gae,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)


def test_the_score_sits_at_the_last_token_and_the_kl_at_every_one() -> None:
    logratio = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    found = token_rewards(torch.tensor([3.0, -1.0, 7.0]), logratio, mask, kl_coef=0.1)
    # 3 - 0.1 * 2 at the end of the first; the second has one token; an answer of no tokens gets nothing.
    assert torch.allclose(found, torch.tensor([[-0.05, 0.1, 2.8], [-1.1, 0.0, 0.0], [0.0, 0.0, 0.0]]))


def test_gae_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 2.0], [4.0, 9.0, 9.0]])
    values = torch.tensor([[0.5, 1.0, 1.5], [1.0, 8.0, 8.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = gae(rewards * mask, values * mask, mask, gamma=0.5, lam=0.8)
    # delta_2 = 2 - 1.5 = 0.5; delta_1 = 0 + 0.5 * 1.5 - 1 = -0.25; delta_0 = 1 + 0.5 * 1 - 0.5 = 1
    # A_2 = 0.5; A_1 = -0.25 + 0.4 * 0.5 = -0.05; A_0 = 1 + 0.4 * -0.05 = 0.98. The other: 4 - 1 = 3.
    assert torch.allclose(found, torch.tensor([[0.98, -0.05, 0.5], [3.0, 0.0, 0.0]]))


def test_gae_without_discount_is_what_is_still_to_come_less_what_was_expected() -> None:
    torch.manual_seed(0)
    rewards, values, mask = torch.randn(5, 7), torch.randn(5, 7), torch.ones(5, 7).bool()
    to_come = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(gae(rewards, values, mask, 1.0, 1.0), to_come - values, atol=1e-5)
    following = torch.cat([values[:, 1:], torch.zeros(5, 1)], 1)
    assert torch.allclose(gae(rewards, values, mask, 1.0, 0.0), rewards + following - values, atol=1e-6)


# ratio, advantage -> loss, slope of the loss in the new log-probability, whether the clip decided; the clip is 0.2
CASES = [
    (1.0, 2.0, -2.0, -2.0, False),
    (1.5, 2.0, -2.4, 0.0, True),  # good and already likelier: no further
    (0.5, 2.0, -1.0, -1.0, False),  # good and become less likely: back
    (1.5, -2.0, 3.0, 3.0, False),  # bad and become likelier: back
    (0.5, -2.0, 1.6, 0.0, True),  # bad and already less likely: no further
    (1.1, 2.0, -2.2, -2.2, False),
    (0.9, -2.0, 1.8, 1.8, False),
    (1.5, 0.0, 0.0, 0.0, False),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope", "decided"), CASES)
def test_the_clipped_ratio_case_by_case(
    ratio: float, advantage: float, loss: float, slope: float, decided: bool
) -> None:
    old = torch.tensor([[-2.0]])
    new = (old + math.log(ratio)).requires_grad_()
    found, clipped = policy_loss(new, old, torch.tensor([[advantage]]), 0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert new.grad is not None and new.grad.item() == pytest.approx(slope, abs=1e-5)
    assert clipped.item() is decided


# old value, new value, return -> loss, slope in the new value; the clip is 0.2
VALUE_CASES = [
    (1.0, 1.1, 2.0, 0.5 * 0.9**2, -0.9),  # within the clip: the plain squared error
    (1.0, 1.5, 2.0, 0.5 * 0.8**2, 0.0),  # towards the return and beyond the clip: held at 1.2
    (1.0, 0.5, 2.0, 0.5 * 1.5**2, -1.5),  # away from it: the plain error is the worse
    (1.0, 3.0, 2.0, 0.5 * 1.0**2, 1.0),  # past it: the plain error, 1, is worse than the clipped one, 0.8
    (1.0, 1.0, 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("old", "new", "target", "loss", "slope"), VALUE_CASES)
def test_the_clipped_value_case_by_case(old: float, new: float, target: float, loss: float, slope: float) -> None:
    value = torch.tensor([[new]], requires_grad=True)
    found = value_loss(value, torch.tensor([[old]]), torch.tensor([[target]]), 0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert value.grad is not None and value.grad.item() == pytest.approx(slope, abs=1e-6)


def test_whitening_looks_at_tokens_alone() -> None:
    values = torch.tensor([[1.0, 2.0, 99.0], [6.0, -99.0, math.inf]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = whiten(values, mask)
    # mean 3, variance (4 + 1 + 9) / 3
    expected = torch.tensor([[-2.0, -1.0, 0.0], [3.0, 0.0, 0.0]]) / math.sqrt(14 / 3)
    assert torch.allclose(found, expected, atol=1e-6)


def test_whitening_of_equal_advantages_is_zero() -> None:
    assert torch.equal(whiten(torch.full((2, 2), 0.7), torch.ones(2, 2).bool()), torch.zeros(2, 2))


def test_the_kl_of_two_policies_is_estimated_without_bias_and_never_below_zero() -> None:
    old, new = torch.tensor([0.2, 0.5, 0.3]).log(), torch.tensor([0.4, 0.5, 0.1]).log()
    found = approximate_kl(new, old)
    assert (found >= 0).all()
    expected = (old.exp() * (old - new)).sum()
    assert (old.exp() * found).sum().item() == pytest.approx(expected.item(), abs=1e-6)


def steered(*kls: float, target: float | None, episodes: int = 100) -> float:
    coefficient = KLCoefficient(0.2, target, horizon=1_000)
    for kl in kls:
        coefficient.update(kl, episodes)
    return coefficient.value


def test_the_kl_coefficient_follows_its_target() -> None:
    assert steered(6.6, target=6.0) == pytest.approx(0.2 * (1 + 0.1 * 0.1))  # 10% over, 100 of 1,000 episodes
    assert steered(5.4, target=6.0) == pytest.approx(0.2 * (1 - 0.1 * 0.1))
    assert steered(600.0, target=6.0) == pytest.approx(0.2 * (1 + 0.2 * 0.1))  # clipped at 20%
    assert steered(-3.0, target=6.0) == pytest.approx(0.2 * (1 - 0.2 * 0.1))
    assert steered(600.0, -3.0, target=None) == 0.2
