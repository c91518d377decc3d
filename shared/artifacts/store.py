"""Content-addressed bytes on a local folder, in memory or on S3, through one API (obstore).

Writing the same bytes twice is one artifact. A reader never sees half of one: `put` creates
atomically. Which tenant may read which artifact is SQL's business (`shared.jobs`), not this
store's.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from shared.artifacts.local import DRAFTS_FOLDER, DurableFolder
from shared.errors import DamagedArtifact, InvalidRequest, NotFound, TransientError

CHUNK_BYTES = 1 << 20
PART_BYTES = 8 << 20  # of an upload to S3, which has at most 10,000


def compute_sha256(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _build_path(sha256: str) -> str:
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise InvalidRequest(f"{sha256!r} is not a sha256 in hex")
    return f"sha256/{sha256[:2]}/{sha256}"


def _build_damaged_error(sha256: str, how: str) -> DamagedArtifact:
    return DamagedArtifact(f"artifact {sha256} is damaged in the store: {how}")


def _first_line(error: Exception) -> str:
    """What happened, without the path on this machine; the backend's own debugging comes on further
    lines."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0]


@contextmanager
def _translate_read_errors(sha256: str) -> Iterator[None]:
    """What the backend raises on a read, in this project's words."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"artifact {sha256} is not in the store") from error
    except (BaseError, OSError) as error:
        raise TransientError(
            f"artifact {sha256} could not be read: {_first_line(error)}"
        ) from error


class StoredArtifact(NamedTuple):
    """What came in."""

    sha256: str
    size: int


class _HashingReader:
    """The bytes of a source, digested as they pass. `error` is what the source itself has
    raised."""

    def __init__(self, source: Iterable[bytes] | IO[bytes]) -> None:
        self._source = (
            source if not hasattr(source, "read") else iter(lambda: source.read(CHUNK_BYTES), b"")
        )
        self._hasher, self._size = hashlib.sha256(), 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._source:
                self._hasher.update(chunk)
                self._size += len(chunk)
                yield chunk
        except Exception as error:
            self.error = error
            raise

    @property
    def stored(self) -> StoredArtifact:
        return StoredArtifact(self._hasher.hexdigest(), self._size)


class ArtifactStore:
    """`put` bytes, get their sha256; `get` them back, verified."""

    def __init__(self, backend: Any, folder: DurableFolder | None = None) -> None:
        """Writes go to `folder` where there is one: the same folder that `backend` reads from."""
        self._backend, self._folder = backend, folder

    @classmethod
    def from_url(cls, url: str) -> ArtifactStore:
        """`file://FOLDER` (absolute or relative, made if missing), `memory://`, or what obstore
        knows (s3://)."""
        if url == "memory://":
            return cls(MemoryStore())
        if url.startswith("file://"):
            folder = Path(url.removeprefix("file://")).absolute()
            durable = DurableFolder(folder)
            return cls(LocalStore(prefix=folder), durable)
        return cls(
            from_url(url, retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)})
        )

    def put(self, data: bytes) -> str:
        """Store `data`; returns its sha256. A power cut after that does not take it; what one has
        damaged before is made whole again.

        Raises:
            TransientError: the store did not take it (full disk, no connection).
        """
        sha256 = compute_sha256(data)
        path = _build_path(sha256)
        try:
            if self._folder is not None:
                self._folder.put(path, data)
            else:
                self._put(path, data)
        except (BaseError, OSError) as error:
            raise TransientError(
                f"artifact of {len(data)} bytes could not be stored: {_first_line(error)}"
            ) from error
        return sha256

    def put_stream(self, source: Iterable[bytes] | IO[bytes]) -> StoredArtifact:
        """Store bytes as they come, whose number nobody needs to know; at most a few chunks are in
        memory.

        Jobs know what they store and `put` it; this is for uploads, of which the gateway holds no
        more than a chunk.

        They go into a draft, which gets its address when they have all come. What `source` raises
        is raised, and leaves nothing behind.

        Raises:
            TransientError: the store did not take them.
        """
        incoming = _HashingReader(source)
        try:
            if self._folder is not None:
                self._folder.put_stream(incoming, lambda: _build_path(incoming.stored.sha256))
            else:
                self._put_stream(incoming)
        except (BaseError, OSError) as error:
            if error is incoming.error:
                raise
            raise TransientError(
                f"an artifact could not be stored: {_first_line(error)}"
            ) from error
        return incoming.stored

    def _put_stream(self, incoming: _HashingReader) -> None:
        draft = f"{DRAFTS_FOLDER}/{secrets.token_hex(16)}"
        try:
            obstore.put(
                self._backend, draft, iter(incoming), chunk_size=PART_BYTES, max_concurrency=1
            )
            obstore.rename(self._backend, draft, _build_path(incoming.stored.sha256))
        except BaseException:
            with suppress(BaseError, OSError):
                obstore.delete(self._backend, draft)
            raise

    def _put(self, path: str, data: bytes) -> None:
        try:
            obstore.put(self._backend, path, data, mode="create")
        except AlreadyExistsError:
            if bytes(obstore.get(self._backend, path).bytes()) != data:
                obstore.put(self._backend, path, data, mode="overwrite")

    def get(self, sha256: str) -> bytes:
        """The bytes, whose digest is checked.

        Raises:
            NotFound: there are none.
            DamagedArtifact: there are others.
            TransientError: the store did not answer.
        """
        with _translate_read_errors(sha256):
            data = bytes(obstore.get(self._backend, _build_path(sha256)).bytes())
        if compute_sha256(data) != sha256:
            raise _build_damaged_error(sha256, f"its bytes have digest {compute_sha256(data)}")
        return data

    def stream(self, sha256: str, size: int) -> Iterator[bytes]:
        """The `size` bytes in chunks of about 1 MiB. The last chunk comes only if all of them have
        the digest, so that a reader never ends up with the whole of something else.

        Raises:
            NotFound: there are none; before the first chunk.
            DamagedArtifact: there are others; before the first chunk if it shows in their number or
                in that chunk.
            TransientError: the store did not answer, or stopped in the middle.
        """
        with _translate_read_errors(sha256):
            result = obstore.get(self._backend, _build_path(sha256))
        if result.meta["size"] != size:
            raise _build_damaged_error(sha256, f"{result.meta['size']} bytes instead of {size}")
        chunks = self._verify_chunks(sha256, result)
        first = next(chunks)
        return itertools.chain([first], chunks)

    @staticmethod
    def _verify_chunks(sha256: str, result: Any) -> Iterator[bytes]:
        hasher, pending = hashlib.sha256(), b""
        with _translate_read_errors(sha256):
            for chunk in map(bytes, result.stream(min_chunk_size=CHUNK_BYTES)):
                hasher.update(chunk)
                if pending:
                    yield pending
                pending = chunk
        if hasher.hexdigest() != sha256:
            raise _build_damaged_error(sha256, f"its bytes have digest {hasher.hexdigest()}")
        yield pending

    def has(self, sha256: str, size: int) -> bool:
        """Whether `size` bytes are there. Costs no more than a look at the folder, and cannot see
        bytes that changed.

        Raises:
            TransientError: the store did not answer.
        """
        try:
            with _translate_read_errors(sha256):
                return bool(obstore.head(self._backend, _build_path(sha256))["size"] == size)
        except NotFound:
            return False

    def is_intact(self, sha256: str, size: int) -> bool:
        """Whether the bytes are there and have the digest: reads them all.

        Raises:
            TransientError: the store did not answer.
        """
        try:
            for _ in self.stream(sha256, size):
                pass
        except (NotFound, DamagedArtifact):
            return False
        return True
