"""P-values of updates against a null of harmless ones: by hand, against a loop, and valid under the
null."""

from __future__ import annotations

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.pvalues import compute_claim_p, compute_max_statistic_p


def test_by_hand() -> None:
    null = torch.arange(1.0, 200).unsqueeze(1).repeat(1, 2)  # lowest of each update: 1 .. 199
    null[:, 1] += 1000
    observed = torch.tensor([[0.5, 9000.0], [9000.0, 10.5], [500.0, 500.0], [3.0, 4.0]])
    # the tie at 3 counts
    assert compute_max_statistic_p(observed, null).tolist() == [1 / 200, 11 / 200, 1.0, 4 / 200]


def test_it_is_a_loop_over_all_pairs() -> None:
    source = make_generator(0, "scores")
    observed, null = (torch.randn(n, 5, generator=source).round(decimals=1) for n in (40, 250))
    expected = [
        (1 + sum(min(other) <= min(one) for other in null.tolist())) / 251 for one in observed.tolist()
    ]  # fmt: skip
    assert compute_max_statistic_p(observed, null).tolist() == expected


def test_of_harmless_updates_one_in_twenty_is_below_a_twentieth() -> None:
    source = make_generator(0, "harmless")
    below = 0
    # a null of its own each: only then are 2,000 p-values not tied to one draw of it
    for _ in range(200):
        # classes of unlike spread
        scores = torch.randn(209, 10, generator=source) * torch.arange(1, 11)
        below += int((compute_max_statistic_p(scores[:10], scores[10:]) <= 0.05).sum())
    assert 70 <= below <= 130  # 100 expected; alike scores within a set widen the binomial's 9.7


def test_a_loud_class_is_found_and_paid_for() -> None:
    source = make_generator(0, "loud")
    null, observed = torch.randn(399, 10, generator=source), torch.randn(1, 10, generator=source)
    observed[0, 7] = -6
    assert compute_max_statistic_p(observed, null).item() == 1 / 400
    # 4.5 % of one class, a third of ten
    assert compute_max_statistic_p(torch.full((1, 10), -1.7), null).item() > 0.2


@pytest.mark.parametrize(
    ("observed", "null", "match"),
    [
        (torch.zeros(3, 4), torch.zeros(18, 4), "19 shadow deletions"),
        (torch.zeros(3, 4), torch.zeros(199, 5), "same K"),
        (torch.zeros(4), torch.zeros(199, 4), "same K"),
        (torch.full((1, 4), torch.nan), torch.zeros(199, 4), "observed scores must be finite"),
        (torch.zeros(1, 4), torch.full((199, 4), -torch.inf), "null scores must be finite"),
    ],
)
def test_an_unsuitable_null_distribution_is_refused(
    observed: torch.Tensor, null: torch.Tensor, match: str
) -> None:
    with pytest.raises(InvalidRequest, match=match):
        compute_max_statistic_p(observed, null)


def deletions(
    n: int, signal: float, seed: int, classes: int = 6, k: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [n, K] with classes that always score low, deletions that move all of them more, and
    the truth [n, k]."""
    source = make_generator(seed, "deletions")
    truth = torch.stack([torch.randperm(classes, generator=source)[:k] for _ in range(n)])
    scores = torch.randn(n, classes, generator=source).double() * torch.linspace(
        1, 3, classes
    ) - torch.arange(classes)
    scores.scatter_add_(1, truth, torch.full(truth.shape, -signal, dtype=torch.float64))
    return scores * torch.rand(n, 1, generator=source).add(0.1).pow(3), truth


def test_the_null_distribution_of_claims_equals_a_plain_loop() -> None:
    (scores, _), (null, gone) = deletions(5, 4, 0, k=2), deletions(199, 4, 1, k=2)
    answers = scores.topk(2, dim=1, largest=False).indices

    def spread(row: list[float]) -> list[float]:
        middle = sorted(row)[(len(row) - 1) // 2]
        size = sum(abs(v - middle) for v in row) / len(row)
        return [(v - middle) / size for v in row]

    told, shadows = [spread(row) for row in scores.tolist()], [spread(row) for row in null.tolist()]

    def standardise(value: float, c: int, left_out: int | None = None) -> float:
        own = [
            row[c]
            for n, (row, out) in enumerate(zip(shadows, gone.tolist(), strict=True))
            if c not in out and n != left_out
        ]
        mean = sum(own) / len(own)
        return (value - mean) / (sum((v - mean) ** 2 for v in own) / (len(own) - 1)) ** 0.5

    lowest = [
        min(standardise(row[c], c, n) for c in range(6) if c not in out)
        for n, (row, out) in enumerate(zip(shadows, gone.tolist(), strict=True))
    ]
    expected = [
        [(1 + sum(t <= standardise(row[c], c) for t in lowest)) / 200 for c in named]
        for row, named in zip(told, answers.tolist(), strict=True)
    ]
    assert compute_claim_p(answers, scores, null, gone).tolist() == expected


@pytest.mark.parametrize("signal", [0.0, 2.0, 8.0])
def test_wrong_claims_are_at_most_alpha_and_a_loud_truth_is_claimed(signal: float) -> None:
    wrong = right = 0
    for seed in range(100):  # a null of its own each
        (scores, truth), (null, gone) = (
            deletions(10, signal, 2 * seed),
            deletions(199, signal, 2 * seed + 1),
        )
        answers = scores.argmin(1, keepdim=True)
        claimed = compute_claim_p(answers, scores, null, gone) <= 0.05
        wrong += int((claimed & (answers != truth)).sum())
        right += int((claimed & (answers == truth)).sum())
    assert wrong <= 70  # 50 of 1,000 expected at most
    assert right >= {0.0: 0, 2.0: 20, 8.0: 500}[signal]


def test_few_shadows_make_no_more_wrong_claims() -> None:
    wrong = 0
    for seed in range(200):  # a null of its own each
        (scores, truth), (null, gone) = deletions(5, 0, 2 * seed), deletions(19, 0, 2 * seed + 1)
        answers = torch.arange(6).expand(5, 6)
        claimed = compute_claim_p(answers, scores, null, gone) <= 0.05
        wrong += int(claimed.scatter(1, truth, False).any(1).sum())
    assert wrong <= 75  # 50 of 1,000 expected at most


def test_an_api_that_rounds_everything_away_makes_no_claims() -> None:
    null, gone = torch.zeros(199, 4), torch.arange(199).unsqueeze(1) % 4
    assert compute_claim_p(torch.tensor([[0]]), torch.zeros(1, 4), null, gone).tolist() == [[1.0]]


def test_shadows_that_do_not_fit_are_refused() -> None:
    scores, null = torch.zeros(2, 4), torch.zeros(199, 4)
    answers = torch.zeros(2, 1, dtype=torch.int64)
    with pytest.raises(InvalidRequest, match="do not match"):
        compute_claim_p(
            answers, scores, torch.zeros(199, 5), torch.zeros(199, 1, dtype=torch.int64)
        )
    with pytest.raises(InvalidRequest, match="class 0 is forgotten by nearly all"):
        compute_claim_p(answers, scores, null, torch.zeros(199, 1, dtype=torch.int64))
    with pytest.raises(InvalidRequest, match="at least 19 shadow deletions, got 18"):
        compute_claim_p(answers, scores, null[:18], torch.arange(18).unsqueeze(1) % 4)
