"""Small colour photographs from an .npz, a folder of plain bytes, or a download of that folder."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from shared.data_files import DataRoot
from shared.errors import InvalidRequest
from shared.ml.datasets import _downloads as downloads
from shared.ml.datasets._array_files import read_npz
from shared.ml.datasets._files import (
    find_data_path,
    get_data_root,
    open_file,
    read_exactly,
    resolve_data_path,
)
from shared.ml.samples import Samples, Split
from shared.plugin_ref import data_file_field
from shared.plugins import Params

FIELD = "params.dataset"
MAX_FILE_BYTES = 256 << 20  # STL-10's largest has 211 MiB
ByteArray = NDArray[np.uint8]


def list_default_paths(key: str, folder: str) -> tuple[str, ...]:
    """Default locations in the data root; the first that exists is used."""
    return f"{key}.npz", key, folder


class PhotographsParams(Params):
    path: Annotated[str | None, data_file_field()] = Field(
        None, min_length=1, max_length=500,
        description=(
            "an .npz (x_train, y_train, x_test, y_test), or the folder of the .bin files, inside "
            "the data root"
        ),
    )  # fmt: skip
    download: bool = Field(
        True, description="whether to download from the authors' server if no file is found"
    )


class Photographs(ABC):
    """A data set called `title` in messages; it is `key`.npz, `key`/ or `folder`/ in the data
    root."""

    title: ClassVar[str]
    key: ClassVar[str]
    folder: ClassVar[str]
    url: ClassVar[str]
    md5: ClassVar[str]  # of the published archive, which unpacks to `folder`
    files: ClassVar[dict[str, tuple[str, ...]]]
    input_shape: ClassVar[tuple[int, int, int]]
    num_classes: ClassVar[int]

    def __init__(self, params: PhotographsParams) -> None:
        self.params = params

    @abstractmethod
    def read_folder(self, folder: Path, split: Split) -> tuple[ByteArray, ByteArray]:
        """Images uint8 [N, C, H, W] and labels [N] of the files of a split."""

    def load(self, split: Split) -> Samples:
        """The split, from the first of: `path`, `key`.npz, `key`/, `folder`/, a download of that.

        Raises:
            InvalidRequest: it is not available, or its arrays are not as expected.
        """
        source = self._locate()
        images, labels = (
            self.read_folder(source, split) if source.is_dir() else self._read_npz(source, split)
        )
        if (
            images.shape[1:] != self.input_shape
            or labels.shape != images.shape[:1]
            or not len(labels)
        ):
            raise InvalidRequest(
                f"{self.title}: images must be [N, {', '.join(map(str, self.input_shape))}] and "
                f"labels [N], got {list(images.shape)} and {list(labels.shape)}",
                FIELD,
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise InvalidRequest(f"{self.title}: labels must be 0 to {self.num_classes - 1}", FIELD)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).float().div_(255)
        return Samples(pixels, torch.from_numpy(labels.astype(np.int64)))

    def _locate(self) -> Path:
        if self.params.path is not None:
            given = resolve_data_path(self.params.path, f"{FIELD}.params.path")
            if given.is_dir() and not self._is_complete(given):
                raise InvalidRequest(
                    f"{self.params.path!r} does not contain all of {self._list_files()}",
                    f"{FIELD}.params.path",
                )
            return given
        existing = find_data_path(
            list_default_paths(self.key, self.folder),
            FIELD,
            lambda p: p.is_file() or self._is_complete(p),
        )
        return existing or self._find_or_download(get_data_root())

    def _is_complete(self, folder: Path) -> bool:
        return all((folder / name).is_file() for names in self.files.values() for name in names)

    def _list_files(self) -> str:
        return ", ".join(name for names in self.files.values() for name in names)

    def _find_or_download(self, root: Path) -> Path:
        """`folder`, unpacked elsewhere and then moved, so that it is never read half-way. Its name
        ends in its digest, so later changes are noticed."""
        if (earlier := self._find_download(root)) is not None:
            return earlier
        if self.params.download:
            # whatever the cause, the message below says what to do
            with suppress(OSError, ValueError):
                root.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=root, prefix=".unpacking") as scratch:
                    self._download(root / downloads.FOLDER, Path(scratch))
        if (earlier := self._find_download(root)) is not None:
            return earlier
        raise InvalidRequest(
            f"{self.title} is not on this worker and could not be downloaded: put {self.key}.npz "
            f"(x_train, y_train, x_test, y_test) or {self.folder}/ with {self._list_files()} (from "
            f"{self.url}; pickled versions are not supported) under PALIMPSEST_DATA_ROOT",
            FIELD,
        )

    def _download(self, kept: Path, scratch: Path) -> None:
        archive = downloads.fetch(self.url, self.md5, scratch, "archive.tar.gz")
        wanted = [f"{self.folder}/{name}" for names in self.files.values() for name in names]
        downloads.unpack(archive, wanted, scratch / self.folder, MAX_FILE_BYTES)
        sha256 = DataRoot(scratch).compute_digest(self.folder, FIELD)
        kept.mkdir(exist_ok=True)
        (scratch / self.folder).rename(kept / f"{self.folder}-{sha256}")

    def _find_download(self, root: Path) -> Path | None:
        for folder in sorted((root / downloads.FOLDER).glob(f"{self.folder}-*")):
            name = f"{downloads.FOLDER}/{folder.name}"
            if folder.name != f"{self.folder}-{DataRoot(root).compute_digest(name, FIELD)}":
                raise InvalidRequest(
                    f"{name!r} in the data root has changed since it was downloaded: delete it to "
                    "download it again",
                    FIELD,
                )
            if self._is_complete(folder):
                return folder
        return None

    def _read_npz(self, path: Path, split: Split) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keras' names and order: x [N, H, W, C]; [N, C, H, W] is accepted too. y is [N] or [N,
        1]."""
        arrays = read_npz(path, FIELD, lambda _: (f"x_{split}", f"y_{split}"))
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise InvalidRequest(
                f"{path.name}: x_{split} must be uint8 and y_{split} integers, got "
                f"{images.dtype}, {labels.dtype}",
                FIELD,
            )
        if images.ndim == 4 and images.shape[1:] != self.input_shape:
            images = images.transpose(0, 3, 1, 2)
        return images, labels[:, 0] if labels.shape[1:] == (1,) else labels


def read_records(path: Path, record_bytes: int, title: str) -> ByteArray:
    """A file of records of `record_bytes` bytes each, [N, record_bytes].

    Raises:
        InvalidRequest: it cannot be read, is empty, cut short, or above 256 MiB.
    """
    try:
        with open_file(
            path, FIELD, max_bytes=MAX_FILE_BYTES, name=f"{path.parent.name}/{path.name}"
        ) as file:
            length = os.fstat(file.fileno()).st_size
            if not length or length % record_bytes:
                raise InvalidRequest(
                    f"{title}: {path.name} has {length} bytes, not a multiple of {record_bytes}",
                    FIELD,
                )
            return np.frombuffer(read_exactly(file, length), np.uint8).reshape(-1, record_bytes)
    except (OSError, EOFError) as error:
        raise InvalidRequest(f"{title}: {path.name} cannot be read: {error}", FIELD) from error
