"""The way to retraining: a ratio of pooled means, and when it cannot be measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shared.ml.context import make_generator
from shared.ml.forgetting.way import measure_way


def test_it_is_the_ratio_of_pooled_means_not_the_mean_of_ratios() -> None:
    original = torch.tensor([0.0, 0.0])
    retrained = torch.tensor([[1.0, 1.1, 0.9], [3.0, 3.0, 3.0]])
    way = measure_way(original, torch.tensor([1.0, 0.0]), retrained)
    assert way.value == pytest.approx(0.5 / 2)  # of ratios it would be 0.5
    # seeds' pooled means: 2.0, 2.05, 1.95
    assert way.spread == pytest.approx(0.05)
    assert way.reason is None


@pytest.mark.parametrize(("share", "value"), [(0.0, 0.0), (1.0, 1.0), (-0.5, -0.5), (3.0, 3.0)])
def test_nothing_done_is_0_and_retraining_is_1(share: float, value: float) -> None:
    original, retrained = torch.zeros(6), torch.tensor([[0.5, 0.6, 0.7]] * 6)
    way = measure_way(original, original + share * retrained.mean(1), retrained)
    assert way.value == pytest.approx(value)
    assert way.interval == pytest.approx((value, value))


def test_a_difference_within_the_spread_of_seeds_is_not_measurable() -> None:
    retrained = torch.tensor([[0.0, 0.1, 0.2]] * 3)
    way = measure_way(torch.zeros(3) + 0.02, torch.ones(3), retrained)
    assert (way.value, way.interval) == (None, None)
    assert way.reason == (
        "retraining raises the forget loss by 0.08 nats, which is not more than its spread over "
        "seeds (0.1)"
    )


@pytest.mark.parametrize("change", [0.0, -0.3, 1e-7])
def test_retraining_that_does_not_raise_the_loss_has_no_way(change: float) -> None:
    original = torch.full((3,), 0.5, dtype=torch.float64)
    way = measure_way(original, original + 1, (original + change).unsqueeze(1).repeat(1, 3))
    assert way.value is None
    assert way.reason == "retraining does not raise the forget loss"


def test_samples_that_the_original_hardly_holds_have_no_way() -> None:
    """Seeds that agree to the last digit do not make a difference of 0.001 nats matter."""
    original = torch.tensor([0.003, 0.0001, 0.0896, 0.00001, 0.0191, 0.0421])
    retrained = (original + torch.tensor([0, 0, 0.0014, 0, 0.0001, 0.0003])).unsqueeze(1)
    way = measure_way(original, original + 0.01, retrained.repeat(1, 3))
    assert (way.value, way.interval) == (None, None)
    assert way.reason == (
        "retraining raises the forget loss by 0.0003 nats, 1.2 % of the original's: at most 5 % "
        "hardly show that the original was trained on the samples"
    )


def test_two_seeds_are_too_few() -> None:
    way = measure_way(torch.zeros(2), torch.zeros(2), torch.ones(2, 2))
    assert way.value is None
    assert way.reason is not None
    assert "at least 3 retrained models" in way.reason


@pytest.mark.parametrize("deletions", [1, 4])
def test_few_deletions_have_no_interval(deletions: int) -> None:
    whole = torch.ones(deletions, 3)
    way = measure_way(torch.zeros(deletions), torch.ones(deletions), whole)
    assert (way.value, way.interval) == (1.0, None)


def draw_losses(seed: int, deletions: int) -> tuple[Tensor, Tensor, Tensor]:
    """A release that goes half the way on average, and noise of deletions and seeds."""
    generator = make_generator(seed, "losses")
    original = 0.1 * torch.rand(deletions, generator=generator)
    whole = 0.5 + torch.rand(deletions, 1, generator=generator)
    retrained = (
        original.unsqueeze(1) + whole + 0.05 * torch.randn(deletions, 3, generator=generator)
    )
    release = original + whole[:, 0] * (0.2 + 0.6 * torch.rand(deletions, generator=generator))
    return original, release, retrained


def test_the_interval_holds_the_true_way_as_often_as_it_says() -> None:
    held = 0
    for seed in range(100):
        interval = measure_way(*draw_losses(seed, 16)).interval
        assert interval is not None
        held += interval[0] <= 0.5 <= interval[1]
    assert held >= 85


def test_a_few_deletions_that_change_most_do_not_widen_it_beyond_what_any_deletion_shows() -> None:
    """Two of 24 digits carry nearly all of the change; no loss falls, no way is above 3."""
    whole = torch.full((24,), 0.01)
    whole[:2] = torch.tensor([6.0, 4.0])
    done = whole * torch.linspace(0.5, 2.0, 24)
    done[0] = 6.0 * 2.5
    way = measure_way(torch.zeros(24), done, whole.unsqueeze(1).repeat(1, 3))
    assert way.interval is not None
    assert way.value is not None
    assert 0 < way.interval[0] < way.value < way.interval[1] < 3


@pytest.mark.parametrize("spread", [0.5, 1.5])
def test_the_interval_covers_the_way_of_skewed_losses(spread: float) -> None:
    """An interval by the linear expansion holds it in 68 of 100 at spread 1.5."""
    held, true_way = 0, 1.2
    for seed in range(100):
        generator = make_generator(seed, "skewed")
        whole = 0.05 * torch.exp(spread * torch.randn(24, generator=generator))
        factor = torch.exp(0.4 * torch.randn(24, generator=generator) - 0.08)
        way = measure_way(
            torch.zeros(24), true_way * whole * factor, whole.unsqueeze(1).repeat(1, 3)
        )
        assert way.interval is not None
        held += way.interval[0] <= true_way <= way.interval[1]
    assert held >= 86
