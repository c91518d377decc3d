"""The picture of a reconstruction that is still being made: a grid of its first samples."""

from __future__ import annotations

import io
import zlib

import torch
from PIL import Image
from torch import Tensor

from shared.jobs.previews import MAX_BYTES
from workers.pictures import draw_sample

MAX_SAMPLES = 8
COLUMNS = 4
SIDE = 96  # pixels of a sample, about
GAP = 4  # pixels between samples


def draw_preview(samples: Tensor) -> bytes:
    """A PNG of at most `MAX_BYTES`: the first of `samples` [n, C, H, W], in rows of four, as many of
    eight as fit. What lies outside [0, 1] is clamped; what is no number is grey.

    Raises:
        ValueError: there is no sample, or the first alone does not fit.
    """
    shown = [_prepare(sample) for sample in samples[:MAX_SAMPLES].detach().float().cpu()]
    while shown:
        grid, written = _arrange([draw_sample(sample, SIDE) for sample in shown]), io.BytesIO()
        # of enlarged pixels runs are all that there is to find, and five times as fast
        grid.save(written, "PNG", compress_type=zlib.Z_RLE)
        if written.tell() <= MAX_BYTES:
            return written.getvalue()
        fitting = len(shown) * MAX_BYTES // written.tell()
        shown = shown[: min(COLUMNS, fitting)]
    raise ValueError("no sample fits into a preview")


def _prepare(sample: Tensor) -> Tensor:
    """Grey or RGB, and not larger than it is shown."""
    sample = sample.nan_to_num(0.5)
    if sample.shape[1:] == (1, 1):
        return sample
    if sample.shape[0] not in (1, 3):
        sample = sample.mean(0, keepdim=True)
    factor = max(sample.shape[1:]) // SIDE
    if factor > 1:
        sample = torch.nn.functional.avg_pool2d(sample, factor, ceil_mode=True)
    return sample


def _arrange(pictures: list[Image.Image]) -> Image.Image:
    """On a grid; what is between them is transparent, so that it fits on any page."""
    width, height = pictures[0].size
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    grid = Image.new("RGBA" if pictures[0].mode == "RGB" else "LA", size)
    for n, picture in enumerate(pictures):
        at = ((n % columns) * (width + GAP), (n // columns) * (height + GAP))
        grid.paste(picture.convert(grid.mode), at)
    return grid
