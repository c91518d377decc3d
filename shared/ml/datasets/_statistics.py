"""Data sets that compute their own mean and standard deviation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from torch import Tensor

from shared.ml.samples import Samples, Split


def compute_channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over all pixels, per channel. `images` is [N, C, H, W]."""
    wide = images.double()
    mean, std = wide.mean(dim=(0, 2, 3)), wide.std(dim=(0, 2, 3), correction=0)
    return tuple(mean.tolist()), tuple(std.tolist())


class ComputedStatistics(ABC):
    """Base class of users' data sets: mean and standard deviation are those of the train split."""

    @abstractmethod
    def load(self, split: Split) -> Samples:
        """All samples of a split."""

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean, std = compute_channel_statistics(self.load("train").images)
        # constant channels must not be divided by 0
        return mean, tuple(max(s, 1e-3) for s in std)

    @property
    def mean(self) -> tuple[float, ...]:
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        return self._statistics[1]
