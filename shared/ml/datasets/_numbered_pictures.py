"""Pictures in a zip archive whose folders are called by the numbers of the classes."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import torch

from shared.errors import InvalidRequest
from shared.ml.datasets._files import MAX_BYTES, open_file
from shared.ml.datasets._naming import natural_key
from shared.ml.datasets._picture_trees import ZipTree
from shared.ml.datasets._pictures import read_picture
from shared.ml.samples import Samples

_ZIP = b"PK\x03\x04"
_NPY = b".npy"  # how every member of an .npz, which is a zip archive as well, ends


def is_zip(path: Path, field: str) -> bool:
    """Whether a file begins as a zip archive whose first member is not an array.

    Raises:
        InvalidRequest: see `open_file`.
    """
    with open_file(path, field) as file:
        head = file.read(30)
        name = file.read(int.from_bytes(head[26:28], "little"))
    return head.startswith(_ZIP) and not name.endswith(_NPY)


def read_numbered_pictures(path: Path, size: int | None, grey: bool, field: str) -> Samples:
    """Pictures as float32 [N, C, size, size] in [0, 1], C = 1 if `grey`, else 3, with the number
    that their folder is called by as label; in the natural order of their own names.

    Raises:
        InvalidRequest: see `ZipTree` and `read_picture`; a folder is called otherwise; or `size` is
            None.
    """
    if size is None:
        raise InvalidRequest(
            "for pictures, set the parameter size to the height and width that the model takes",
            field,
        )
    tree = ZipTree(path, field)
    files: list[tuple[PurePath, int]] = []
    for folder in tree.list_entries(tree.root):
        if not tree.is_dir(folder) or not (folder.name.isascii() and folder.name.isdecimal()):
            raise InvalidRequest(
                f"{folder.name!r} is not a folder that is called by the number of a class, such as "
                "0/PICTURE: number the classes as the model does",
                field,
            )
        files += [(file, _read_number(folder.name, field)) for file in tree.list_entries(folder)]
    if not files:
        raise InvalidRequest("the archive holds no pictures", field)
    files.sort(key=lambda file: (natural_key(file[0].name), file[1]))
    shape = (len(files), 1 if grey else 3, size, size)
    if math.prod(shape) > MAX_BYTES:
        raise InvalidRequest(f"{len(files)} pictures do not fit into memory: lower size", field)
    pixels = np.empty(shape, np.uint8)
    with tree.reading() as open_picture:
        for place, (file, _) in enumerate(files):
            if tree.is_dir(file):
                raise InvalidRequest(
                    f"{tree.describe(file)!r} is a folder in a class folder", field
                )
            name = tree.describe(file)
            pixels[place] = read_picture(partial(open_picture, file), name, size, grey, None, field)
    labels = torch.tensor([label for _, label in files])
    return Samples(torch.from_numpy(pixels).float().div_(255), labels)


def _read_number(name: str, field: str) -> int:
    if len(name) > 4 or str(int(name)) != name:
        raise InvalidRequest(f"{name[:20]!r} is not the number of a class, counted from 0", field)
    return int(name)
