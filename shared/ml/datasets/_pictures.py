"""One picture file: its upright middle square as pixels, or the reason why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageColor import getrgb

from shared.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
WITH_ALPHA = ("LA", "PA", "RGBA")
MAX_PIXELS = 50_000_000  # of one picture, by its header: nothing larger is decoded
ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(
    open_file: Callable[[], IO[bytes]],
    name: str,
    size: int,
    grey: bool,
    background: str | None,
    field: str,
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The middle square of a picture, uint8 [C, size, size], C 1 if `grey`, else 3.

    Args:
        open_file: opens the picture's file, and bounds it.
        name: used in messages.
        background: the colour behind transparent parts, as #rrggbb.

    Raises:
        InvalidRequest: it cannot be read, has more than one frame or more than 8 bits a channel, is
            too large, or is transparent and there is no background.
    """

    def refuse(why: str) -> InvalidRequest:
        return InvalidRequest(f"{name!r} {why}", field)

    try:
        with (
            open_file() as raw,
            Image.open(raw, formats=FORMATS) as opened,
        ):
            if opened.width * opened.height > MAX_PIXELS:
                raise refuse(
                    f"has {opened.width} x {opened.height} pixels, above the limit of "
                    f"{MAX_PIXELS:,}: scale it down"
                )
            if opened.mode not in MODES:
                raise refuse(
                    f"has mode {opened.mode}, but only 8 bits per channel are supported: convert it"
                )
            if (frames := getattr(opened, "n_frames", 1)) > 1:
                raise refuse(f"holds {frames} pictures: save the one you mean as a separate file")
            side = min(opened.size)
            left, top = (opened.width - side) // 2, (opened.height - side) // 2
            how = _UPRIGHT.get(_orientation(opened))
            # crop first: resizing uses neighbouring pixels, and a large picture takes 4 bytes per
            # pixel
            square = opened.crop((left, top, left + side, top + side))
            if opened.mode in WITH_ALPHA or "transparency" in opened.info:
                square = _on_background(square, background)
                if square is None:
                    raise refuse(
                        "is partly transparent: set the parameter background to the colour behind "
                        "it"
                    )
            if how is not None:
                square = square.transpose(how)
            small = square.convert("L" if grey else "RGB").resize(
                (size, size), Image.Resampling.BILINEAR
            )
    except InvalidRequest:
        raise
    except UnidentifiedImageError as error:
        raise refuse(
            "is not a PNG, JPEG, WebP, BMP or PPM picture: convert it, or remove it"
        ) from error
    except Exception as error:  # anything a decoder raises on hostile bytes; the file must be named
        raise refuse(
            f"cannot be read as a picture: {str(error)[:200]}; save it again, or remove it"
        ) from error
    return np.asarray(small).reshape(size, size, -1).transpose(2, 0, 1)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) if missing. Other EXIF data, however broken, are
    ignored."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # anything a parser raises on hostile bytes
        return 1


def _on_background(picture: Image.Image, background: str | None) -> Any:
    """The picture without alpha; None if parts are transparent and there is no background."""
    colours = picture.convert("RGBA")
    if colours.getchannel("A").getextrema() == (255, 255):
        return colours.convert("RGB")
    if background is None:
        return None
    behind = Image.new("RGBA", picture.size, (*getrgb(background)[:3], 255))
    behind.alpha_composite(colours)
    return behind.convert("RGB")
