"""The light part has no numpy, so it computes binomial tails itself: they are scipy's."""

from __future__ import annotations

import pytest

from shared.reporting.binomial import chance_band, chance_of

SHARES = [1 / 101, 0.1, 0.25, 0.5, 0.9]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("n", [1, 8, 32, 1000, 20_000])
def test_tails_and_bands_are_those_of_scipy(n: int, share: float) -> None:
    from scipy.stats import binom

    for k in sorted({0, 1, n // 100, n // 10, n // 2, n}):
        assert chance_of(k, n, share) == pytest.approx(
            binom.sf(k - 1, n, share), rel=1e-8, abs=1e-18
        )
    low, high = chance_band(n, share)
    assert (round(low * n), round(high * n)) == tuple(binom.ppf([0.025, 0.975], n, share))
