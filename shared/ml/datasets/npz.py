"""The user's own data set: one .npz file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.datasets import registry
from shared.ml.datasets._array_files import read_npz
from shared.ml.datasets._files import resolve_data_path
from shared.ml.datasets._own_arrays import (
    Channels,
    find_classes,
    number_classes,
    read_features,
    read_images,
    read_labels,
)
from shared.ml.datasets._records import DeletableRows, Recorded
from shared.ml.samples import Samples, Split
from shared.plugin_ref import data_file_field

FIELD = "params.dataset.params.path"


class Names(NamedTuple):
    """Names of the arrays of a file."""

    samples: str
    labels: str
    test_samples: str
    test_labels: str


NAMES = (
    Names("images", "labels", "test_images", "test_labels"),
    Names("features", "labels", "test_features", "test_labels"),
    Names("x_train", "y_train", "x_test", "y_test"),  # Keras
)


class _Read(NamedTuple):
    """The splits; the label of each class; the row of each training sample; the number of rows."""

    train: Samples
    test: Samples
    classes: NDArray[Any]
    rows: Tensor
    records: int


class NpzParams(DeletableRows):
    path: Annotated[str, data_file_field()] = Field(
        min_length=1, max_length=500, description="the .npz file, inside the data root"
    )
    channels: Channels | None = Field(
        None,
        description="where the channels of images are; needed only if the shape is ambiguous",
    )


@registry.register("npz", params=NpzParams)
class Npz(Recorded):
    """An .npz file with `images` or `features`, and `labels` (with the prefix `test_` also for a
    test split); or with `x_train`, `y_train`, `x_test`, `y_test`.

    Images are [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3, either uint8 or floats in
    [0, 1]; features, of a table, are [N, F], floats in [0, 1] with none missing; labels are whole
    numbers, and each that occurs is a class. Without test arrays, a fifth of the samples, drawn
    with a fixed seed, is the test split.
    """

    def __init__(self, params: NpzParams) -> None:
        self.params: NpzParams = params

    @cached_property
    def _read(self) -> _Read:
        path = resolve_data_path(self.params.path, FIELD)
        try:
            return self._splits_of(read_npz(path, FIELD, _choose_arrays))
        except InvalidRequest as error:
            message = (
                error.message if path.name in error.message else f"{path.name}: {error.message}"
            )
            raise InvalidRequest(message, error.field) from error

    def _splits_of(self, arrays: Mapping[str, NDArray[Any]]) -> _Read:
        names = _names_in(arrays)
        images = self._images(arrays, names.samples)
        labels = read_labels(arrays[names.labels], names.labels, len(images), FIELD)
        classes = find_classes(labels, names.labels, FIELD)
        given = Samples(images, number_classes(labels, classes, names.labels, names.labels, FIELD))
        if names.test_labels not in arrays:
            rows = self._arrange(_drawn_splits(given.labels))
            return _Read(
                given.pick(rows["train"]),
                given.pick(rows["test"]),
                classes,
                rows["train"],
                len(labels),
            )
        tested = self._images(arrays, names.test_samples)
        if tested.shape[1:] != images.shape[1:]:
            raise InvalidRequest(
                f"{names.samples} and {names.test_samples} must have the same shape, got "
                f"{list(images.shape[1:])} and {list(tested.shape[1:])}",
                FIELD,
            )
        test_labels = read_labels(arrays[names.test_labels], names.test_labels, len(tested), FIELD)
        numbered = number_classes(test_labels, classes, names.test_labels, names.labels, FIELD)
        every = torch.arange(len(labels))
        rows = self._arrange({"train": every, "test": every[:0]})
        train = given if torch.equal(rows["train"], every) else given.pick(rows["train"])
        return _Read(train, Samples(tested, numbered), classes, rows["train"], len(labels))

    def _images(self, arrays: Mapping[str, NDArray[Any]], name: str) -> Tensor:
        array = arrays[name]
        if name.endswith("features") or (name.startswith("x_") and array.ndim == 2):
            return read_features(array, name, FIELD)
        return read_images(array, name, self.params.channels, FIELD)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.load("train").images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return len(self._read.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels as they are in the file."""
        return tuple(str(label) for label in self._read.classes.tolist())

    @property
    def origins(self) -> Tensor:
        """The row of each training sample, in the arrays that are not the test arrays."""
        return self._read.rows

    @property
    def records(self) -> int:
        return self._read.records

    def load(self, split: Split) -> Samples:
        """A split of the file.

        Raises:
            InvalidRequest: no such file, not an .npz, or arrays that are not as described.
        """
        return self._read.train if split == "train" else self._read.test


def _drawn_splits(labels: Tensor) -> dict[str, Tensor]:
    """A fifth of all rows, drawn with a fixed seed, is the test split; no class is in the test
    split only."""
    order = torch.randperm(len(labels), generator=make_generator(0, "npz test"))
    fifth = len(order) // 5
    trained = {*labels[order[fifth:]].tolist()}
    moved = [
        place for place, label in enumerate(labels[order[:fifth]].tolist()) if label not in trained
    ]
    if not moved:
        return {"train": order[fifth:], "test": order[:fifth]}
    test = torch.arange(len(order)) < fifth
    test[moved] = False
    return {"train": order[~test], "test": order[test]}


def _names_in(there: Collection[str]) -> Names:
    """The first known set of names that the file has."""
    if "x_train" in there and "images" in there:
        raise InvalidRequest("the file holds both images and x_train: remove one of them", FIELD)
    return next((names for names in NAMES if names.samples in there), NAMES[0])


def _choose_arrays(available: Collection[str]) -> list[str]:
    """The arrays to read, including the test arrays if there is any."""
    names = _names_in(available)
    test = [names.test_samples, names.test_labels]
    return [names.samples, names.labels, *(test if any(name in available for name in test) else [])]
