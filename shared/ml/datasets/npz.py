"""A data set of one's own: one .npz file."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from shared.choices import data_file
from shared.errors import InvalidRequest
from shared.fit import MAX_FEATURES
from shared.ml.context import generator
from shared.ml.datasets import registry
from shared.ml.datasets._arrays import read_npz
from shared.ml.datasets._files import inside
from shared.ml.datasets._measured import Measured
from shared.ml.samples import Samples, Split
from shared.plugins import Params

FIELD = "params.dataset.params.path"


class NpzParams(Params):
    path: Annotated[str, data_file()] = Field(
        min_length=1, max_length=500, description="the .npz file, inside the data root"
    )


@registry.register("npz", params=NpzParams)
class Npz(Measured):
    """Arrays `images` or `features`, and `labels` (and the same as `test_...`), in an .npz file.

    Images are [N, H, W] or [N, C, H, W] with C = 1 or 3, either uint8 or floats in [0, 1]; features, of a table, are
    [N, F], floats in [0, 1] with none missing; labels are whole numbers from 0. Without test arrays, a fifth of the
    samples, drawn with a fixed seed, is the test split.
    """

    def __init__(self, params: NpzParams) -> None:
        self.params = params

    @cached_property
    def _splits(self) -> dict[str, Samples]:
        arrays = read_npz(inside(self.params.path, FIELD), FIELD, _needed)
        kind = next(iter(arrays))
        given = _samples(arrays, kind, "labels")
        if "test_labels" in arrays:
            test = _samples(arrays, f"test_{kind}", "test_labels")
            if test.images.shape[1:] != given.images.shape[1:]:
                raise InvalidRequest(f"{kind} and test_{kind} must have one shape", FIELD)
            return {"train": given, "test": test}
        order = torch.randperm(len(given.labels), generator=generator(0, "npz test"))
        fifth = len(order) // 5
        return {"train": given.pick(order[fifth:]), "test": given.pick(order[:fifth])}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.load("train").images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return max(2, 1 + max(int(s.labels.max()) for s in self._splits.values()))

    def load(self, split: Split) -> Samples:
        """A split of the file.

        Raises:
            InvalidRequest: no such file, not an .npz, or arrays that are not as described.
        """
        return self._splits[split]


def _needed(there: Collection[str]) -> list[str]:
    """Images before features; test arrays where there is one of them."""
    kind = "features" if "features" in there and "images" not in there else "images"
    test = [f"test_{kind}", "test_labels"]
    return [kind, "labels", *(test if any(name in there for name in test) else [])]


def _samples(arrays: dict[str, NDArray[Any]], images_name: str, labels_name: str) -> Samples:
    images, labels = arrays[images_name], arrays[labels_name]
    if images_name.endswith("features"):
        images = _rows(images, images_name)
    elif images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or len(images) < 10 or (images.shape[1] not in (1, 3) and images.shape[2:] != (1, 1)):
        raise InvalidRequest(
            f"{images_name} must be at least ten of [H, W] or [C, H, W], C 1 or 3; got {images.shape}", FIELD
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise InvalidRequest(f"{labels_name} must be whole numbers, one an image", FIELD)
    if images.dtype == np.uint8:
        pixels = torch.from_numpy(images).float().div_(255)
    elif images.dtype.kind == "f":
        pixels = torch.from_numpy(images.astype(np.float32, copy=False))
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise InvalidRequest(f"{images_name}: floats must be finite and in [0, 1]", FIELD)
    else:
        raise InvalidRequest(f"{images_name} must be uint8 or floats, got {images.dtype}", FIELD)
    if labels.min() < 0 or labels.max() >= 1000:
        raise InvalidRequest(f"{labels_name} must be 0 to 999", FIELD)
    return Samples(pixels, torch.from_numpy(labels.astype(np.int64)))


def _rows(features: NDArray[Any], name: str) -> NDArray[Any]:
    """Rows of a table [N, F] as [N, F, 1, 1]."""
    if features.ndim != 2 or features.dtype.kind != "f" or not 1 <= features.shape[1] <= MAX_FEATURES:
        raise InvalidRequest(
            f"{name} must be floats [N, F], F at most {MAX_FEATURES}; got {features.dtype} {features.shape}", FIELD
        )
    for row, column in np.argwhere(np.isnan(features))[:1]:
        raise InvalidRequest(f"{name}: row {row}, column {column} (from 0) is missing (NaN)", FIELD)
    return features[:, :, None, None]
