"""Files of the data root: where they may lie, how they are opened, and what identifies their contents.

A job is posted by someone far away: a path in it is relative to the data root and must stay inside. What lies there
may come from anyone: only regular files are opened, and nothing is read of which it was not asked first how much it is.

A path says nothing about contents, so a job is planned with the digest of each file that it names (`DataRoot.digests`)
and a worker reads a file only if it still has that digest (`PlannedFiles`).
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from shared.config import Settings
from shared.errors import InvalidRequest

MAX_BYTES = 1 << 30  # of one file that is read
MAX_HASHED = 16 << 30  # bytes of all files under one path; STL-10 with its unlabelled images has 3 GiB
MAX_ENTRIES = 200_000  # files and folders under one path
MAX_DEPTH = 32  # folders in folders
_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000  # a younger change may be followed by one that the clock of the file system cannot tell
_REMEMBERED = 500_000  # digests that a process keeps

_Version = tuple[int, int, int, int, int]
_known: dict[_Version, str] = {}


class DataFile(NamedTuple):
    """A file or folder of the data root that a job reads."""

    path: str  # relative to the data root
    field: str  # of the job: where it is named
    optional: bool = False  # read if it is there


Identify = Callable[[Sequence[DataFile]], Mapping[str, str]]  # by path, the sha256 of its contents


def identify_nothing(files: Sequence[DataFile]) -> Mapping[str, str]:
    """Where no data root is seen, jobs cannot be planned that name files.

    Raises:
        InvalidRequest: there is one.
    """
    for file in files:
        if not file.optional:
            raise InvalidRequest(f"{file.path!r} cannot be identified: no data root is seen from here", file.field)
    return {}


def data_root() -> Path:
    """The folder that PALIMPSEST_DATA_ROOT names."""
    return Settings().data_root


class DataRoot:
    """A data root as it is seen from here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, relative: str, field: str) -> Path | None:
        """A file or folder; None if it is not there.

        Raises:
            InvalidRequest: the path is absolute, or leads out of the root (by `..` or a link).
        """
        root = self.folder.resolve()
        try:
            path = (root / relative).resolve()
            there = path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle; names that no file can have
            raise InvalidRequest(f"{relative!r} is no path of a file: {_why(error)}", field) from error
        if Path(relative).is_absolute() or not path.is_relative_to(root):
            raise InvalidRequest(f"{relative!r} must be relative to the data root and stay inside it", field)
        return path if there else None

    def identify(self, relative: str, field: str) -> str | None:
        """sha256, in hex, of a file's bytes, or over the names and bytes of all that a folder holds; None if it is not
        there. In a folder, names that begin with a dot are left out.

        Raises:
            InvalidRequest: as `find`; or something of it is neither a regular file nor a folder, changes while it is
                read, or is above `MAX_HASHED` bytes, `MAX_ENTRIES` entries or `MAX_DEPTH` folders in folders.
        """
        path = self.find(relative, field)
        if path is None:
            return None
        if not path.is_dir():
            return _digest_file(self.folder, path, relative, field, MAX_HASHED)
        seen = hashlib.sha256()
        left = MAX_HASHED
        for count, entry in enumerate(_walk(path, relative, field)):
            name = os.fsencode(os.path.relpath(entry.path, path))
            if count >= MAX_ENTRIES:
                raise InvalidRequest(f"{relative!r} holds more than {MAX_ENTRIES:,} files", field)
            if entry.is_dir(follow_symlinks=False):
                seen.update(b"folder %d " % len(name) + name)
                continue
            told = os.path.join(relative, os.path.relpath(entry.path, path))
            found = entry.stat(follow_symlinks=False)
            known = _known.get(_version(found)) if stat.S_ISREG(found.st_mode) else None
            sha256 = known or _digest_file(self.folder, Path(entry.path), told, field, left)
            left -= found.st_size
            seen.update(b"file %d " % len(name) + name + sha256.encode())
        return seen.hexdigest()

    def digests(self, files: Sequence[DataFile]) -> dict[str, str]:
        """By path, what identifies each file; optional ones that are not there are left out.

        Raises:
            InvalidRequest: as `identify`, or one is not there.
        """
        found: dict[str, str] = {}
        for file in files:
            sha256 = self.identify(file.path, file.field)
            if sha256 is not None:
                found[file.path] = sha256
            elif not file.optional:
                raise InvalidRequest(
                    f"there is no {file.path!r} in the data root of the gateway: put it there, or, if it is in that of "
                    "the workers, let PALIMPSEST_DATA_ROOT name the same folder for the gateway (it only reads)",
                    file.field,
                )
        return found


