"""How data sets read files: those of the data root through `shared.data_files`, never more than
announced.

The few bundled ones are in `files/`, with their licences.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path

from shared.data_files import find_data_path as find_data_path
from shared.data_files import resolve_data_path as resolve_data_path
from shared.data_root import MAX_BYTES as MAX_BYTES
from shared.data_root import get_data_root as get_data_root
from shared.data_root import open_file as open_file
from shared.errors import InvalidRequest

_FREE_BYTES = 16 << 20  # a file of any size may unpack to this much
# photographs and digits unpack to 1 to 10 times their size, sparse tables to 70, zeros to 1000
_MAX_RATIO = 100
_BUNDLED = Path(__file__).parent / "files"


def read_bundled(name: str, sha256: str) -> io.BytesIO:
    """The contents of a bundled file, unpacked if it is a `.gz`.

    Args:
        sha256: of these contents.

    Raises:
        InvalidRequest: it is missing or has other contents.
    """
    path = _BUNDLED / name
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidRequest(
            f"{name}, a file of Palimpsest itself, is missing or damaged on this worker: reinstall "
            "Palimpsest there",
            "params.dataset",
        )
    return io.BytesIO(data)


def check_unpacked_size(unpacked_bytes: int, packed_bytes: int, name: str, field: str) -> None:
    """Refuse a file that unpacks to too many bytes.

    Raises:
        InvalidRequest: above 1 GiB; or above 16 MiB and more than a hundred times the packed size.
    """
    if unpacked_bytes > MAX_BYTES:
        raise InvalidRequest(f"{name} would unpack to more than 1 GiB", field)
    if unpacked_bytes > max(_FREE_BYTES, _MAX_RATIO * packed_bytes):
        raise InvalidRequest(
            f"{name} would unpack to more than {_MAX_RATIO} times its size, "
            f"{unpacked_bytes >> 20} MiB: store it without compression",
            field,
        )


def read_exactly(file: io.BufferedIOBase, byte_count: int) -> bytearray:
    """Read `byte_count` bytes in small steps: a file that ends earlier costs no more than its size.

    Raises:
        EOFError: there are fewer.
    """
    data = bytearray(byte_count)
    view = memoryview(data)
    while view:
        got = file.readinto(view[: 1 << 16])
        if not got:
            raise EOFError(f"it is truncated: {byte_count - len(view)} of {byte_count} bytes")
        view = view[got:]
    return data
