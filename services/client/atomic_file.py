"""Files that are on disk whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import WriteError


class AtomicFile:
    """A new content of `path`: written beside it, and put in its place by `commit`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # not a name that grows with the file's own: that one may be as long as a name can be
        self._temporary = path.parent / f".palimpsest-{secrets.token_hex(6)}.part"
        with disk_errors(path):
            self._file: IO[bytes] = self._temporary.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append one chunk."""
        with disk_errors(self.path):
            self._file.write(chunk)

    def commit(self) -> None:
        """Put the file in its place."""
        with disk_errors(self.path):
            self._file.close()  # a full disk may be noticed only here
            self._temporary.replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say a refusal of the disk as one of the file that the caller named.

    Raises:
        WriteError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path} cannot be written: {reason}; nothing was kept") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        WriteError: the disk refuses.
    """
    file = AtomicFile(path)
    try:
        file.write(data)
        file.commit()
    finally:
        file.discard()
