"""The picture of a reconstruction that is still being made."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from shared.jobs.previews import MAX_BYTES, is_picture
from workers.previews import draw_preview


def read(body: bytes) -> Image.Image:
    assert is_picture(body)
    return Image.open(io.BytesIO(body))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1, 28, 28), (112, 112)),
        ((8, 3, 32, 32), (4 * 96 + 12, 2 * 96 + 4)),
        ((20, 1, 28, 28), (4 * 112 + 12, 2 * 112 + 4)),  # the first eight
        ((5, 2, 32, 32), (4 * 96 + 12, 2 * 96 + 4)),  # neither grey nor RGB
        ((2, 3, 224, 224), (2 * 112 + 4, 112)),  # reduced
        ((3, 20, 1, 1), (3 * 100 + 8, 96)),  # rows of a table
    ],
)
def test_samples_are_on_a_grid(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    assert read(draw_preview(torch.full(shape, 0.5))).size == size


def test_pixels_stay_squares_and_gaps_transparent() -> None:
    samples = torch.zeros(2, 1, 32, 32)
    samples[0, 0, 0, 0], samples[1] = 7.0, float("nan")
    picture = read(draw_preview(samples))
    assert picture.mode == "LA"
    assert picture.getpixel((2, 2)) == (255, 255)  # clamped
    assert picture.getpixel((3, 0)) == (0, 255)
    assert picture.getpixel((97, 5)) == (0, 0)
    assert picture.getpixel((100, 5)) == (128, 255)  # no number


def test_as_many_as_fit_are_drawn() -> None:
    noise = torch.rand(8, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    picture = read(body := draw_preview(noise))
    assert len(body) <= MAX_BYTES
    assert picture.size == (2 * 96 + 4, 96)
