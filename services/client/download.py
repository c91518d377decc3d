"""Downloads of artifacts, verified by their digest."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import TracebackType

import httpx

from .atomic_file import AtomicFile
from .errors import ClientError, DigestMismatch
from .records import Artifact, Job


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
            self.path = to / _read_file_name(response, sha256) if to.is_dir() else to
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


def _read_file_name(response: httpx.Response, sha256: str) -> str:
    """The file name that the gateway gives, if it is a plain one."""
    header = response.headers.get("Content-Disposition", "")
    match = re.search(r'filename="([A-Za-z0-9_][A-Za-z0-9_.-]{0,199})"', header)
    return match[1] if match else sha256
