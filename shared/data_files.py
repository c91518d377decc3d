"""What identifies the contents of files of the data root.

A path says nothing about contents, so a job is planned with the digest of each file that it names
(`DataRoot.digests`) and a worker reads a file only if it still has that digest (`PlannedFiles`).
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from shared.data_root import describe_os_error, get_data_root, is_clutter, open_file, resolve_path
from shared.errors import InvalidRequest
from shared.uploaded_files import open_upload, parse_upload

# bytes of all files under one path; STL-10 with its unlabelled images has 3 GiB
MAX_HASHED_BYTES = 16 << 30
MAX_ENTRIES = 200_000  # files and folders under one path
MAX_DEPTH = 32  # folders in folders
ABSENT = "absent"  # in place of the digest of an optional file that does not exist
_CHUNK_BYTES = 1 << 20
# after a younger change there may be another with the same time stamp
_SETTLED_NS = 2_000_000_000
_MAX_CACHED_DIGESTS = 500_000  # digests that a process keeps

_FileVersion = tuple[int, int, int, int, int]
_digest_cache: dict[_FileVersion, str] = {}
_lock = threading.Lock()
# of a file that is being read, and how many want it
_readers: dict[_FileVersion, tuple[threading.Lock, int]] = {}


class DataFile(NamedTuple):
    """A file or folder of the data root that a job reads, or an upload."""

    path: str  # relative to the data root, or of the form that `shared.uploaded_files` reads
    field: str  # of the job: where it is named
    optional: bool = False  # read if it is there


# by path, the sha256 of its contents, or ABSENT
IdentifyFiles = Callable[[Sequence[DataFile]], Mapping[str, str]]


def reject_data_files(files: Sequence[DataFile]) -> Mapping[str, str]:
    """Where no data root is seen, jobs cannot be planned that name files.

    Raises:
        InvalidRequest: there is one.
    """
    for file in files:
        if not file.optional:
            raise InvalidRequest(
                f"{file.path!r} cannot be hashed: this process has no data root", file.field
            )
    return {}


class DataRoot:
    """A data root as it is seen from here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def compute_digest(self, relative: str, field: str) -> str | None:
        """sha256, in hex, of a file's bytes, or over the names and bytes of all that a folder
        holds; None if it is not there. In a folder, clutter is left out (`is_clutter`).

        Raises:
            InvalidRequest: as `resolve_path`; or something of it is neither a regular file nor a folder,
                changes while it is read, or is above `MAX_HASHED_BYTES` (a file that several links
                name counts for each), `MAX_ENTRIES` entries or `MAX_DEPTH` folders in folders.
        """
        if (upload := parse_upload(relative, field)) is not None:
            return upload
        path = resolve_path(self.folder, relative, field)
        if path is None:
            return None
        bytes_left = _Allowance(relative, field)
        try:
            if not path.is_dir():
                return _digest_file(self.folder, path, relative, field, bytes_left)
            return self._digest_folder(path, relative, field, bytes_left)
        except OSError as error:
            raise InvalidRequest(
                f"{relative!r} cannot be read: {describe_os_error(error)}; if it was being "
                "changed, submit the job again",
                field,
            ) from error

    def _digest_folder(self, path: Path, relative: str, field: str, left: _Allowance) -> str:
        seen = hashlib.sha256()
        for entry in _walk(path, relative, field, left):
            name = os.fsencode(os.path.relpath(entry.path, path))
            if entry.is_dir(follow_symlinks=False):
                seen.update(b"folder %d " % len(name) + name)
                continue
            status = entry.stat(follow_symlinks=False)
            sha256 = (
                _digest_cache.get(_get_file_version(status))
                if stat.S_ISREG(status.st_mode)
                else None
            )
            if sha256 is not None:
                left.take_bytes(status.st_size)
            else:
                shown = os.path.join(relative, os.path.relpath(entry.path, path))
                sha256 = _digest_file(self.folder, Path(entry.path), shown, field, left)
            seen.update(b"file %d " % len(name) + name + sha256.encode())
        return seen.hexdigest()

    def identify_files(self, files: Sequence[DataFile]) -> dict[str, str]:
        """By path, what identifies each file: its sha256, or `ABSENT` for an optional one that is
        not there. That it is not there counts too: what is read in its place would be another once
        it is.

        Raises:
            InvalidRequest: as `identify`, or one is not there.
        """
        digests: dict[str, str] = {}
        for file in files:
            sha256 = self.compute_digest(file.path, file.field)
            if sha256 is not None or file.optional:
                digests[file.path] = sha256 or ABSENT
            else:
                raise InvalidRequest(
                    f"there is no {file.path!r} in the data root of the gateway: put it there, or "
                    "set the gateway's PALIMPSEST_DATA_ROOT to the workers' folder (the gateway "
                    "only reads it)",
                    file.field,
                )
        return digests


class PlannedFiles:
    """The files that a job was planned with, compared with what is on the disk now.

    During `guard_reads`, whatever is looked up by `resolve_data_path` and `find_data_path` must have
    been planned, as it is now.
    """

    def __init__(self, planned: Mapping[str, str], root: DataRoot | None = None) -> None:
        self._planned = planned
        self._root = root or DataRoot(get_data_root())
        self._read_paths: dict[str, str] = {}  # path: field

    def require(self, path: str, field: str) -> None:
        """Refuse a file that is not what it was when the job was planned; also its being there, or
        not, counts.

        Raises:
            InvalidRequest: with what has changed, and what to do.
        """
        now, then = self._root.compute_digest(path, field), self._planned.get(path, ABSENT)
        self._read_paths[path] = field
        if (now or ABSENT) == then:
            return
        if now is None:
            raise InvalidRequest(
                f"{path!r} is not in the data root of the worker, but was in that of the gateway "
                "when the job was planned: put it back, and retry the job",
                field,
            )
        change = "is new" if then == ABSENT else "has changed"
        raise InvalidRequest(
            f"{path!r} in the data root {change} since the job was planned: submit it again, "
            "together with the jobs that produce its inputs (an audit does this automatically)",
            field,
        )

    def require_all(self, files: Iterable[DataFile]) -> None:
        """`require` each."""
        for file in files:
            self.require(file.path, file.field)

    def require_unchanged(self) -> None:
        """`require` again all that was read, once it has been."""
        for path, field in list(self._read_paths.items()):
            self.require(path, field)

    @contextmanager
    def guard_reads(self) -> Iterator[None]:
        """Compare every file that is opened in here with the plan."""
        token = _guard.set(self)
        try:
            yield
        finally:
            _guard.reset(token)


