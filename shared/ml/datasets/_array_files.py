"""Arrays from idx and npz files. Headers are read first: files that claim too much or hold no plain
arrays are refused."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidRequest
from shared.ml.datasets._files import check_unpacked_size, open_file, read_exactly

FIELD = "params.dataset"
MAX_IDX_BYTES = 128 << 20  # Fashion-MNIST's largest has 45 MiB
# zipfile reads an archive's list of members at once: allows about 1,500 members with short names
MAX_READ_BYTES = 1 << 17
MAX_HEADER_BYTES = 10_000

ArrayChooser = Callable[[Collection[str]], Iterable[str]]


def read_idx(
    folder: Path, name: str, item_shape: tuple[int, ...], root: Path | None = None
) -> NDArray[np.uint8]:
    """The array of unsigned bytes [N, *item] in `folder/name` or `folder/name.gz` (format:
    yann.lecun.com/exdb/mnist).

    Raises:
        InvalidRequest: not an idx file of unsigned bytes, of another shape, cut short, or above 128
            MiB.
    """
    plain, compressed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else compressed
    try:
        with open_file(path, FIELD, root=root, max_bytes=MAX_IDX_BYTES) as raw:
            length = raw.seek(0, io.SEEK_END)
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if path == compressed else raw as file:
                return _parse_idx(cast(io.BufferedIOBase, file), length, name, item_shape)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(f"{name} cannot be read: {error}", FIELD) from error


def _parse_idx(
    file: io.BufferedIOBase, length: int, name: str, item_shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    magic = bytes(read_exactly(file, 4))
    if magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
        raise InvalidRequest(f"{name} is not an idx file of unsigned bytes", FIELD)
    shape = struct.unpack(f">{magic[3]}I", read_exactly(file, 4 * magic[3]))
    if shape[1:] != item_shape:
        raise InvalidRequest(
            f"{name} must be [{', '.join(['N', *map(str, item_shape)])}], but its header says "
            f"{list(shape)}",
            FIELD,
        )
    size = math.prod(shape)
    if size > MAX_IDX_BYTES:
        raise InvalidRequest(
            f"{name} is larger than {MAX_IDX_BYTES >> 20} MiB according to its header", FIELD
        )
    check_unpacked_size(size, length, name, FIELD)
    return np.frombuffer(read_exactly(file, size), np.uint8).reshape(shape)


def has_idx(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether the folder has all these idx files, packed or not."""
    return all((folder / n).is_file() or (folder / f"{n}.gz").is_file() for n in names)


class _ArrayHeader(NamedTuple):
    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]
    byte_count: int  # bytes of the array


class _BoundedReader(io.BufferedReader):
    """A file that bounds the size of each read."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(
            MAX_READ_BYTES + 1 if size is None or size < 0 else min(size, MAX_READ_BYTES + 1)
        )
        if len(data) > MAX_READ_BYTES:
            raise zipfile.BadZipFile("its list of arrays is too long")
        return data


def read_npz(path: Path, field: str, choose: ArrayChooser) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file: those that `choose` selects from the available names. Others are not
    read.

    Raises:
        InvalidRequest: not such a file; an array is missing, not a plain array of numbers, claims
            more than it holds, or is compressed more than a hundredfold; all together exceed 1 GiB.
    """
    try:
        with (
            _BoundedReader(open_file(path, field).detach()) as small,
            zipfile.ZipFile(cast(IO[bytes], small)) as archive,
        ):
            members = {
                m.filename.removesuffix(".npy"): m
                for m in archive.infolist()
                if m.filename.endswith(".npy")
            }
            wanted = list(choose(members.keys()))
            for name in wanted:
                if name not in members:
                    raise InvalidRequest(
                        f"{path.name} has no array {name!r}; it contains {_list_names(members)}: "
                        "rename its arrays",
                        field,
                    )
            headers = {name: _read_header(archive, members[name], name, field) for name in wanted}
            compressed_bytes = sum(members[name].compress_size for name in wanted)
            names = " and ".join(map(repr, wanted))
            check_unpacked_size(
                sum(head.byte_count for head in headers.values()), compressed_bytes, names, field
            )
            return {
                name: _read_array(archive, members[name], head) for name, head in headers.items()
            }
    except (InvalidRequest, MemoryError):
        raise
    except Exception as error:  # anything zipfile and numpy's header parser raise on hostile bytes
        raise InvalidRequest(
            f"{path.name} is not an .npz of plain arrays: {str(error)[:200]}", field
        ) from error


def _list_names(members: Collection[str]) -> str:
    names = ", ".join(name[:50] for name in sorted(members)[:8])
    return (names + (", ..." if len(members) > 8 else "")) or "nothing"


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> io.BufferedIOBase:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"{member.filename[:50]} is compressed in a way that numpy does not use: save it again "
            "with numpy.savez_compressed"
        )
    return cast(io.BufferedIOBase, archive.open(member))


def _read_header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, field: str
) -> _ArrayHeader:
    with _open_member(archive, member) as file:
        header = _parse_header(file, name)
        data_offset = file.tell()
    if header.byte_count > member.file_size - data_offset:
        raise InvalidRequest(
            f"{name!r} is shorter than its header says: the file is damaged", field
        )
    if header.byte_count < member.file_size - data_offset:
        raise InvalidRequest(f"{name!r} is longer than its header says: the file is damaged", field)
    return header


def _parse_header(file: io.BufferedIOBase, name: str) -> _ArrayHeader:
    # version 1 only: numpy reads headers of other versions, up to 4 GiB, before it checks their
    # length
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name!r} has an unsupported header: save it as a plain array of numbers")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(
        file, max_header_size=MAX_HEADER_BYTES
    )
    if dtype.kind not in "biuf":
        raise ValueError(f"{name!r} holds {dtype}, not numbers: encode its values as numbers")
    if len(shape) > 4 or min(shape, default=0) < 0:
        raise ValueError(f"{name!r} must have at most 4 dimensions, none of them negative")
    return _ArrayHeader(shape, "F" if fortran else "C", dtype, math.prod(shape) * dtype.itemsize)


def _read_array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: _ArrayHeader
) -> NDArray[Any]:
    with _open_member(archive, member) as file:
        _parse_header(file, member.filename)
        data = read_exactly(file, header.byte_count)
        file.read(1)  # reaching the end verifies the checksum
    return np.frombuffer(data, header.dtype).reshape(header.shape, order=cast(Any, header.order))
