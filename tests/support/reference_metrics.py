"""Slow reference metrics: loops over pixels in numpy, written from the papers and not from our
code."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Array = np.ndarray


def compute_haarpsi(first: Array, second: Array) -> float:
    """HaarPSI of two images [C, H, W] in [0, 1], C 1 or 3 (Reisenhofer et al. 2018, section 3)."""
    planes = [_to_subsampled_yiq(np.asarray(image, np.float64) * 255) for image in (first, second)]
    luma = [[_filter_haar(plane[0], scale) for scale in (1, 2, 3)] for plane in planes]
    up = down = 0.0
    height, width = planes[0].shape[1:]
    for row in range(height):
        for column in range(width):
            weights = []
            for orientation in range(2):
                a, b = (
                    [luma[image][scale][orientation][row, column] for scale in range(3)]
                    for image in range(2)
                )
                similarity = (_similarity(a[0], b[0]) + _similarity(a[1], b[1])) / 2
                weights.append(max(a[2], b[2]))
                up += weights[-1] / (1 + math.exp(-4.2 * similarity))
            if len(planes[0]) == 3:
                means = [
                    [abs(_mean_of_4(plane[c], row, column)) for plane in planes] for c in (1, 2)
                ]
                similarity = sum(_similarity(*pair) for pair in means) / 2
                weights.append(sum(weights) / 2)
                up += weights[-1] / (1 + math.exp(-4.2 * similarity))
            down += sum(weights)
    share = up / down
    return (math.log(share / (1 - share)) / 4.2) ** 2


def _to_subsampled_yiq(image: Array) -> Array:
    """YIQ where there are colours; means of 2 x 2 pixels, every second one in each direction;
    beyond the image 0."""
    if len(image) == 3:
        r, g, b = image
        image = np.stack(
            [
                0.299 * r + 0.587 * g + 0.114 * b,
                0.596 * r - 0.274 * g - 0.322 * b,
                0.211 * r - 0.523 * g + 0.312 * b,
            ]
        )
    rows, columns = range(0, image.shape[1], 2), range(0, image.shape[2], 2)
    return np.stack(
        [
            [[_mean_of_4(plane, row, column) for column in columns] for row in rows]
            for plane in image
        ]
    )


def _mean_of_4(plane: Array, row: int, column: int) -> float:
    return float(plane[row : row + 2, column : column + 2].sum() / 4)


def _filter_haar(plane: Array, scale: int) -> list[Array]:
    """Magnitudes of the coefficients of one scale, for edges along columns and along rows; same
    size as the plane."""
    low, high = np.array([1.0, 1.0]) / math.sqrt(2), np.array([-1.0, 1.0]) / math.sqrt(2)
    h, g = low, high
    for _ in range(scale - 1):
        h, g = (np.convolve(low, _dilate(f)) for f in (h, g))
    size = len(h)
    wide = np.pad(plane, ((size // 2 - 1, size // 2), (size // 2 - 1, size // 2)))
    responses = []
    for kernel in (np.outer(g, h), np.outer(h, g)):
        coefficients = np.zeros(plane.shape)
        for row in range(plane.shape[0]):
            for column in range(plane.shape[1]):
                coefficients[row, column] = abs(
                    (kernel * wide[row : row + size, column : column + size]).sum()
                )
        responses.append(coefficients)
    return responses


def _dilate(f: Array) -> Array:
    """Zeros between the values: a filter at half the frequency."""
    out = np.zeros(2 * len(f) - 1)
    out[::2] = f
    return out


def _similarity(a: float, b: float) -> float:
    return (2 * a * b + 30) / (a**2 + b**2 + 30)


def compute_layer_distance(first: Array, second: Array, weights: Array | None = None) -> float:
    """One layer's part of LPIPS (Zhang et al. 2018, equation 1): features [C, H, W] or [C], weights
    [C] or all 1."""
    a, b = (np.asarray(each, np.float64).reshape(len(first), -1) for each in (first, second))
    weights = np.ones(len(a)) if weights is None else weights
    total = 0.0
    for place in range(a.shape[1]):
        one, other = a[:, place], b[:, place]
        norms = [math.sqrt((each**2).sum()) or 1.0 for each in (one, other)]
        total += sum(
            weights[c] * (one[c] / norms[0] - other[c] / norms[1]) ** 2 for c in range(len(a))
        )
    return total / a.shape[1]


def run_alexnet(image: Array, weights: Mapping[str, Array]) -> list[Array]:
    """The five activations of AlexNet's features for one image [3, H, W], from its weights."""
    x, seen = np.asarray(image, np.float64), []
    layers = [
        (0, 4, 2, False),
        (3, 1, 2, True),
        (6, 1, 1, True),
        (8, 1, 1, False),
        (10, 1, 1, False),
    ]
    for layer, stride, pad, pool in layers:
        if pool:
            x = _max_pool(x)
        kernel, bias = (
            weights[f"features.{layer}.{part}"].astype(np.float64) for part in ("weight", "bias")
        )
        size = kernel.shape[2]
        wide = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        rows, columns = ((side - size) // stride + 1 for side in wide.shape[1:])
        x = np.stack(
            [
                [
                    (
                        kernel
                        * wide[:, r * stride : r * stride + size, c * stride : c * stride + size]
                    ).sum((1, 2, 3))
                    + bias
                    for c in range(columns)
                ]
                for r in range(rows)
            ]
        ).transpose(2, 0, 1)
        x = np.maximum(x, 0)
        seen.append(x)
    return seen


def _max_pool(x: Array) -> Array:
    rows, columns = ((side - 3) // 2 + 1 for side in x.shape[1:])
    return np.stack(
        [
            [x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2)) for c in range(columns)]
            for r in range(rows)
        ]
    ).transpose(2, 0, 1)
