"""Intervals of AUCs and the p-value beside them, held against slow and obvious references."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
import torch
from torch import Tensor

from shared.ml.context import make_generator
from shared.ml.ranks import DRAWS, auc_interval, compute_wins, midranks, rank_sum_p, split_randomly


def interval(scores: Tensor, others: Tensor, units: list[int] | None = None) -> tuple[float, float]:
    wins = compute_wins(scores, others.expand(len(scores), -1))
    strata = torch.zeros(len(others), dtype=torch.int64)
    return auc_interval(
        wins,
        torch.full_like(wins, 1 / len(others)),
        strata,
        torch.tensor(units or range(len(scores))),
    )


def test_midranks_share_the_places_of_ties() -> None:
    assert midranks(torch.tensor([[3.0, 1, 3, 0], [1, 1, 1, 1]])).tolist() == [
        [3.5, 2, 3.5, 1],
        [2.5] * 4,
    ]


def test_a_perfect_auc_has_a_width_and_more_samples_a_smaller_one() -> None:
    lows = []
    for n in (4, 8, 32):
        low, high = interval(torch.ones(n), torch.zeros(200))
        assert high == 1
        lows.append(low)
        low, high = interval(torch.zeros(n), torch.ones(200))
        assert (low, round(high, 6)) == (0, round(1 - lows[-1], 6))
    assert lows == sorted(lows)
    assert 0.5 < lows[0] < lows[-1] < 0.98


def test_the_interval_holds_the_true_auc_in_about_95_of_100_draws() -> None:
    """Normal scores, 1.0 apart: the AUC is Phi(1 / sqrt 2) = 0.7602. Of 400 draws 368 to 392 would
    be 92 to 98 %."""
    rng = make_generator(0, "coverage")
    inside = 0
    for _ in range(400):
        low, high = interval(1 + torch.randn(16, generator=rng), torch.randn(100, generator=rng))
        inside += low <= 0.7602 <= high
    assert 368 <= inside <= 396


def test_samples_that_were_drawn_together_count_less_the_more_alike_they_are() -> None:
    rng = make_generator(0, "together")
    others, shift = torch.randn(300, generator=rng), torch.linspace(-2, 2, 6)
    scores = 0.8 + shift.repeat_interleave(8) + 0.1 * torch.randn(48, generator=rng)
    alone, together = (
        interval(scores, others),
        interval(scores, others, [i // 8 for i in range(48)]),
    )
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


@pytest.mark.parametrize("ties", [False, True])
def test_the_p_value_is_that_of_all_relabelings(ties: bool) -> None:
    scores = [torch.tensor([5.0, 4, 1, 2, 3, 0]), torch.tensor([2.0, 1, 0, 3])]
    if ties:
        scores = [values.div(2).floor() for values in scores]
    ranks = [midranks(values) for values in scores]
    (first, second), chosen = ranks, [2, 1]

    def wins(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        return first[list(one)].sum().item() / 4 + second[list(other)].sum().item() / 3

    every = [wins(a, b) for a in combinations(range(6), 2) for b in combinations(range(4), 1)]
    exact = fmean(total >= wins((0, 1), (0,)) - 1e-9 for total in every)
    low = fmean(total <= wins((0, 1), (0,)) + 1e-9 for total in every)
    p = rank_sum_p(list(zip(ranks, chosen, strict=True)), make_generator(0, "p"))
    assert p == pytest.approx((exact, low), abs=0.02)


def test_the_least_p_is_one_in_all_draws_and_nothing_to_compare_gives_none() -> None:
    clear = (midranks(torch.cat([torch.ones(8), torch.zeros(40)])), 8)
    assert rank_sum_p([clear], make_generator(0, "p")) == (1 / (DRAWS + 1), 1)
    assert rank_sum_p([], make_generator(0, "p")) is None


def test_places_are_dealt_out_once_and_evenly() -> None:
    parts = split_randomly(10, 4, make_generator(0, "deal"))
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert {len(part) for part in parts} == {2, 3}
