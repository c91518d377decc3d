"""A relative three-sample test: is a release closer to the original than to retrained models?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

LEVEL = 0.05
PERMUTATIONS = 999
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the median distance
LOWEST_LOG = -10.0  # log-probabilities below carry rounding and extrapolation only
MAX_SAMPLES = 256  # of all forget sets together
MIN_DELETIONS = 3
TIES = 1e-12  # statistics of one assignment differ by as much when it is computed in another order


class ThreeSampleTest(NamedTuple):
    """`statistic` above 0: the release is closer to the original; `low` and `high` are its 95 %
    interval. `not_forgotten` is None if the samples cannot decide, and `reason` says why."""

    statistic: float | None
    p: float | None
    not_forgotten: bool | None
    reason: str | None = None
    low: float | None = None
    high: float | None = None


def compare_three_samples(
    original: Tensor,
    release: Tensor,
    retrained: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> ThreeSampleTest:
    """Test whether a release has not forgotten: it is closer to the original than to retraining,
    and no retrained model would be.

    The statistic is T = D(release, retrained) - D(release, original), where D is the squared
    maximum mean discrepancy of the models' outputs on the forget sets, with a Gaussian kernel, at
    the largest of five bandwidths. "Not forgotten" takes both of two tests: the 95 % interval of T,
    from a jackknife over deletions, is above 0; and at most 5 % of the assignments that swap each deletion's
    release with its retrained models have a T as large. It is asked only where such swaps also
    tell the original from the retrained models. Together they flag no retrained model of another
    seed, whether the original differs from them or not.

    Source: Ribero, Schrab and Gretton 2026, arXiv 2601.19755, the relative test. Ours: outputs are
    log-probabilities with the true class first and the others in descending order, less their mean
    over the models that are swapped, so that classes and hard samples do not hide a difference of
    models; the discrepancy is MMD alone; and the levels come from swaps and a jackknife.

    Args:
        original, release: logits on each deletion's forget set, [D, k, K].
        retrained: the same by seed, [D, S, k, K].
        labels: true classes, int64 [D, k].
    """
    deletions, seeds, k = retrained.shape[:3]
    if deletions < MIN_DELETIONS or (seeds + 1) ** deletions * LEVEL < 1:
        return ThreeSampleTest(
            None, None, None, f"the test needs at least {MIN_DELETIONS} deletions"
        )
    kept = max(1, min(k, MAX_SAMPLES // deletions))
    labels = labels[:, :kept]
    before, after = _align(original[:, :kept], labels), _align(release[:, :kept], labels)
    again = _align(retrained[:, :, :kept], labels.unsqueeze(1).expand(-1, seeds, -1))
    swaps = _draw_swaps(deletions, seeds + 1, generator)
    told_apart = _count_as_large(_compute_discrepancies(before, again, swaps))
    if told_apart > LEVEL:
        return ThreeSampleTest(
            None,
            None,
            None,
            "the original's outputs on the forget sets cannot be told from those of retrained "
            f"models (p = {told_apart:.2g})",
        )
    grams = _compute_grams(after, again, before)
    statistics = _compute_relative(grams, swaps)
    statistic, p = statistics[0].item(), _count_as_large(statistics)
    error = _jackknife(grams, swaps[:1])
    half = NormalDist().inv_cdf(1 - LEVEL / 2) * error
    low, high = statistic - half, statistic + half
    return ThreeSampleTest(statistic, p, low > 0 and p <= LEVEL, low=low, high=high)


def _align(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities [..., K], bounded: the true class first, the others in descending order."""
    log_probabilities = logits.double().log_softmax(-1).clamp_min(LOWEST_LOG)
    true = log_probabilities.gather(-1, labels.unsqueeze(-1))
    others = log_probabilities.scatter(-1, labels.unsqueeze(-1), -torch.inf)
    return torch.cat([true, others.sort(-1, descending=True).values[..., :-1]], -1)


def _draw_swaps(deletions: int, models: int, generator: torch.Generator) -> Tensor:
    """Which of each deletion's models stands for the release, float64 one-hot [1 + P, D, models].
    The first row is as it is: model 0."""
    drawn = torch.randint(models, (PERMUTATIONS, deletions), generator=generator)
    as_it_is = torch.zeros(1, deletions, dtype=torch.int64)
    return torch.nn.functional.one_hot(torch.cat([as_it_is, drawn]), models).double()


def _count_as_large(statistics: Tensor) -> float:
    """The share of statistics at least as large as the first."""
    return (statistics >= statistics[0] - TIES).double().mean().item()


