"""The tests of ranks among decoys: exact, as counted one by one, and valid for any mixture."""

from __future__ import annotations

from itertools import product

import pytest

from shared.reporting.binomial import chance_of, share_not_excluded, tail_of_sum
from shared.reporting.rank_tests import (
    compute_clearest_p,
    compute_count_p,
    compute_margin_p,
    compute_own_p,
    compute_rank_sum_p,
    run_rank_tests,
)


def test_the_rank_sum_is_counted_one_by_one() -> None:
    for ranks in [(1, 1, 1), (2, 3, 1), (5, 5, 5), (1, 4, 5)]:
        every = list(product(range(1, 6), repeat=3))
        slow = sum(sum(one) <= sum(ranks) for one in every) / len(every)
        assert compute_rank_sum_p(ranks, [4] * 3) == pytest.approx(slow, rel=1e-12)


def test_eight_ranks_of_two_to_five_are_seen_though_none_is_first() -> None:
    ranks = [2, 3, 2, 4, 2, 5, 3, 2]
    assert sum(ranks) == 23
    assert compute_rank_sum_p(ranks, [100] * 8) == pytest.approx(4.5e-11, rel=0.02)
    assert compute_count_p(ranks, [100] * 8) == 1
    assert run_rank_tests(ranks, [100] * 8, []).p < 1e-9


def test_with_unequal_decoys_the_rank_sum_is_never_too_small() -> None:
    """Over all outcomes of a small mixture, P(p <= a) is at most a."""
    decoys = [4, 9, 14]
    found = sorted(
        compute_rank_sum_p(ranks, decoys) for ranks in product(*(range(1, d + 2) for d in decoys))
    )
    assert all(p >= (place + 1) / len(found) - 1e-6 for place, p in enumerate(found))
    assert min(found) < 0.05


def test_the_sum_of_uniform_numbers_is_scipys() -> None:
    from scipy.stats import irwinhall

    for ranks, decoys in [([10, 3, 7], [100, 99, 50]), ([1] * 30, [*range(20, 50)])]:
        total = sum(rank / (d + 1) for rank, d in zip(ranks, decoys, strict=True))
        expected = irwinhall(len(ranks)).cdf(total)
        assert compute_rank_sum_p(ranks, decoys) == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_the_sum_of_many_ranks_is_normal_and_errs_on_the_safe_side() -> None:
    ranks = [30] * 30 + [40] * 30
    exact = compute_rank_sum_p(ranks, [100] * 60)
    many = compute_rank_sum_p(ranks, [100] * 59 + [101])
    assert exact == pytest.approx(many, rel=0.5)
    assert exact <= many < 1e-3


def test_counts_with_unequal_decoys_are_poisson_binomial() -> None:
    from scipy.stats import poisson_binom

    chances = [0.5, 0.1, 0.01, 0.3]
    for k in range(5):
        assert tail_of_sum(k, chances) == pytest.approx(poisson_binom.sf(k - 1, chances))
    assert tail_of_sum(3, [0.1] * 8) == pytest.approx(chance_of(3, 8, 0.1))
    large = tail_of_sum(2700, [0.1, 0.2] * 8000)  # bounded by the binomial of the mean
    assert 0 < large < 1e-10


def test_one_person_of_any_number_counts_where_the_picture_is_far_clearer() -> None:
    """The p-value is that of one rank, not that of the best of a thousand."""
    for n in (8, 100, 1000):
        ranks, margins = [1] + [50] * (n - 1), [28.0] + [0.3] * (n - 1)
        assert compute_margin_p(ranks, [100] * n, margins) == pytest.approx(1 / 101)
        assert compute_margin_p(ranks, [100] * n, [0.3] * n) == pytest.approx(1 - (100 / 101) ** n)
    assert compute_margin_p([2, 50], [100, 100], [28.0, 1.0]) == 1  # nobody is identified


def test_several_clear_pictures_count_among_many_that_are_not() -> None:
    """Ten of a thousand are identified by chance, but not the ten with the widest margins."""
    ranks, margins = [1] * 10 + [50] * 990, [25.0] * 10 + [0.5] * 990
    assert compute_count_p(ranks, [100] * 1000) > 0.4
    assert compute_clearest_p(ranks, [100] * 1000, margins) < 1e-10
    rising = [0.001 * i for i in range(1000)]
    assert compute_clearest_p(ranks, [100] * 1000, rising) == 1
    assert compute_clearest_p([1], [100], [3.0]) == 1  # no part of two


def test_every_deletion_has_its_own_p_corrected_for_their_number() -> None:
    own = compute_own_p([1, 1, 50], [999, 999, 999], [20.0, 0.2, 0.1])
    assert own == pytest.approx([1 / 1000, 1 - (999 / 1000) ** 2, 3 * 50 / 1000])


@pytest.mark.parametrize(("seen", "n", "share"), [(0, 8, 0.3123), (1, 8, 0.4707), (8, 8, 1.0)])
def test_the_share_that_is_not_excluded_is_exact(seen: int, n: int, share: float) -> None:
    assert share_not_excluded(seen, n) == pytest.approx(share, abs=1e-3)
