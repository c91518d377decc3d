"""Bytes that come in: checked against the digest they were asked by, on disk whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from services.client.errors import ClientError, Damaged
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


class Landing:
    """Takes chunks; at its end the bytes are in `data`, or in the file `path` if a path was given."""

    def __init__(self, sha256: str, response: httpx.Response, to: Path | None) -> None:
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.path = Path()
        if to is not None:
            self.path = to / _name(response, sha256) if to.is_dir() else to
            try:
                handle, self._draft = tempfile.mkstemp(dir=self.path.parent, prefix=".fetch-")
                self._file = os.fdopen(handle, "wb")
            except OSError as error:
                raise ClientError(f"{self.path} cannot be written: {error.strerror}") from error

    @property
    def data(self) -> bytes:
        return b"".join(self._chunks)

    def write(self, chunk: bytes) -> None:
        """Take one chunk."""
        self._hash.update(chunk)
        if self._file is None:
            self._chunks.append(chunk)
            return
        try:
            self._file.write(chunk)
        except OSError as error:
            raise ClientError(f"{self.path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        got = self._hash.hexdigest()
        good = kind is None and got == self._sha256
        if self._file is not None:
            self._file.close()
            draft = Path(self._draft)
            if good:
                draft.replace(self.path)
            else:
                draft.unlink()
        if kind is None and not good:
            raise Damaged(f"artifact {self._sha256} came with digest {got}: nothing was kept, fetch it again")


def _name(response: httpx.Response, sha256: str) -> str:
    """The file name that the gateway gives, if it is a plain one."""
    found = re.search(r'filename="([A-Za-z0-9_][A-Za-z0-9_.-]*)"', response.headers.get("Content-Disposition", ""))
    return found[1] if found else sha256
