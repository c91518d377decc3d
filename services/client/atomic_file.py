"""Files that are written completely or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import WriteError


class AtomicFile:
    """New content of `path`: written to a temporary file, which `commit` moves into place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # does not contain the file's own name, which may be as long as names can be
        self._temporary = path.parent / f".palimpsest-{secrets.token_hex(6)}.part"
        with disk_errors(path):
            self._file: IO[bytes] = self._temporary.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append one chunk."""
        with disk_errors(self.path):
            self._file.write(chunk)

    def commit(self) -> None:
        """Move the file into place."""
        with disk_errors(self.path):
            self._file.close()  # a full disk may be noticed only here
            self._temporary.replace(self.path)

    def discard(self) -> None:
        """Remove the temporary file; does nothing after `commit`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the disk into one that names the caller's file.

    Raises:
        WriteError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"cannot write {path}: {reason}; nothing was kept") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    file = AtomicFile(path)
    try:
        file.write(data)
        file.commit()
    finally:
        file.discard()
