"""Images, table rows and labels from the user's arrays; errors say what is wrong and what to do.

Messages name the array and the index; the only values they repeat are NaN and infinity.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.compatibility import MAX_FEATURES
from shared.errors import InvalidRequest

Array = NDArray[Any]
Channels = Literal["first", "last"]
MAX_CLASSES = 1000
ROUNDING = 1e-6  # floats may exceed [0, 1] by this much and are clamped
FEWEST = 10


def read_images(
    images: Array, name: str, channels: Channels | None, field: str, fewest: int = FEWEST
) -> Tensor:
    """Images [N, H, W], [N, C, H, W] or [N, H, W, C] as float32 [N, C, H, W] in [0, 1].

    Raises:
        InvalidRequest: another shape, an ambiguous one, or neither uint8 nor floats in [0, 1].
    """
    ordered = _channels_first(images, name, channels, field, fewest)
    if ordered.dtype == np.uint8:
        if ordered.max() <= 1:
            raise InvalidRequest(
                f"{name} is uint8, where 255 is white, but holds no value above 1: multiply by "
                "255, or use floats in [0, 1]",
                field,
            )
        return torch.from_numpy(np.ascontiguousarray(ordered)).float().div_(255)
    if ordered.dtype.kind != "f":
        raise InvalidRequest(
            f"{name} must be uint8 (0 to 255) or floats in [0, 1], got {ordered.dtype}: use "
            f"{name}.astype(numpy.uint8) if its values are 0 to 255",
            field,
        )
    if 0 < images.max() <= 1 / 255 + ROUNDING:
        raise InvalidRequest(
            f"{name}: all floats are at most 1/255, but white is 1: they may have been divided by "
            "255 twice; multiply by 255",
            field,
        )
    return _in_range(ordered, images, name, field)


def read_features(features: Array, name: str, field: str) -> Tensor:
    """Rows of a table [N, F] as float32 [N, F, 1, 1] in [0, 1].

    Raises:
        InvalidRequest: another shape, not floats, or one is missing or out of range.
    """
    if (
        features.ndim != 2
        or features.dtype.kind != "f"
        or not 1 <= features.shape[1] <= MAX_FEATURES
    ):
        raise InvalidRequest(
            f"{name} must be floats [N, F] with F at most {MAX_FEATURES}; got {features.dtype} "
            f"{list(features.shape)}",
            field,
        )
    _require_enough(features, name, field, FEWEST)
    for row, column in np.argwhere(np.isnan(features))[:1]:
        raise InvalidRequest(
            f"{name}: row {row}, column {column} (counted from 0) is missing (NaN): fill it in, or "
            "remove the row",
            field,
        )
    return _in_range(features[:, :, None, None], features, name, field)


def _require_enough(array: Array, name: str, field: str, fewest: int) -> None:
    if len(array) < fewest:
        at_least = "ten samples" if fewest == FEWEST else f"{fewest} sample"
        raise InvalidRequest(f"{name} must hold at least {at_least}, got {len(array)}", field)


def _channels_first(
    images: Array, name: str, channels: Channels | None, field: str, fewest: int
) -> Array:
    shape = list(images.shape)
    if images.ndim not in (3, 4) or 0 in shape[1:]:
        raise InvalidRequest(
            f"{name} must be [N, H, W], [N, C, H, W] or [N, H, W, C]; got {shape}", field
        )
    _require_enough(images, name, field, fewest)
    if images.ndim == 3:
        return images[:, None]
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if shape[2:] == [1, 1] and channels is None:
        return images  # rows of a table, as stored
    if channels is None and first and last:
        raise InvalidRequest(
            f"{name} is {shape}, so the channels could be first or last: set the parameter "
            "channels",
            field,
        )
    if (channels or ("first" if first else "last")) == "first" and first:
        return images
    if channels != "first" and last:
        return images.transpose(0, 3, 1, 2)
    what = (
        ": remove the fourth channel, alpha, by compositing onto a background"
        if 4 in (shape[1], shape[3])
        else ""
    )
    raise InvalidRequest(
        f"{name} must have 1 or 3 channels (C in [N, C, H, W] or [N, H, W, C]); got {shape}{what}",
        field,
    )


def _in_range(ordered: Array, given: Array, name: str, field: str) -> Tensor:
    """As float32, with rounding errors beyond [0, 1] clamped."""
    bad = ~((given >= -ROUNDING) & (given <= 1 + ROUNDING))  # NaN too
    if not bad.any():
        return torch.from_numpy(np.ascontiguousarray(ordered, dtype=np.float32)).clamp_(0, 1)
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    value = float(given[index])
    finite = given[np.isfinite(given)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    # a finite value is private
    way_out, described = "scale to [0, 1]", "above 1" if value > 1 else "below 0"
    if not np.isfinite(value):
        way_out, described = "fill it in, or remove the sample", f"{value:g}"
    elif low >= 0 and 1.5 < high <= 255:
        way_out = "divide by 255"
    elif -1 - ROUNDING <= low < 0 and high <= 1 + ROUNDING:
        way_out = "compute (x + 1) / 2 if the values are scaled to [-1, 1]"
    elif low < 0:
        way_out = "undo the normalisation (x * std + mean): Palimpsest computes mean and std itself"
    raise InvalidRequest(
        f"{name}{[int(i) for i in index]} is {described}: floats must be finite and in [0, 1]; "
        f"{way_out}",
        field,
    )


def read_labels(labels: Array, name: str, count: int, field: str) -> Array:
    """Whole numbers of any size as int64 [N]. [N, 1] is accepted too.

    Raises:
        InvalidRequest: another shape or type, or one is negative.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and len(labels) == count:
        raise InvalidRequest(
            f"{name} must be [N], got {list(labels.shape)}: if it is one-hot, use {name}.argmax(1)",
            field,
        )
    if labels.ndim != 1 or len(labels) != count:
        raise InvalidRequest(
            f"{name} must be [N] with one label per image ({count}), got {list(labels.shape)}",
            field,
        )
    if labels.dtype.kind not in "iu":
        raise InvalidRequest(
            f"{name} must be integers, got {labels.dtype}: use {name}.astype(int) if they are "
            "classes",
            field,
        )
    if labels.dtype == np.uint64 and labels.max() > np.iinfo(np.int64).max:
        raise InvalidRequest(
            f"{name}[{int(labels.argmax())}] is above 2**63 - 1: number the classes from 0", field
        )
    labels = labels.astype(np.int64)
    if labels.min() < 0:
        raise InvalidRequest(
            f"{name}[{int((labels < 0).argmax())}] is negative: number the classes from 0, and "
            "remove samples without a class",
            field,
        )
    return labels


