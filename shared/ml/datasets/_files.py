"""Where data files may lie, and how idx and npz files are read.

A job is posted by someone far away: a path in it is relative to the data root and must stay inside.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config import Settings
from shared.errors import InvalidRequest

MAX_BYTES = 1 << 30


def data_root() -> Path:
    """The folder that PALIMPSEST_DATA_ROOT names."""
    return Settings().data_root


def inside(relative: str, field: str) -> Path:
    """An existing file or folder of the data root.

    Raises:
        InvalidRequest: the path is absolute, leads out of the root (by `..` or a link), or is not there.
    """
    root = data_root().resolve()
    if "\0" in relative:
        raise InvalidRequest("a path holds no NUL", field)
    path = (root / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(root):
        raise InvalidRequest(f"{relative!r} must be relative to the data root and stay inside it", field)
    if not path.exists():
        raise InvalidRequest(f"there is no {relative!r} in the data root of the worker", field)
    return path


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """The array of unsigned bytes in `folder/name` or `folder/name.gz` (format: yann.lecun.com/exdb/mnist).

    Raises:
        InvalidRequest: not an idx file of unsigned bytes, cut short, or above 1 GiB.
    """
    plain, packed = folder / name, folder / f"{name}.gz"
    try:
        with plain.open("rb") if plain.exists() else gzip.open(packed, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise InvalidRequest(f"{name} is not an idx file of unsigned bytes", "params.dataset")
            sizes = np.frombuffer(file.read(4 * head[3]), ">u4").astype(int).tolist()
            wanted = int(np.prod(sizes, dtype=object))
            if len(sizes) < head[3] or wanted > MAX_BYTES:
                raise InvalidRequest(f"{name} is cut short, or above 1 GiB", "params.dataset")
            body = file.read(wanted)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(f"{name} cannot be read: {error}", "params.dataset") from error
    if len(body) < wanted:
        raise InvalidRequest(f"{name} is cut short: {len(body)} of {wanted} bytes", "params.dataset")
    return np.frombuffer(body, np.uint8).reshape(sizes)


def has_idx(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether all these idx files lie in the folder, packed or not."""
    return all((folder / n).is_file() or (folder / f"{n}.gz").is_file() for n in names)


def read_npz(path: Path, field: str, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, or those of them that are named.

    Raises:
        InvalidRequest: not such a file, an array is missing, claims more than it holds, or is above 1 GiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():  # sizes first: a small file may claim a huge array
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    reader = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = reader(file)
                if math.prod(shape) * dtype.itemsize > min(MAX_BYTES, member.file_size):
                    raise InvalidRequest(f"{member.filename} claims more than it holds, or above 1 GiB", field)
        with np.load(path, allow_pickle=False) as found:
            wanted = found.files if names is None else names
            for name in wanted:
                if name not in found:
                    has = ", ".join(sorted(found.files)) or "nothing"
                    raise InvalidRequest(f"{path.name} lacks {name!r}; it holds {has}", field)
            return {name: found[name] for name in wanted}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:  # last: odd compression
        raise InvalidRequest(f"{path.name} is not an .npz of plain arrays: {error}", field) from error