class PlannedFiles:
    """The files that a job was planned with, held against what there is now.

    While `guarding`, whatever is looked up by `inside` and `first_inside` must have been planned, as it is now.
    """

    def __init__(self, planned: Mapping[str, str], root: DataRoot | None = None) -> None:
        self._planned = planned
        self._root = root or DataRoot(data_root())
        self._read: dict[str, str] = {}  # path: field

    def require(self, path: str, field: str) -> None:
        """Refuse a file that is not what it was when the job was planned; also its being there, or not, counts.

        Raises:
            InvalidRequest: with what has changed, and what to do.
        """
        now, then = self._root.identify(path, field), self._planned.get(path)
        self._read[path] = field
        if now == then:
            return
        what = "is not there any more" if now is None else "is new" if then is None else "has changed"
        raise InvalidRequest(
            f"{path!r} in the data root {what} since the job was planned: post it again, and with it the jobs that its "
            "inputs come from (an audit does)",
            field,
        )

    def require_all(self, files: Iterable[DataFile]) -> None:
        """`require` each."""
        for file in files:
            self.require(file.path, file.field)

    def require_unchanged(self) -> None:
        """`require` again all that was read, once it has been."""
        for path, field in list(self._read.items()):
            self.require(path, field)

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Whatever is looked up meanwhile is held against the plan."""
        token = _guard.set(self)
        try:
            yield
        finally:
            _guard.reset(token)


_guard: ContextVar[PlannedFiles | None] = ContextVar("planned files", default=None)


def inside(relative: str, field: str) -> Path:
    """An existing file or folder of the data root.

    Raises:
        InvalidRequest: the path is absolute, leads out of the root (by `..` or a link), or is not there; within a job,
            it is not what it was when the job was planned.
    """
    path = first_inside([relative], field)
    if path is None:
        raise InvalidRequest(f"there is no {relative!r} in the data root of the worker", field)
    return path


def first_inside(candidates: Iterable[str], field: str, good: Callable[[Path], bool] = Path.exists) -> Path | None:
    """The first of these files and folders that is there and `good`, or None.

    Raises:
        InvalidRequest: as `inside`, of one that was looked at.
    """
    root, guard = DataRoot(data_root()), _guard.get()
    for relative in candidates:
        path = root.find(relative, field)
        if guard is not None:
            guard.require(relative, field)
        if path is not None and good(path):
            return path
    return None


def open_file(
    path: Path, field: str, *, root: Path | None = None, max_bytes: int = MAX_BYTES, name: str | None = None
) -> io.BufferedReader:
    """Open a regular file below `root` (the data root, if not given) to read its bytes. Never waits for a writer.

    Links are resolved first; then each folder is opened from the one above, without following links, and the opened
    file itself is examined: what is exchanged meanwhile cannot lead elsewhere.

    Args:
        name: what messages call it; its last name if not given.

    Raises:
        InvalidRequest: not there, outside the root, not a regular file, or above `max_bytes`.
    """
    told = repr(name or path.name)
    try:
        above, real = (data_root() if root is None else root).resolve(), path.resolve()
        if not real.is_relative_to(above):
            raise InvalidRequest(f"{told} leads out of its folder: put the file itself there", field)
        descriptor = _open_below(above, real.relative_to(above).parts)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidRequest(f"{told} cannot be opened: {_why(error)}", field) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"{told} is not a regular file", field)
        if found.st_size > max_bytes:
            raise InvalidRequest(f"{told} is above {max_bytes >> 20} MiB", field)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for place, part in enumerate(parts, start=1):
        last = place == len(parts)
        kind = os.O_NONBLOCK | os.O_NOCTTY if last else os.O_DIRECTORY
        try:
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def _walk(folder: Path, name: str, field: str, depth: int = 1) -> Iterator[os.DirEntry[str]]:
    """All files and folders below, each folder before what it holds, by name."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"{name.split(os.sep)[0]!r} holds folders in folders more than {MAX_DEPTH} deep", field)
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: os.fsencode(e.name))
    except OSError as error:
        raise InvalidRequest(f"{name!r} cannot be listed: {_why(error)}", field) from error
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), os.path.join(name, entry.name), field, depth + 1)


def _digest_file(root: Path, path: Path, name: str, field: str, max_bytes: int) -> str:
    """sha256 of a file's bytes. One that has not changed is read once a process."""
    with open_file(path, field, root=root, max_bytes=max_bytes, name=name) as file:
        version = _version(os.fstat(file.fileno()))
        if version in _known:
            return _known[version]
        seen = hashlib.sha256()
        try:
            while chunk := file.read(_CHUNK):
                seen.update(chunk)
        except OSError as error:
            raise InvalidRequest(f"{name!r} cannot be read: {_why(error)}", field) from error
        if _version(os.fstat(file.fileno())) != version:
            raise InvalidRequest(f"{name!r} is being written: post the job again when it is whole", field)
    if time.time_ns() - version[-1] > _SETTLED_NS:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[version] = seen.hexdigest()
    return seen.hexdigest()


def _version(found: os.stat_result) -> _Version:
    """What changes when a file's bytes do. The last, its change of state, cannot be set back."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _why(error: Exception) -> str:
    """Without the path, which is the machine's."""
    return (error.strerror if isinstance(error, OSError) else None) or "not a name that a file can have"
