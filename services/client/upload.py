"""Files on their way to the gateway: read twice, once for the digest and once to send them, and
never held in memory."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import ReadError

CHUNK_BYTES = 1 << 20
DEFAULT_TYPE = "application/octet-stream"
TYPES = {
    ".safetensors": "application/vnd.safetensors",
    ".npz": "application/x-npz",
    ".csv": "text/csv",
    ".zip": "application/zip",
}
# called with the bytes sent so far, and all bytes of the file
OnProgress = Callable[[int, int], None]


def ignore_progress(_sent: int, _total: int) -> None:
    """For callers who do not look."""


@dataclass(frozen=True)
class FileToUpload:
    """A file and the digest that it had when it was read."""

    path: Path
    sha256: str
    size: int
    media_type: str

    @classmethod
    def scan(cls, path: Path, media_type: str | None = None) -> FileToUpload:
        """Read a file for its digest.

        Raises:
            ReadError: it cannot be read, or is no file.
        """
        hasher, size = hashlib.sha256(), 0
        for chunk in _read_chunks(path):
            hasher.update(chunk)
            size += len(chunk)
        guessed = TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
        return cls(path, hasher.hexdigest(), size, media_type or guessed or DEFAULT_TYPE)

    def build_headers(self) -> dict[str, str]:
        """Of the request that sends it."""
        digest = base64.b64encode(bytes.fromhex(self.sha256)).decode()
        return {
            "Content-Type": self.media_type,
            "Content-Length": str(self.size),
            "Content-Digest": f"sha-256=:{digest}:",
        }

    def read_chunks(self, on_progress: OnProgress) -> Iterator[bytes]:
        """The file's bytes; progress is reported as they are sent.

        Raises:
            ReadError: it cannot be read any more, or has another size now.
        """
        sent = 0
        for chunk in _read_chunks(self.path):
            sent += len(chunk)
            if sent > self.size:
                break
            yield chunk
            on_progress(sent, self.size)
        if sent != self.size:
            raise ReadError(f"{self.path.name} was changed while it was sent: try again")


def _read_chunks(path: Path) -> Iterator[bytes]:
    try:
        if not path.is_file():
            raise ReadError(
                f"{path.name} is not a file" if path.exists() else f"there is no file {path.name}"
            )
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise ReadError(f"{path.name} cannot be read: {error.strerror}") from error
