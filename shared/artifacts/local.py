"""Writes to a local folder so that what was written survives a power cut.

The order is that of every durable store: the bytes to the disk, then the name, then the folder that holds the name.
obstore writes whole files too, but syncs nothing: SQL's commits would outlive the bytes that they speak of.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

DRAFTS = "drafts"  # inside the store's folder: a draft gets its name by a rename, which does not leave a file system
STALE_S = 3600.0  # a draft that nobody has written to for so long belongs to a writer that was killed


class DurableFolder:
    """Files under one folder, each written once as a whole. Any number of processes may write."""

    def __init__(self, folder: Path) -> None:
        """`folder` (absolute) is made if it is missing. Raises OSError where it cannot be."""
        self._folder = folder
        self._synced: set[Path] = set()  # folders whose own name this process has brought to the disk
        self._sweep_due = 0.0
        for missing in [f for f in (*reversed(folder.parents), folder) if not f.exists()]:
            missing.mkdir(exist_ok=True)
            _sync(missing.parent)

    def put(self, path: str, data: bytes) -> None:
        """Bring `data` to the disk under `path`, in place of other bytes if there are any.

        Raises:
            OSError: it is not there, or may not be (disk full, no right to write).
        """
        target = self._folder / path
        try:
            self._make(target.parent)
            if not self._keep(target, data):
                self._place(self._draft([data]), target)
            _sync(target.parent)
        except OSError:
            self._synced.clear()  # the next try recreates folders that were removed
            raise

    def put_stream(self, chunks: Iterable[bytes], path: Callable[[], str]) -> None:
        """Bring bytes to the disk as they come, then under the path that is asked for when all have come.

        Raises:
            OSError: as `put`.
        """
        try:
            draft = self._draft(chunks)
            target = self._folder / path()
            self._place(draft, target)
            _sync(target.parent)
        except OSError:
            self._synced.clear()
            raise

    def _keep(self, target: Path, data: bytes) -> bool:
        """Whether these bytes are there already. Another may have written them just now, and not synced them yet."""
        try:
            with target.open("rb") as file:
                if os.fstat(file.fileno()).st_size != len(data) or file.read() != data:
                    return False
                os.fsync(file.fileno())
                return True
        except FileNotFoundError:
            return False

    def _draft(self, chunks: Iterable[bytes]) -> Path:
        """A file beside the others that holds these bytes, on the disk."""
        drafts = self._folder / DRAFTS
        self._make(drafts)
        self._sweep(drafts)
        draft = drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with draft.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            _remove(draft)
            raise
        return draft

    def _place(self, draft: Path, target: Path) -> None:
        """Whoever looks sees the old bytes, or the new ones."""
        try:
            self._make(target.parent)
            draft.replace(target)
        except BaseException:
            _remove(draft)
            raise

    def _make(self, folder: Path) -> None:
        """Make a folder of the store. One that another has made counts as synced only if this process did it: the
        other may be on its way to do so."""
        if folder in self._synced or folder == self._folder:
            return
        self._make(folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        _sync(folder.parent)
        self._synced.add(folder)

    def _sweep(self, drafts: Path) -> None:
        """Remove what killed writers have left, now and then."""
        if time.monotonic() < self._sweep_due:
            return
        self._sweep_due = time.monotonic() + STALE_S
        with os.scandir(drafts) as found:
            for entry in found:
                with contextlib.suppress(OSError):  # another sweeps too
                    if time.time() - entry.stat().st_mtime > STALE_S:
                        os.unlink(entry.path)


def _remove(draft: Path) -> None:
    with contextlib.suppress(OSError):
        draft.unlink()


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