def find_classes(labels: Array, name: str, field: str) -> Array:
    """The distinct labels, sorted: each is a class, numbered by its position here, without gaps.

    Raises:
        InvalidRequest: fewer than 2, more than 1000, or hardly any occurs twice.
    """
    classes: Array = np.unique(labels)
    if len(classes) < 2:
        raise InvalidRequest(
            f"{name} holds only one class, but at least two are needed: add samples of another",
            field,
        )
    if len(classes) > MAX_CLASSES:
        raise InvalidRequest(
            f"{name} holds {len(classes)} classes, but at most {MAX_CLASSES} are supported: merge "
            "some",
            field,
        )
    if len(classes) > len(labels) / 2 and len(classes) > 20:
        raise InvalidRequest(
            f"{name} holds {len(classes)} different values for {len(labels)} samples, which look "
            "like measurements or sample numbers, not classes: give each sample the number of its "
            "class",
            field,
        )
    return classes


def number_classes(labels: Array, classes: Array, name: str, others: str, field: str) -> Tensor:
    """Labels as indices into `classes`, int64 [N].

    Raises:
        InvalidRequest: one is not among them.
    """
    places = np.searchsorted(classes, labels)
    known = classes[places.clip(max=len(classes) - 1)] == labels
    if not known.all():
        raise InvalidRequest(
            f"{name}[{int((~known).argmax())}] is of a class that {others} does not have: remove "
            f"the sample, or add samples of its class to {others}",
            field,
        )
    return torch.from_numpy(places)
