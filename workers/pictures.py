"""Samples as pictures, for pages: images as they are, rows of a table as bars."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def draw_sample(sample: Tensor, side: int) -> Image.Image:
    """One sample [C, H, W] in [0, 1], grey or RGB; a row of a table [F, 1, 1] as bars.

    Args:
        side: pixels. Smaller images are enlarged by a whole factor to at least that, so pixels stay
            squares.
    """
    if sample.shape[1:] == (1, 1):
        sample = _draw_bars(sample.flatten(), side)
    pixels = (sample.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    picture = Image.fromarray(pixels)
    factor = max(1, -(-side // max(picture.size)))
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )


def _draw_bars(row: Tensor, side: int) -> Tensor:
    """A light, roughly square image [1, H, W] with one black bar per feature, from 0 at the bottom
    to 1 at the top."""
    height = max(side, len(row) // 2)
    above = torch.arange(height, 0, -1).unsqueeze(1) > (row.clamp(0, 1) * height).round()
    return (
        above.float().mul(0.92).repeat_interleave(max(1, round(height / len(row))), 1).unsqueeze(0)
    )
