"""What every data set is: images in [0, 1], labels, and the constants a model normalises with.

A row of a table is an image of one pixel with one channel per feature, [F, 1, 1]: what images have
per channel (mean and std) tables have per feature, and no pixel has neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from shared.forget_sets import Kind
from shared.ml.datasets import registry
from shared.plugin_ref import PluginRef, resolve_plugin

MAX_NAME = 100  # characters of a class's name that a report shows

Split = Literal["train", "test"]


class Samples(NamedTuple):
    """`images` float32 [N, C, H, W] in [0, 1], `labels` int64 [N]."""

    images: Tensor
    labels: Tensor

    def pick(self, indices: Tensor | list[int]) -> Samples:
        """The samples at these positions, in this order."""
        return Samples(self.images[indices], self.labels[indices])


class Dataset(Protocol):
    """A plugin of the folder, built from its parameters. Nothing is read before it is asked for."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """C, H, W; F, 1, 1 for a table of F features."""

    @property
    def num_classes(self) -> int:
        """Labels are 0 to num_classes - 1."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the training images, one a channel."""

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the training images' pixels, one a channel."""

    def load(self, split: Split) -> Samples:
        """All samples of a split, always in the same order.

        Raises:
            InvalidRequest: the data cannot be had here; the message says what to do.
        """


@runtime_checkable
class HasRecords(Protocol):
    """A data set whose records have names, so that deletions can name them: see
    `shared.ml.datasets._records`."""

    @property
    def origins(self) -> Tensor:
        """The record of each sample of the train split, int64 [N]."""

    @property
    def deletable(self) -> list[int]:
        """Places in the train split of the records that deletions may name."""

    def find(self, kind: Kind, names: Sequence[int | str], field: str) -> list[int]:
        """Places in the train split of records of these names."""


@runtime_checkable
class HasRetained(Protocol):
    """A data set that says which samples of its train split were deleted, and which retained."""

    @property
    def retained_from(self) -> int:
        """Position in the train split of the first retained sample: deleted ones come before it."""


def find_deletable(dataset: Dataset) -> list[int]:
    """Positions in the train split of records that every pool and every training set holds."""
    return dataset.deletable if isinstance(dataset, HasRecords) else []


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """The name of each class: as the data set says (`class_names`), else the number of its
    label."""
    names: tuple[str, ...] | None = getattr(dataset, "class_names", None)
    return names or tuple(str(label) for label in range(dataset.num_classes))


def name_classes(dataset: Dataset, labels: Iterable[int]) -> dict[str, str]:
    """The names of these classes by label (as text); empty if names are just the numbers of the
    labels."""
    names = class_names(dataset)
    if names == tuple(str(label) for label in range(len(names))):
        return {}
    return {
        str(label): names[label][:MAX_NAME] for label in sorted({*labels}) if label < len(names)
    }


def open_dataset(choice: PluginRef) -> Dataset:
    """The data set that `choice` names.

    Raises:
        InvalidRequest: no such data set, or parameters it does not take.
    """
    plugin, params = resolve_plugin(registry, choice)
    dataset: Dataset = plugin.target(params)
    return dataset


def compute_digest(samples: Samples) -> str:
    """sha256, in hex, of the values: other values or another order give another digest."""
    images, labels = samples
    state = hashlib.sha256(f"{tuple(images.shape)}".encode())
    state.update(images.contiguous().numpy().tobytes())
    state.update(labels.contiguous().numpy().tobytes())
    return state.hexdigest()
