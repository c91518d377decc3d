"""Content-addressed bytes on a local folder, in memory or on S3, through one API (obstore).

Writing the same bytes twice is one artifact. A reader never sees half of one: `put` creates atomically.
Which tenant may read which artifact is SQL's business (`shared.jobs`), not this store's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from shared.errors import InvalidRequest, NotFound, TransientError

CHUNK = 1 << 20


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _path(sha256: str) -> str:
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise InvalidRequest(f"{sha256!r} is not a sha256 in hex")
    return f"sha256/{sha256[:2]}/{sha256}"


def _first_line(error: Exception) -> str:
    """What happened; the backend's own debugging comes on further lines."""
    return str(error).partition("\n")[0]


@contextmanager
def _reading(sha256: str) -> Iterator[None]:
    """What the backend raises on a read, in this project's words."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"artifact {sha256} is not in the store") from error
    except (BaseError, OSError) as error:
        raise TransientError(f"artifact {sha256} could not be read: {_first_line(error)}") from error


class ArtifactStore:
    """`put` bytes, get their sha256; `get` them back, verified."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    @classmethod
    def from_url(cls, url: str) -> ArtifactStore:
        """`file://FOLDER` (absolute or relative, made if missing), `memory://`, or what obstore knows (s3://)."""
        if url == "memory://":
            return cls(MemoryStore())
        if url.startswith("file://"):
            folder = Path(url.removeprefix("file://")).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            return cls(LocalStore(prefix=folder))
        return cls(from_url(url, retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)}))

    def put(self, data: bytes) -> str:
        """Store `data`; returns its sha256. What a power cut has damaged is made whole again.

        Raises:
            TransientError: the store did not take it (full disk, no connection).
        """
        sha256 = digest(data)
        path = _path(sha256)
        try:
            try:
                obstore.put(self._backend, path, data, mode="create")
            except AlreadyExistsError:
                if bytes(obstore.get(self._backend, path).bytes()) != data:
                    obstore.put(self._backend, path, data, mode="overwrite")
        except (BaseError, OSError) as error:
            raise TransientError(f"artifact of {len(data)} bytes could not be stored: {_first_line(error)}") from error
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes, whose digest is checked.

        Raises:
            NotFound: there are none.
            TransientError: the store did not answer, or what it gave is damaged.
        """
        with _reading(sha256):
            data = bytes(obstore.get(self._backend, _path(sha256)).bytes())
        if digest(data) != sha256:
            raise TransientError(f"artifact {sha256} is damaged in the store: its bytes have digest {digest(data)}")
        return data

    def stream(self, sha256: str) -> Iterator[bytes]:
        """The bytes in chunks of about 1 MiB, unverified.

        Raises:
            NotFound: there are none; before the first chunk.
            TransientError: the store did not answer, or stopped in the middle.
        """
        with _reading(sha256):
            found = obstore.get(self._backend, _path(sha256))

        def chunks() -> Iterator[bytes]:
            with _reading(sha256):
                yield from (bytes(chunk) for chunk in found.stream(min_chunk_size=CHUNK))

        return chunks()

    def __contains__(self, sha256: str) -> bool:
        try:
            with _reading(sha256):
                obstore.head(self._backend, _path(sha256))
        except NotFound:
            return False
        return True
