"""Where data files may lie, and how they are opened.

A job is posted by someone far away: a path in it is relative to the data root and must stay inside.
What lies there may come from anyone: only regular files are opened, and nothing is read of which it
was not asked first how much it is.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from shared.config import Settings
from shared.errors import InvalidRequest
from shared.uploaded_files import is_upload_file

MAX_BYTES = 1 << 30
# what file managers and archivers leave behind
CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


def is_clutter(name: str) -> bool:
    """Whether nothing of that name in a folder is data: what begins with a dot, and what file
    managers leave behind."""
    return name.startswith(".") or name.casefold() in CLUTTER


def get_data_root() -> Path:
    """The folder that PALIMPSEST_DATA_ROOT names."""
    return Settings().data_root


def resolve_path(root: Path, relative: str, field: str) -> Path | None:
    """A file or folder below `root`; None if it is not there.

    Raises:
        InvalidRequest: the path is absolute, or leads out of the root (by `..` or a link).
    """
    root = root.resolve()
    try:
        path = (root / relative).resolve()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        # links in a circle; names that no file can have
        raise InvalidRequest(
            f"{relative!r} is not a valid path: {describe_os_error(error)}", field
        ) from error
    if Path(relative).is_absolute() or not path.is_relative_to(root):
        raise InvalidRequest(
            f"{relative!r} must be relative to the data root and stay inside it", field
        )
    return path if exists else None


def open_file(
    path: Path,
    field: str,
    *,
    root: Path | None = None,
    max_bytes: int = MAX_BYTES,
    name: str | None = None,
) -> io.BufferedReader:
    """Open a regular file below `root` (the data root, if not given) to read its bytes. Never waits
    for a writer.

    Links are resolved first; then each folder is opened from the one above, without following
    links, and the opened file itself is examined: what is exchanged meanwhile cannot lead
    elsewhere.

    Args:
        name: what messages call it; its last name if not given.

    Raises:
        InvalidRequest: not there, outside the root, not a regular file, or above `max_bytes`.
    """
    shown_name = repr(name or path.name)
    try:
        above, real = (_find_root(path) if root is None else root).resolve(), path.resolve()
        if not real.is_relative_to(above):
            raise InvalidRequest(
                f"{shown_name} is a symbolic link out of its folder: replace it with the file "
                "itself",
                field,
            )
        descriptor = _open_below(above, real.relative_to(above).parts)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidRequest(
            f"{shown_name} cannot be opened: {describe_os_error(error)}", field
        ) from error
    try:
        file_stat = os.fstat(descriptor)
        if not stat.S_ISREG(file_stat.st_mode):
            raise InvalidRequest(f"{shown_name} is not a regular file", field)
        if file_stat.st_size > max_bytes:
            raise InvalidRequest(f"{shown_name} is larger than {max_bytes >> 20} MiB", field)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _find_root(path: Path) -> Path:
    """The data root; of an upload, the folder that it lies in."""
    return path.parent if is_upload_file(path) else get_data_root()


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for depth, part in enumerate(parts, start=1):
        last = depth == len(parts)
        kind = os.O_NONBLOCK | os.O_NOCTTY if last else os.O_DIRECTORY
        try:
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def describe_os_error(error: Exception) -> str:
    """What happened, without the path, which is the machine's."""
    return (error.strerror if isinstance(error, OSError) else None) or "not a valid file name"