def _compute_discrepancies(one: Tensor, many: Tensor, swaps: Tensor) -> Tensor:
    """D of the model that stands for `one` [D, k, K] and the remaining ones, [1 + P]."""
    grams = _compute_grams(one, many, None)
    return torch.stack([gram.compare_swapped(swaps) for gram in grams]).amax(0)


def _compute_relative(grams: Sequence[_Gram], swaps: Tensor) -> Tensor:
    """T of every swap, [1 + P]."""
    to_retrained = torch.stack([gram.compare_swapped(swaps) for gram in grams]).amax(0)
    to_original = torch.stack([gram.compare_fixed(swaps) for gram in grams]).amax(0)
    return to_retrained - to_original


def _jackknife(grams: Sequence[_Gram], as_it_is: Tensor) -> float:
    """The standard error of T, by leaving out one deletion after the other."""
    deletions = grams[0].deletions
    left = []
    for deletion in range(deletions):
        kept = [other for other in range(deletions) if other != deletion]
        left.append(
            _compute_relative([gram.pick(kept) for gram in grams], as_it_is[:, kept]).item()
        )
    values = torch.tensor(left, dtype=torch.float64)
    return math.sqrt((deletions - 1) * (values - values.mean()).square().mean().item())


@dataclass(frozen=True)
class _Gram:
    """Kernel values summed by pair of models: swapping models then needs no further kernel.

    `swapped` [D, M, D, M] are those of the models that change places within a deletion, `crossed`
    [D, M, D] of them and the fixed models, `fixed` [D, D] of these; a sample with itself counts 0.
    """

    k: int
    swapped: Tensor
    crossed: Tensor
    fixed: Tensor

    @property
    def deletions(self) -> int:
        return self.swapped.shape[0]

    def pick(self, kept: list[int]) -> _Gram:
        """Without the other deletions."""
        return _Gram(
            self.k,
            self.swapped[kept][:, :, kept],
            self.crossed[kept][:, :, kept],
            self.fixed[kept][:, kept],
        )

    def compare_swapped(self, swaps: Tensor) -> Tensor:
        """Squared MMD of the models that stand for the release and the remaining ones, [P]."""
        own = swaps.flatten(1)
        rest, n = 1 - own, self.deletions * self.k
        m = n * (swaps.shape[2] - 1)
        sums = self.swapped.flatten(2).flatten(0, 1)
        from_own, from_rest = own @ sums, rest @ sums
        return (
            (from_own * own).sum(1) / (n * (n - 1))
            + (from_rest * rest).sum(1) / (m * (m - 1))
            - 2 * (from_own * rest).sum(1) / (n * m)
        )

    def compare_fixed(self, swaps: Tensor) -> Tensor:
        """Squared MMD of the models that stand for the release and the fixed ones, [P]."""
        own, n = swaps.flatten(1), self.deletions * self.k
        inner = ((own @ self.swapped.flatten(2).flatten(0, 1)) * own).sum(1)
        cross = (own @ self.crossed.flatten(0, 1)).sum(1)
        return (inner + self.fixed.sum()) / (n * (n - 1)) - 2 * cross / (n * n)


def _compute_grams(one: Tensor, many: Tensor, fixed: Tensor | None) -> list[_Gram]:
    """The kernels of all bandwidths.

    Args:
        one, fixed: outputs of one model per deletion, [D, k, K].
        many: of several, [D, S, k, K]; they and `one` change places.
    """
    models = torch.cat([one.unsqueeze(1), many], 1)
    centre = models.mean(1, keepdim=True)
    deletions, count, k = models.shape[:3]
    points = (models - centre).flatten(0, 2)
    if fixed is not None:
        points = torch.cat([points, (fixed - centre[:, 0]).flatten(0, 1)])
    squares = torch.cdist(points, points).square()
    median = squares[~torch.eye(len(points), dtype=torch.bool)].median().clamp_min(1e-30)
    split, total = deletions * count, len(points) // k
    grams = []
    for bandwidth in BANDWIDTHS:
        kernel = torch.exp(-squares / (2 * bandwidth**2 * median)).fill_diagonal_(0)
        sums = kernel.view(total, k, total, k).sum((1, 3))
        grams.append(
            _Gram(
                k,
                sums[:split, :split].view(deletions, count, deletions, count),
                sums[:split, split:].view(deletions, count, -1),
                sums[split:, split:],
            )
        )
    return grams
