"""Bytes that come in: checked against the digest they were asked by, on disk whole or not at all."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from services.client.errors import ClientError, Damaged, Unwritable
from services.client.records import Job


def chosen(job: Job, role: str | None) -> str:
    """The sha256 of a job's artifact; the role may be left out if there is only one.

    Raises:
        ClientError: the job has no such artifact, or not yet.
    """
    made = job.artifacts
    if role is None and len(made) == 1:
        return next(iter(made.values())).sha256
    if role is not None and role in made:
        return made[role].sha256
    if not made:
        raise ClientError(f"job {job.id} has made nothing so far: it is {job.state}")
    which = f"no {role}" if role else "several artifacts"
    raise ClientError(f"job {job.id} has {which}: say which of {', '.join(sorted(made))}")


class Draft:
    """A file that is not there yet: written beside its place, and put there when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # not a name that grows with the file's own: that one may be as long as a name can be
        self._draft = path.parent / f".palimpsest-{secrets.token_hex(6)}.part"
        with told(path):
            self._file: IO[bytes] = self._draft.open("xb")

    def write(self, chunk: bytes) -> None:
        """Take one chunk."""
        with told(self.path):
            self._file.write(chunk)

    def keep(self) -> None:
        """It is whole: put it in its place."""
        with told(self.path):
            self._file.close()  # a full disk may be noticed only here
            self._draft.replace(self.path)

    def drop(self) -> None:
        """Leave nothing behind; does nothing after `keep`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._draft.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the disk says is said of the file that was asked for.

    Raises:
        Unwritable: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror or error}; nothing was kept") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        Unwritable: the disk refuses.
    """
    draft = Draft(path)
    try:
        draft.write(data)
        draft.keep()
    finally:
        draft.drop()


class Landing:
    """Takes chunks; at its end the bytes are in `data`, or in the file `path` if a path was given."""

    def __init__(self, sha256: str, response: httpx.Response, to: Path | None) -> None:
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self.path = Path()
        self._draft: Draft | None = None
        if to is not None:
            self.path = to / _name(response, sha256) if to.is_dir() else to
            self._draft = Draft(self.path)

    @property
    def data(self) -> bytes:
        return b"".join(self._chunks)

    def write(self, chunk: bytes) -> None:
        """Take one chunk."""
        self._hash.update(chunk)
        if self._draft is None:
            self._chunks.append(chunk)
        else:
            self._draft.write(chunk)

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        got = self._hash.hexdigest()
        try:
            if kind is None and got != self._sha256:
                raise Damaged(f"artifact {self._sha256} came with digest {got}: nothing was kept, fetch it again")
            if kind is None and self._draft is not None:
                self._draft.keep()
        finally:
            if self._draft is not None:
                self._draft.drop()


def _name(response: httpx.Response, sha256: str) -> str:
    """The file name that the gateway gives, if it is a plain one."""
    found = re.search(r'filename="([A-Za-z0-9_][A-Za-z0-9_.-]*)"', response.headers.get("Content-Disposition", ""))
    return found[1] if found else sha256
