"""PSNR has peak 1 on pixels in [0, 1]."""

from __future__ import annotations

import torch

from shared.ml.findings.images import score_images
from workers.selftest._case import Case


def _measure_psnr() -> float:
    """PSNR as in an evaluation, of images that differ by 0.1 everywhere: a mean squared error of
    0.01."""
    truth = torch.full((2, 1, 1, 9, 9), 0.4)
    mean: float = score_images(truth + 0.1, truth, {})["psnr"]["mean"]
    return mean


CASES = (
    Case(
        "psnr",
        "a mean squared error of 0.01 is 20 dB",
        _measure_psnr,
        low=19.9999,
        high=20.0001,
        unit="dB",
    ),
)
