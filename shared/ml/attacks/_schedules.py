"""Schedules of the reconstruction search: the paper's, and ours for each kind of data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from shared.ml.attacks._bases import Basis, FrequencyBasis, PixelBasis, build_falling_spectrum
from shared.ml.networks import Architecture

Arithmetic = Literal["plain", "batched"]
Preset = Literal["paper", "fast", "default", "accurate"]


@dataclass(frozen=True)
class SearchSchedule:
    """Numbers of a search with AdamW; images are in [0, 1].

    `basis`: the coordinates that are optimised, pixels or frequencies (`_bases.py`), whose
    amplitudes fall with `spectrum_exponent`. `step_by`: the gradient in them or its sign. `lr` per
    step in units of a coordinate, `momentum` the decay of the mean gradient; `tv` the weight of
    total variation at the first and the last step, moved between them geometrically. `init`, the
    first coordinates: `normal` N(0, 1), `small` N(0, 0.05^2), `dark` uniform in [0, 0.1].
    `arithmetic` is how a step is computed: `plain` each trial by itself, `batched` all in shared
    passes. `embedding_weight`: of the distance to the last layer's input, where the gradient shows
    it (`_embedding.py`). `smoothing`: of the second derivative of ReLU layers
    (`shared.ml.second_derivatives`), at the first step; it falls to 0 with half a cosine, so that
    the last steps follow the true derivative. `answer`: the restart that matches best, or the mean
    of the restarts.
    """

    iterations: int
    restarts: int
    lr: float
    decay: Literal["cosine", "halves"]
    tv: tuple[float, float]
    weight_decay: float
    init: Literal["normal", "small", "dark"]
    clamp_last: bool
    arithmetic: Arithmetic
    basis: Literal["pixels", "frequencies"] = "pixels"
    spectrum_exponent: float = 1.0
    step_by: Literal["sign", "gradient"] = "sign"
    embedding_weight: float = 0.0
    smoothing: float = 0.0
    momentum: float = 0.9
    answer: Literal["best", "mean"] = "best"

    def get_lr(self, step: int, total: int) -> float:
        """Learning rate of step `step`, counted from 0, of `total`."""
        if self.decay == "cosine":
            return self.lr * (1 + math.cos(math.pi * step / total)) / 2
        return self.lr * 0.5 ** sum(step >= int(total / part) for part in (2.667, 1.6, 1.142))

    def get_tv(self, step: int, total: int) -> float:
        """Weight of total variation at step `step`."""
        first, last = self.tv
        return first * (last / first) ** (step / max(1, total - 1))

    def get_smoothing(self, step: int, total: int) -> float:
        """Smoothing of ReLU layers at step `step`."""
        return self.smoothing * (1 + math.cos(math.pi * step / total)) / 2

    def build_basis(self, architecture: Architecture, device: torch.device) -> Basis:
        """The coordinates of images for that network."""
        if self.basis == "pixels":
            return PixelBasis()
        mean = torch.tensor(architecture.mean).view(-1, 1, 1)
        spectrum = build_falling_spectrum(architecture.input_shape, self.spectrum_exponent)
        return FrequencyBasis(mean, spectrum.to(device))

    def draw_init(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The initial coordinates of one restart of one deletion, drawn on the CPU."""
        if self.init == "dark":
            return 0.1 * torch.rand(shape, generator=generator)
        return (0.05 if self.init == "small" else 1.0) * torch.randn(shape, generator=generator)


# Official code of arXiv 2404.03233: clamped before each step and not after the last.
PAPER = SearchSchedule(
    iterations=10_000,
    restarts=5,
    lr=0.04,
    decay="halves",
    tv=(1e-2, 1e-2),
    weight_decay=0.01,
    init="normal",
    clamp_last=False,
    arithmetic="plain",
)
FAST = SearchSchedule(
    iterations=450,
    restarts=1,
    lr=0.02,
    decay="cosine",
    tv=(0.3, 0.1),
    weight_decay=0.0,
    init="small",
    clamp_last=True,
    arithmetic="batched",
    basis="frequencies",
    step_by="gradient",
    embedding_weight=0.3,
    smoothing=1.0,
    answer="mean",
)
DEFAULT = replace(FAST, iterations=1300)
SCHEDULES: dict[Preset, SearchSchedule] = {
    "paper": PAPER,
    "fast": FAST,
    "default": DEFAULT,
    "accurate": replace(DEFAULT, restarts=4),
}

# In pixels, from near black: for strokes and shapes on black, whose edges no falling spectrum fits.
SHAPES = SearchSchedule(
    iterations=1500,
    restarts=1,
    lr=0.1,
    decay="cosine",
    tv=(1.0, 0.03),
    weight_decay=0.0,
    init="dark",
    clamp_last=True,
    arithmetic="batched",
    embedding_weight=0.3,
    smoothing=1.0,
    momentum=0.95,
    answer="mean",
)
SHAPE_SCHEDULES: dict[Preset, SearchSchedule] = {
    "paper": PAPER,
    "fast": replace(SHAPES, iterations=600),
    "default": SHAPES,
    "accurate": replace(SHAPES, restarts=4),
}

# Rows have no spectrum either. Their gradients match to the last digits, which the embedding, a
# quotient of small numbers, only blurs. What was chosen for shapes was not tried on them.
ROWS = replace(
    SHAPES, iterations=1000, tv=(0.3, 0.03), embedding_weight=0.0, smoothing=0.0, momentum=0.9
)
ROW_SCHEDULES: dict[Preset, SearchSchedule] = {
    "paper": PAPER,
    "fast": replace(ROWS, iterations=400),
    "default": ROWS,
    "accurate": replace(ROWS, restarts=4),
}
DARK_MEAN = 0.35  # mean pixel below which images are taken to be shapes on black


def select_schedule(preset: Preset, architecture: Architecture) -> SearchSchedule:
    """The preset for the kind of data.

    The kind is read off the network's own input size and normalisation, which every attacker who
    holds the weights knows: rows of a table, shapes on black (MNIST has mean 0.13, Fashion-MNIST
    0.29), or photographs (CIFAR-10 has 0.47).
    """
    if architecture.input_shape[1:] == (1, 1):
        return ROW_SCHEDULES[preset]
    is_dark = sum(architecture.mean) / len(architecture.mean) < DARK_MEAN
    return (SHAPE_SCHEDULES if is_dark else SCHEDULES)[preset]
