"""Rebuilt images as PNG, for the page of a report."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from shared.reporting.pictures import Gallery, Picture
from workers.stages._pictures import NAMES, Drawable

SIDE = 112  # pixels that a small image is enlarged to at least, by whole factors: each of its pixels stays one square


def draw_gallery(drawable: Drawable) -> Gallery:
    """The pictures of one evaluation."""
    drawn = {name: [_png(image) for image in drawable.images[name]] for name in NAMES}
    captions = drawable.captions
    pictures = [
        Picture(
            truth=drawn["truth"][i],
            reconstruction=drawn["reconstruction"][i],
            null=drawn["class_mean"][i],
            psnr=captions.psnr[i],
            null_psnr=captions.null_psnr[i],
            rank=captions.ranks[i] if captions.ranks else None,
            label=captions.labels[i] if captions.labels else None,
        )
        for i in range(len(captions.psnr))
    ]
    table = drawable.images["truth"].shape[2:] == (1, 1)
    return Gallery(
        drawable.seed, drawable.unlearning, drawable.defense, drawable.attack, captions.decoys, pictures, table
    )


def _png(image: Tensor) -> bytes:
    """One image [C, H, W] in [0, 1], grey or RGB, as PNG; a row of a table [F, 1, 1] as bars."""
    if image.shape[1:] == (1, 1):
        image = _bars(image.flatten())
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    picture = Image.fromarray(pixels)
    factor = max(1, -(-SIDE // max(picture.size)))
    enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    written = io.BytesIO()
    enlarged.save(written, "PNG", optimize=True)
    return written.getvalue()


def _bars(row: Tensor) -> Tensor:
    """A light image [1, H, W] about square, with a black bar a feature, from 0 at the bottom to 1 at the top."""
    height = max(SIDE, len(row) // 2)
    above = torch.arange(height, 0, -1).unsqueeze(1) > (row.clamp(0, 1) * height).round()
    return above.float().mul(0.92).repeat_interleave(max(1, round(height / len(row))), 1).unsqueeze(0)
