"""Downloads of artifacts, verified by their digest, and of archives."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from .atomic_file import AtomicFile
from .errors import ClientError, DigestMismatch
from .records import Artifact, Job

END_OF_ZIP, END_OF_ZIP_BYTES = b"PK\x05\x06", 22  # the last record of an archive


def select_artifact(job: Job, role: str | None) -> Artifact:
    """A job's artifact; the role may be left out if there is only one.

    Raises:
        ClientError: the job has no such artifact, or not yet.
    """
    artifacts = job.artifacts
    if role is None and len(artifacts) == 1:
        return next(iter(artifacts.values()))
    if role is not None and role in artifacts:
        return artifacts[role]
    if not artifacts:
        raise ClientError(f"job {job.id} has no artifacts yet: it is {job.state}")
    which = f"no artifact {role}" if role else "several artifacts"
    raise ClientError(f"job {job.id} has {which}: choose one of {', '.join(sorted(artifacts))}")


class Download:
    """Collects the chunks of one response; leaving the `with` block verifies them.

    Then the bytes are in `data`, or in the file `path` if a path was given.

    Args:
        sha256: the digest that the bytes must have.
        size_bytes: their number, if it is known; an excess is refused as soon as it arrives.
        to: the file, or a folder in which the gateway's name for it is used.
    """

    def __init__(
        self, sha256: str, response: httpx.Response, to: Path | None, size_bytes: int | None = None
    ) -> None:
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._received_bytes = 0
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self.path = Path()
        self._file: AtomicFile | None = None
        if to is not None:
            self.path = _choose_path(response, to, sha256)
            self._file = AtomicFile(self.path)

    @property
    def data(self) -> bytes:
        return b"".join(self._chunks)

    def write(self, chunk: bytes) -> None:
        """Add one chunk.

        Raises:
            DigestMismatch: these are more bytes than the artifact has.
            WriteError: the disk is full, or writing is not allowed.
        """
        self._received_bytes += len(chunk)
        if self._size_bytes is not None and self._received_bytes > self._size_bytes:
            raise DigestMismatch(
                f"artifact {self._sha256} has {self._size_bytes} bytes, but more were received: "
                "nothing was kept; fetch it again"
            )
        self._hash.update(chunk)
        if self._file is None:
            self._chunks.append(chunk)
        else:
            self._file.write(chunk)

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        digest = self._hash.hexdigest()
        try:
            if kind is None and digest != self._sha256:
                raise DigestMismatch(
                    f"the bytes of artifact {self._sha256} have the digest {digest}: "
                    "nothing was kept; fetch it again"
                )
            if kind is None and self._file is not None:
                self._file.commit()
        finally:
            if self._file is not None:
                self._file.discard()


def ignore_size(received_bytes: int) -> None:
    """Report progress to nobody."""


class ArchiveDownload:
    """Collects the chunks of a zip archive in a file; leaving the `with` block verifies that it is
    complete.

    Args:
        to: the file, or a folder in which the gateway's name for it is used.
        on_progress: called with the bytes received so far.
    """

    def __init__(
        self, response: httpx.Response, to: Path, on_progress: Callable[[int], None]
    ) -> None:
        self.path = _choose_path(response, to, "audit.zip")
        self._file = AtomicFile(self.path)
        self._on_progress = on_progress
        self._received_bytes = 0
        self._end = b""  # of what was received

    def write(self, chunk: bytes) -> None:
        """Add one chunk. Raises WriteError: the disk is full, or writing is not allowed."""
        self._file.write(chunk)
        self._received_bytes += len(chunk)
        self._end = (self._end + chunk)[-len(END_OF_ZIP) - END_OF_ZIP_BYTES :]
        self._on_progress(self._received_bytes)

    def __enter__(self) -> ArchiveDownload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                # a proxy that ends a broken answer as if it were whole
                if END_OF_ZIP not in self._end:
                    raise ClientError(
                        "the download was interrupted, and nothing was kept: try again"
                    )
                self._file.commit()
        finally:
            self._file.discard()


def _choose_path(response: httpx.Response, to: Path, default_name: str) -> Path:
    return to / _read_file_name(response, default_name) if to.is_dir() else to


def _read_file_name(response: httpx.Response, default_name: str) -> str:
    """The file name that the gateway gives, if it is a plain one."""
    header = response.headers.get("Content-Disposition", "")
    match = re.search(r'filename="([A-Za-z0-9_][A-Za-z0-9_.-]{0,199})"', header)
    return match[1] if match else default_name
