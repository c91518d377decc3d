"""Downloads from the authors' servers: bounded in size, and kept only if the digest matches."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from shared.errors import InvalidRequest

FIELD = "params.dataset"
FOLDER = "downloads"  # in the data root
MAX_BYTES = 3 << 30  # STL-10's archive has 2.5 GiB
TIMEOUT_S = 30.0  # without a byte


class _Bounded:
    """A file object that refuses to grow beyond the limit."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file, self._left = file, max_bytes

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise OSError("the download is larger than any known archive")
        self._file.write(data)

    def flush(self) -> None:
        pass  # pooch calls it after every chunk


def _receive(url: str, path: str, _pooch: object) -> None:
    from pooch import HTTPDownloader

    with open(path, "wb") as file:
        HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT_S)(url, _Bounded(file, MAX_BYTES), None)


def fetch(url: str, md5: str, folder: Path, name: str) -> Path:
    """`folder/name`, downloaded unless it is there already. It appears only when complete.

    Raises:
        OSError: there is no such file, it is too large, or the server does not respond.
        ValueError: the md5 does not match.
    """
    import pooch  # here, as few jobs download

    pooch.get_logger().setLevel("ERROR")  # it would print absolute paths
    path = pooch.retrieve(
        url, known_hash=f"md5:{md5}", fname=name, path=folder, downloader=_receive
    )
    return Path(path)


def unpack(archive: Path, names: Collection[str], to: Path, max_bytes: int) -> None:
    """Extract these files of a .tar.gz into the folder `to`, without their directories.

    Raises:
        InvalidRequest: one is missing, not a regular file, or above `max_bytes`.
        OSError: it is damaged, or cannot be written.
    """
    to.mkdir()
    missing = set(names)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                if (name := member.name.removeprefix("./")) not in missing:
                    continue
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or member.size > max_bytes:
                    raise InvalidRequest(
                        f"{name} in the download differs from the published file", FIELD
                    )
                with content, (to / Path(name).name).open("xb") as file:
                    shutil.copyfileobj(content, file)
                missing.remove(name)
                if not missing:
                    return
    except (tarfile.TarError, EOFError) as error:
        raise OSError(f"the download is damaged: {error}") from error
    raise InvalidRequest(f"the download does not contain {', '.join(sorted(missing))}", FIELD)
