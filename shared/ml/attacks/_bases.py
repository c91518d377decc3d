"""Coordinates in which a search moves images: pixels, or a decorrelated frequency basis.

Neighbouring pixels of a picture are nearly equal, so steps of one size per pixel make noise long
before they make a shape. In the frequency basis a step is as large as what pictures hold at that
frequency, so shapes come first. Source: Olah, Mordvintsev and Schubert 2017, *Feature
Visualization* (doi 10.23915/distill.00007), for pictures that explain a network.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class Basis(Protocol):
    """A linear map from coordinates to images, both [..., C, H, W]."""

    def expand(self, coordinates: Tensor) -> Tensor:
        """The images, outside [0, 1] too."""

    def render(self, coordinates: Tensor) -> Tensor:
        """The images, clamped to [0, 1]."""

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        """A gradient in the rendered `images` as one in the coordinates."""


class PixelBasis:
    """The pixels themselves."""

    def expand(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def render(self, coordinates: Tensor) -> Tensor:
        """In place, as in the paper's loop: the next step starts from the clamped pixels."""
        return coordinates.clamp_(0, 1)

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002 - as Basis
        return gradient


class FrequencyBasis:
    """x = mean + D^T (s z): D is orthonormal, s the amplitude of each coordinate.

    D rotates the channels by the orthonormal DCT over channels (of three: grey and two
    differences), then each by the orthonormal 2-D DCT. s is scaled to root mean square 1, so that
    coordinates z of deviation d make pixels of deviation d.

    Args:
        mean: of the images, [C, 1, 1] or [C, H, W].
        amplitudes: s before it is scaled, [C, H, W], above 0.
    """

    def __init__(self, mean: Tensor, amplitudes: Tensor) -> None:
        channels, height, width = amplitudes.shape
        self.mean = mean.to(amplitudes)
        self.scale = amplitudes / amplitudes.square().mean().sqrt()
        self._channels, self._rows, self._columns = (
            build_dct(size).to(amplitudes) for size in (channels, height, width)
        )

    def expand(self, coordinates: Tensor) -> Tensor:
        planes = self._rows.mT @ (self.scale * coordinates) @ self._columns
        return self.mean + torch.einsum("ab,...ahw->...bhw", self._channels, planes)

    def render(self, coordinates: Tensor) -> Tensor:
        return self.expand(coordinates).clamp(0, 1)

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        """The adjoint of `expand`, without what would push a clamped pixel further out."""
        pushed_out = ((images <= 0) & (gradient > 0)) | ((images >= 1) & (gradient < 0))
        planes = torch.einsum(
            "ab,...bhw->...ahw", self._channels, gradient.masked_fill(pushed_out, 0)
        )
        return self.scale * (self._rows @ planes @ self._columns.mT)


def build_dct(size: int) -> Tensor:
    """The orthonormal DCT-II as a matrix [size, size]: row f is the cosine of frequency f."""
    frequency = torch.arange(size, dtype=torch.float64).unsqueeze(1)
    place = torch.arange(size, dtype=torch.float64) + 0.5
    matrix = torch.cos(math.pi * frequency * place / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def build_falling_spectrum(shape: tuple[int, int, int], exponent: float) -> Tensor:
    """Amplitudes 1 / (1 + |f|)^exponent, [C, H, W], alike for every channel.

    |f| is the distance from the constant in the plane of frequencies. Photographs fall about as
    1 / |f| (Field 1987, doi 10.1364/JOSAA.4.002379).
    """
    channels, height, width = shape
    rows, columns = (torch.arange(size).to(torch.get_default_dtype()) for size in (height, width))
    distance = torch.hypot(rows.unsqueeze(1), columns)
    return (1 + distance).pow(-exponent).expand(channels, height, width).contiguous()
