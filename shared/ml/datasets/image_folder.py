"""Pictures of one's own: a folder a class."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field

from shared.choices import data_file
from shared.errors import InvalidRequest
from shared.ml.datasets import registry
from shared.ml.datasets._files import MAX_BYTES, inside, open_file
from shared.ml.datasets._measured import Measured
from shared.ml.samples import Samples, Split
from shared.ml.splits import train_and_test
from shared.plugins import Params

FIELD = "params.dataset.params.path"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
MAX_FILE = 64 << 20
MAX_PIXELS = 50_000_000  # of one picture, by its header: nothing larger is decoded
MAX_CLASSES = 1000

Found = tuple[list[Path], torch.Tensor]


class ImageFolderParams(Params):
    path: Annotated[str, data_file()] = Field(
        min_length=1, max_length=500, description="the folder of class folders, inside the data root"
    )
    size: int = Field(32, ge=8, le=224, description="pixels, high and wide, that every picture is brought to")
    grey: bool = Field(False, description="one channel in the place of red, green and blue")


@registry.register("image_folder", params=ImageFolderParams)
class ImageFolder(Measured):
    """Pictures in class folders: the middle square of each, brought to `size`; classes in the order of their names.

    Either `path`/CLASS/PICTURE, of which a fifth of each class, drawn with a fixed seed, is the test split, or
    `path`/train/CLASS/PICTURE and `path`/test/CLASS/PICTURE. PNG, JPEG, WebP, BMP or PPM, at most 64 MiB and 50
    million pixels a file. Names that begin with a dot are left out; links and files that are no pictures are refused.
    """

    def __init__(self, params: ImageFolderParams) -> None:
        self.params = params

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (1 if self.params.grey else 3), self.params.size, self.params.size

    @property
    def num_classes(self) -> int:
        return len(self._classes)

    def load(self, split: Split) -> Samples:
        """Decode the split's pictures, in the order of class and name.

        Raises:
            InvalidRequest: no such folder, no two classes, fewer than ten pictures, or one that cannot be read.
        """
        files, labels = self._found[split]
        shape = (len(files), *self.input_shape)
        if math.prod(shape) > MAX_BYTES:
            raise InvalidRequest(f"{len(files)} pictures of {shape[1:]} are more than fit: lower size", FIELD)
        pixels = np.empty(shape, np.uint8)
        for place, file in enumerate(files):
            pixels[place] = self._picture(file)
        return Samples(torch.from_numpy(pixels).float().div_(255), labels)

    @cached_property
    def _root(self) -> Path:
        root = inside(self.params.path, FIELD)
        if not root.is_dir():
            raise InvalidRequest(f"{self.params.path!r} is not a folder", FIELD)
        return root

    @cached_property
    def _given(self) -> bool:
        """Whether the folder says itself which pictures are the test split."""
        return {"train", "test"} <= {found.name for found in _listed(self._root)}

    @cached_property
    def _classes(self) -> list[str]:
        names = [folder.name for folder in _listed(self._root / "train" if self._given else self._root)]
        if not 2 <= len(names) <= MAX_CLASSES:
            raise InvalidRequest(
                f"{self.params.path!r} must hold 2 to {MAX_CLASSES} class folders, got {names[:5]}", FIELD
            )
        return names

    @cached_property
    def _found(self) -> dict[str, Found]:
        if self._given:
            return {split: self._files(self._root / split) for split in ("train", "test")}
        files, labels = self._files(self._root)
        return {
            split: ([files[place] for place in picked.tolist()], labels[picked])
            for split, picked in train_and_test(labels, "image_folder test").items()
        }

    def _files(self, root: Path) -> Found:
        files: list[Path] = []
        labels: list[int] = []
        for folder in _listed(root):
            if folder.name not in self._classes or not folder.is_dir():
                raise InvalidRequest(f"{self._told(folder)} is not a folder of a class of train", FIELD)
            pictures = _listed(folder)
            files += pictures
            labels += [self._classes.index(folder.name)] * len(pictures)
        if len(files) < 10:
            raise InvalidRequest(f"{self._told(root)} must hold at least ten pictures, got {len(files)}", FIELD)
        return files, torch.tensor(labels)

    def _told(self, path: Path) -> str:
        return repr(str(path.relative_to(self._root.parent)))

    def _picture(self, file: Path) -> np.ndarray:
        """Its middle square, uint8 [C, size, size]."""
        try:
            name = str(file.relative_to(self._root.parent))
            with (
                open_file(file, FIELD, max_bytes=MAX_FILE, name=name) as raw,
                Image.open(raw, formats=FORMATS) as opened,
            ):
                if opened.width * opened.height > MAX_PIXELS:
                    raise InvalidRequest(
                        f"{self._told(file)} has {opened.width} x {opened.height} pixels: above {MAX_PIXELS:,}",
                        FIELD,
                    )
                if opened.mode not in MODES:
                    raise InvalidRequest(
                        f"{self._told(file)} is of mode {opened.mode}: only 8 bits a channel are read", FIELD
                    )
                # one step in place of another's copy: a large picture takes 4 bytes a pixel
                ImageOps.exif_transpose(opened, in_place=True)
                side = min(opened.size)
                left, top = (opened.width - side) // 2, (opened.height - side) // 2
                square = opened.crop((left, top, left + side, top + side))  # first: resizing looks at neighbours
                small = square.convert("L" if self.params.grey else "RGB").resize(
                    (self.params.size, self.params.size), Image.Resampling.BILINEAR
                )
        except InvalidRequest:
            raise
        except Exception as error:  # whatever a decoder makes of hostile bytes, the file must be told
            raise InvalidRequest(f"{self._told(file)} cannot be read as a picture: {error}", FIELD) from error
        return np.asarray(small).reshape(self.params.size, self.params.size, -1).transpose(2, 0, 1)


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what begins with a dot.

    Raises:
        InvalidRequest: one of it is a link: it could lead out of the data root.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InvalidRequest(f"{folder.name!r} cannot be listed: {error}", FIELD) from error
    for path in found:
        if path.is_symlink():
            raise InvalidRequest(f"{path.name!r} is a link: put the picture or the folder itself there", FIELD)
    return found
