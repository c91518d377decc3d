"""Pictures as previews have them: noise that gives way to a shape."""

from __future__ import annotations

import io
import random

from PIL import Image

SIDE, SAMPLES, ENLARGED = 16, 4, 96


def make_noise(step: int, total: int) -> bytes:
    """A PNG of rings, the clearer the more of `total` steps are done."""
    source, share = random.Random(step), step / total
    grid = Image.new("LA", (SAMPLES * (ENLARGED + 4) - 4, ENLARGED))
    for sample in range(SAMPLES):
        picture = Image.new("L", (SIDE, SIDE))
        middle = SIDE / 2 - 0.5
        for x in range(SIDE):
            for y in range(SIDE):
                ring = abs(((x - middle) ** 2 + (y - middle) ** 2) ** 0.5 - 3 - sample) < 1.3
                picture.putpixel(
                    (x, y), round(255 * (share * ring + (1 - share) * source.random()))
                )
        large = picture.resize((ENLARGED, ENLARGED), Image.Resampling.NEAREST)
        grid.paste(large.convert("LA"), (sample * (ENLARGED + 4), 0))
    written = io.BytesIO()
    grid.save(written, "PNG")
    return written.getvalue()