_guard: ContextVar[PlannedFiles | None] = ContextVar("planned files", default=None)


def resolve_data_path(relative: str, field: str) -> Path:
    """An existing file or folder of the data root.

    Raises:
        InvalidRequest: the path is absolute, leads out of the root (by `..` or a link), or is not
            there; within a job, it is not what it was when the job was planned.
    """
    path = find_data_path([relative], field)
    if path is None:
        raise InvalidRequest(
            f"there is no {relative!r} in the data root of the worker: put it there, or correct "
            "the path",
            field,
        )
    return path


def find_data_path(
    candidates: Iterable[str], field: str, accept: Callable[[Path], bool] = Path.exists
) -> Path | None:
    """The first of these files and folders that is there and `good`, or None.

    Raises:
        InvalidRequest: as `resolve_data_path`, of each path that was tried.
    """
    guard = _guard.get()
    for relative in candidates:
        upload = parse_upload(relative, field)
        path = resolve_path(get_data_root(), relative, field) if upload is None else None
        if guard is not None:
            guard.require(relative, field)
        if upload is not None:
            return open_upload(upload, field)
        if path is not None and accept(path):
            return path
    return None


class _Allowance:
    """How much under one path may still be listed and read, whether it is known already or not."""

    def __init__(self, relative: str, field: str) -> None:
        self._relative, self._field = relative, field
        self._bytes, self._entries = MAX_HASHED_BYTES, MAX_ENTRIES

    def take_entry(self) -> None:
        """One more file or folder.

        Raises:
            InvalidRequest: there are too many.
        """
        self._entries -= 1
        if self._entries < 0:
            raise InvalidRequest(
                f"{self._relative!r} holds more than {MAX_ENTRIES:,} files and folders", self._field
            )

    def take_bytes(self, size: int) -> None:
        """One more file of that size.

        Raises:
            InvalidRequest: it is too much.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise InvalidRequest(
                f"{self._relative!r} is larger than {MAX_HASHED_BYTES:,} bytes", self._field
            )


def _walk(
    folder: Path, name: str, field: str, left: _Allowance, depth: int = 1
) -> Iterator[os.DirEntry[str]]:
    """All files and folders below, each folder before what it holds, by name."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(
            f"{name.split(os.sep)[0]!r} holds folders nested more than {MAX_DEPTH} levels deep",
            field,
        )
    entries = []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                left.take_entry()
                if not is_clutter(entry.name):
                    entries.append(entry)
    except OSError as error:
        raise InvalidRequest(
            f"{name!r} cannot be listed: {describe_os_error(error)}", field
        ) from error
    for entry in sorted(entries, key=lambda e: os.fsencode(e.name)):
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(
                Path(entry.path), os.path.join(name, entry.name), field, left, depth + 1
            )


def _digest_file(root: Path, path: Path, name: str, field: str, left: _Allowance) -> str:
    """sha256 of a file's bytes. One that has not changed is read once a process, though several ask
    at a time."""
    with open_file(path, field, root=root, max_bytes=MAX_HASHED_BYTES, name=name) as file:
        opened = os.fstat(file.fileno())
        left.take_bytes(opened.st_size)
        version = _get_file_version(opened)
        with _reading_alone(version):
            known = _digest_cache.get(version)
            if known is not None:
                return known
            sha256 = _digest_bytes(file, opened.st_size)
            if sha256 is None or _get_file_version(os.fstat(file.fileno())) != version:
                raise InvalidRequest(
                    f"{name!r} is being written: submit the job again when it is complete", field
                )
            if time.time_ns() - version[-1] > _SETTLED_NS:
                _remember(version, sha256)
            return sha256


def _digest_bytes(file: io.BufferedReader, size: int) -> str | None:
    """sha256 of a file of that size; None if it has more."""
    seen, read = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        seen.update(chunk)
        read += len(chunk)
        if read > size:  # one that grows is not read without end
            return None
    return seen.hexdigest()


@contextmanager
def _reading_alone(version: _FileVersion) -> Iterator[None]:
    """Wait until nobody else reads this version of a file: what he found is known then."""
    with _lock:
        reader, count = _readers.get(version, (threading.Lock(), 0))
        _readers[version] = reader, count + 1
    try:
        with reader:
            yield
    finally:
        with _lock:
            reader, count = _readers[version]
            if count > 1:
                _readers[version] = reader, count - 1
            else:
                del _readers[version]


def _remember(version: _FileVersion, sha256: str) -> None:
    with _lock:
        if len(_digest_cache) >= _MAX_CACHED_DIGESTS:
            _digest_cache.clear()
        _digest_cache[version] = sha256


def _get_file_version(file_stat: os.stat_result) -> _FileVersion:
    """What changes when a file's bytes do. The last, its change of state, cannot be set back."""
    return (
        file_stat.st_dev,
        file_stat.st_ino,
        file_stat.st_size,
        file_stat.st_mtime_ns,
        file_stat.st_ctime_ns,
    )
