"""Content-addressed bytes on a local folder, in memory or on S3, through one API (obstore).

Writing the same bytes twice is one artifact. A reader never sees half of one: `put` creates
atomically. Which tenant may read which artifact is SQL's business (`shared.jobs`), not this
store's.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from shared.artifacts.local import DRAFTS_FOLDER, DurableFolder
from shared.errors import DamagedArtifact, InvalidRequest, NotFound, TransientError

CHUNK_BYTES = 1 << 20
# of obstore: where S3 is, and whether it may be reached without encryption
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
ALLOW_HTTP_VARIABLE = "AWS_ALLOW_HTTP"
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


def _require_http_allowed() -> None:
    """obstore would refuse it too, but only at the first request, after retries, and without the
    name of the setting."""
    allowed = os.environ.get(ALLOW_HTTP_VARIABLE, "").lower() in ("true", "1", "yes", "on")
    for name in ENDPOINT_VARIABLES:
        if os.environ.get(name, "").lower().startswith("http://") and not allowed:
            raise InvalidRequest(
                f"{name} is an http:// address, to which artifacts would travel unencrypted: set "
                f"{ALLOW_HTTP_VARIABLE}=true to allow that, or use an https:// address"
            )


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


@contextmanager
def _translate_write_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise TransientError(f"{what} could not be stored: {_first_line(error)}") from error


class StoredArtifact(NamedTuple):
    """What came in."""

    sha256: str
    size: int


class StoredObject(NamedTuple):
    """Bytes under their address. `changed_at` is in seconds since 1970, by the store's clock."""

    sha256: str
    size: int
    changed_at: float


class _Sink(Protocol):
    """Where the bytes of a draft go."""

    def write(self, chunk: bytes) -> None: ...
    def seal(self) -> None: ...
    def move_to(self, path: str) -> None: ...
    def discard(self) -> None: ...


class _ObjectDraft:
    """A draft in a store that is no folder: an object under a name of its own."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._name = f"{DRAFTS_FOLDER}/{secrets.token_hex(16)}"
        self._writer = obstore.open_writer(
            backend, self._name, buffer_size=PART_BYTES, max_concurrency=1
        )

    def write(self, chunk: bytes) -> None:
        self._writer.write(chunk)

    def seal(self) -> None:
        self._writer.close()

    def move_to(self, path: str) -> None:
        obstore.rename(self._backend, self._name, path)

    def discard(self) -> None:
        # closing it first: parts of an upload that nobody ends stay in the store, and cost
        with suppress(BaseError, OSError):
            if not self._writer.closed():
                self._writer.close()
        with suppress(BaseError, OSError):
            obstore.delete(self._backend, self._name)


class ArtifactDraft:
    """Bytes on their way into the store, as they come; they get their address when all have come.

    Use it in a `with` block: what was not placed is removed.
    """

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._hasher = hashlib.sha256()
        self.size = 0  # bytes so far

    def __enter__(self) -> ArtifactDraft:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            TransientError: the store did not take them (full disk, no connection).
        """
        self._hasher.update(chunk)
        self.size += len(chunk)
        with _translate_write_errors("an artifact"):
            self._sink.write(chunk)

    def seal(self) -> StoredArtifact:
        """Bring all of it to the disk. No job can see it yet.

        Raises:
            TransientError: as `write`.
        """
        with _translate_write_errors("an artifact"):
            self._sink.seal()
        return StoredArtifact(self._hasher.hexdigest(), self.size)

    def place(self) -> None:
        """Put it under its address; it was sealed before. In place of other bytes, if those there
        are damaged.

        Raises:
            TransientError: as `write`.
        """
        with _translate_write_errors("an artifact"):
            self._sink.move_to(_build_path(self._hasher.hexdigest()))

    def discard(self) -> None:
        """Remove what was not placed. Repeatable."""
        self._sink.discard()


class ArtifactStore:
    """`put` bytes, get their sha256; `get` them back, verified."""

    def __init__(self, backend: Any, folder: DurableFolder | None = None) -> None:
        """Writes go to `folder` where there is one: the same folder that `backend` reads from."""
        self._backend, self._folder = backend, folder

    @classmethod
    def from_url(cls, url: str) -> ArtifactStore:
        """`file://FOLDER` (absolute or relative, made if missing), `memory://`, or what obstore
        knows (s3://).

        Raises:
            InvalidRequest: S3 is at an http:// address, and AWS_ALLOW_HTTP does not allow that.
        """
        if url == "memory://":
            return cls(MemoryStore())
        if url.startswith("file://"):
            folder = Path(url.removeprefix("file://")).absolute()
            durable = DurableFolder(folder)
            return cls(LocalStore(prefix=folder), durable)
        _require_http_allowed()
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
        with _translate_write_errors(f"artifact of {len(data)} bytes"):
            if self._folder is not None:
                self._folder.put(path, data)
            else:
                self._put(path, data)
        return sha256

    def open_draft(self) -> ArtifactDraft:
        """A draft, for bytes that come from outside: at most a few chunks of it are in memory. Jobs
        know what they store, and `put` it.

        Raises:
            TransientError: the store did not answer.
        """
        with _translate_write_errors("an artifact"):
            return ArtifactDraft(
                self._folder.open_draft()
                if self._folder is not None
                else _ObjectDraft(self._backend)
            )

    def delete(self, sha256: str) -> None:
        """Remove the bytes; there may be none. Whether anybody still needs them is for SQL to say.

        Raises:
            TransientError: the store did not answer, and they may still be there.
        """
        path = _build_path(sha256)
        try:
            if self._folder is not None:
                self._folder.delete(path)
            else:
                obstore.delete(self._backend, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise TransientError(
                f"artifact {sha256} could not be deleted: {_first_line(error)}"
            ) from error

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

    def export(self, sha256: str, folder: Path) -> Path:
        """The bytes as a file, verified: the store's own, or a copy in `folder`.

        Raises:
            NotFound: there are none.
            DamagedArtifact: there are others.
            TransientError: the store did not answer.
        """
        path = _build_path(sha256)
        with _translate_read_errors(sha256):
            size = obstore.head(self._backend, path)["size"]
        own = self._folder.find(path) if self._folder is not None else None
        target = own or folder / sha256
        with (
            _translate_write_errors(f"a copy of artifact {sha256}"),
            open(os.devnull if own else target, "wb") as file,
        ):
            for chunk in self.stream(sha256, size):
                file.write(chunk)
        return target

    def stream_range(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, as they are: a part has no digest to be checked
        against.

        Raises:
            NotFound: there are none; before the first chunk.
            TransientError: the store did not answer, or stopped in the middle.
        """
        with _translate_read_errors(sha256):
            result = obstore.get(
                self._backend, _build_path(sha256), options={"range": (start, end)}
            )

        def read() -> Iterator[bytes]:
            with _translate_read_errors(sha256):
                yield from map(bytes, result.stream(min_chunk_size=CHUNK_BYTES))

        return read()

    def list_objects(self) -> Iterator[StoredObject]:
        """Everything that is stored, in no order. Whether anybody needs it is for SQL to say.

        Raises:
            TransientError: the store did not answer, or stopped in the middle.
        """
        try:
            for batch in obstore.list(self._backend, prefix="sha256"):
                for one in batch:
                    sha256 = one["path"].rpartition("/")[2]
                    if one["path"] == f"sha256/{sha256[:2]}/{sha256}" and len(sha256) == 64:
                        yield StoredObject(sha256, one["size"], one["last_modified"].timestamp())
        except (BaseError, OSError) as error:
            raise TransientError(
                f"the artifacts could not be listed: {_first_line(error)}"
            ) from error

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
