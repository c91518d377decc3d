"""P-values of updates against a null of harmless ones: by hand, against a loop, and valid under the null."""

from __future__ import annotations

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.context import generator
from shared.ml.pvalues import max_statistic_p


def test_by_hand() -> None:
    null = torch.arange(1.0, 200).unsqueeze(1).repeat(1, 2)  # lowest of each update: 1 .. 199
    null[:, 1] += 1000
    observed = torch.tensor([[0.5, 9000.0], [9000.0, 10.5], [500.0, 500.0], [3.0, 4.0]])
    assert max_statistic_p(observed, null).tolist() == [1 / 200, 11 / 200, 1.0, 4 / 200]  # the tie at 3 counts


def test_it_is_a_loop_over_all_pairs() -> None:
    source = generator(0, "scores")
    observed, null = (torch.randn(n, 5, generator=source).round(decimals=1) for n in (40, 250))
    expected = [
        (1 + sum(min(other) <= min(one) for other in null.tolist())) / 251 for one in observed.tolist()
    ]  # fmt: skip
    assert max_statistic_p(observed, null).tolist() == expected


def test_of_harmless_updates_one_in_twenty_is_below_a_twentieth() -> None:
    source = generator(0, "harmless")
    below = 0
    for _ in range(200):  # a null of its own each: only then are 2,000 p-values not tied to one draw of it
        scores = torch.randn(209, 10, generator=source) * torch.arange(1, 11)  # classes of unlike spread
        below += int((max_statistic_p(scores[:10], scores[10:]) <= 0.05).sum())
    assert 70 <= below <= 130  # 100 expected; alike scores within a set widen the binomial's 9.7


def test_a_loud_class_is_found_and_paid_for() -> None:
    source = generator(0, "loud")
    null, observed = torch.randn(399, 10, generator=source), torch.randn(1, 10, generator=source)
    observed[0, 7] = -6
    assert max_statistic_p(observed, null).item() == 1 / 400
    assert max_statistic_p(torch.full((1, 10), -1.7), null).item() > 0.2  # 4.5 % of one class, a third of ten


@pytest.mark.parametrize(
    ("observed", "null", "match"),
    [
        (torch.zeros(3, 4), torch.zeros(198, 4), "199 harmless"),
        (torch.zeros(3, 4), torch.zeros(199, 5), "same K"),
        (torch.zeros(4), torch.zeros(199, 4), "same K"),
        (torch.full((1, 4), torch.nan), torch.zeros(199, 4), "observed scores must be finite"),
        (torch.zeros(1, 4), torch.full((199, 4), -torch.inf), "null scores must be finite"),
    ],
)
def test_what_is_no_null_is_told(observed: torch.Tensor, null: torch.Tensor, match: str) -> None:
    with pytest.raises(InvalidRequest, match=match):
        max_statistic_p(observed, null)
