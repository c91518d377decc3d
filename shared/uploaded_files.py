"""Data files that were uploaded: a path `upload:SHA256` names one, instead of a file of the data
root.

Its name is its content, so nothing has to be read to plan with it. Within a job, the worker offers
uploads as files (`offer_uploads`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from shared.errors import InvalidRequest

PREFIX = "upload:"


class OffersUploads(Protocol):
    """Where uploads can be read as files."""

    def fetch(self, sha256: str) -> Path | None:
        """The file, whose bytes have this digest; None if there is no such upload (any more)."""

    def has(self, path: Path) -> bool:
        """Whether this is a file that was fetched."""


_source: ContextVar[OffersUploads | None] = ContextVar("uploads", default=None)


def parse_upload(path: str, field: str) -> str | None:
    """The digest of the upload that a path names; None if it names a file of the data root.

    Raises:
        InvalidRequest: it begins like one, but has no digest.
    """
    if not path.startswith(PREFIX):
        return None
    sha256 = path.removeprefix(PREFIX)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InvalidRequest(
            f"{PREFIX} must be followed by the 64 hexadecimal digits of an upload's sha256", field
        )
    return sha256


@contextmanager
def offer_uploads(source: OffersUploads) -> Iterator[None]:
    """Make uploads readable in here."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def is_upload_file(path: Path) -> bool:
    """Whether `open_upload` has given this path within the present job."""
    source = _source.get()
    return source is not None and source.has(path)


def open_upload(sha256: str, field: str) -> Path:
    """An upload as a file.

    Raises:
        InvalidRequest: it is not there.
    """
    source = _source.get()
    path = source.fetch(sha256) if source is not None else None
    if path is None:
        raise InvalidRequest(
            f"there is no upload {sha256}: it has expired or was deleted; upload the file again",
            field,
        )
    return path
