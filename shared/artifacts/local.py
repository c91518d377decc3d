"""Writes to a local folder so that what was written survives a power cut.

The order is that of every durable store: the bytes to the disk, then the name, then the folder that
holds the name. obstore writes whole files too, but syncs nothing: SQL's commits would outlive the
bytes that they speak of.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

# inside the store's folder: a draft gets its name by a rename, which does not leave a file system
DRAFTS_FOLDER = "drafts"
# a draft that nobody has written to for so long belongs to a writer that was killed
STALE_DRAFT_S = 3600.0


class DurableFolder:
    """Files under one folder, each written once as a whole. Any number of processes may write."""

    def __init__(self, folder: Path) -> None:
        """`folder` (absolute) is made if it is missing. Raises OSError where it cannot be."""
        self._folder = folder
        # folders whose own name this process has brought to the disk
        self._synced: set[Path] = set()
        self._next_sweep_at = 0.0
        for missing in [f for f in (*reversed(folder.parents), folder) if not f.exists()]:
            missing.mkdir(exist_ok=True)
            _fsync_folder(missing.parent)

    def put(self, path: str, data: bytes) -> None:
        """Bring `data` to the disk under `path`, in place of other bytes if there are any.

        Raises:
            OSError: it is not there, or may not be (disk full, no right to write).
        """
        target = self._folder / path
        try:
            self._make_folder(target.parent)
            if not self._sync_existing(target, data):
                draft = self.open_draft()
                try:
                    draft.write(data)
                    draft.seal()
                    draft.move_to(path)
                except BaseException:
                    draft.discard()
                    raise
            _fsync_folder(target.parent)
        except OSError:
            self._synced.clear()  # the next try recreates folders that were removed
            raise

    def open_draft(self) -> DraftFile:
        """A file that gets its name once all of it has come.

        Raises:
            OSError: as `put`.
        """
        drafts = self._folder / DRAFTS_FOLDER
        try:
            self._make_folder(drafts)
            self._remove_stale_drafts(drafts)
            return DraftFile(self, drafts / f"{os.getpid()}-{secrets.token_hex(8)}")
        except OSError:
            self._synced.clear()
            raise

    def move_draft(self, draft: Path, path: str) -> None:
        """Give a draft its name. Atomic: readers see either the old bytes or the new ones.

        Raises:
            OSError: as `put`.
        """
        target = self._folder / path
        try:
            self._make_folder(target.parent)
            draft.replace(target)
            _fsync_folder(target.parent)
        except OSError:
            self._synced.clear()
            raise

    def find(self, path: str) -> Path | None:
        """The path of a file, or None if it does not exist."""
        target = self._folder / path
        return target if target.is_file() else None

    def delete(self, path: str) -> None:
        """Remove a file; there may be none.

        Raises:
            OSError: it is still there.
        """
        target = self._folder / path
        target.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _fsync_folder(target.parent)

    def _sync_existing(self, target: Path, data: bytes) -> bool:
        """Whether these bytes are there already. Another may have written them just now, and not
        synced them yet."""
        try:
            with target.open("rb") as file:
                if os.fstat(file.fileno()).st_size != len(data) or file.read() != data:
                    return False
                os.fsync(file.fileno())
                return True
        except FileNotFoundError:
            return False

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of the store. One that another has made counts as synced only if this
        process did it: the other may be on its way to do so."""
        if folder in self._synced or folder == self._folder:
            return
        self._make_folder(folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        _fsync_folder(folder.parent)
        self._synced.add(folder)

    def _remove_stale_drafts(self, drafts: Path) -> None:
        """Remove what killed writers have left, now and then."""
        if time.monotonic() < self._next_sweep_at:
            return
        self._next_sweep_at = time.monotonic() + STALE_DRAFT_S
        with os.scandir(drafts) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another sweeps too
                    if time.time() - entry.stat().st_mtime > STALE_DRAFT_S:
                        os.unlink(entry.path)


class DraftFile:
    """A file on its way into the folder, under a name of its own."""

    def __init__(self, folder: DurableFolder, path: Path) -> None:
        """Raises OSError where it cannot be made."""
        self._folder, self._path = folder, path
        self._file = path.open("xb")

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def seal(self) -> None:
        """Bring all of it to the disk; nothing is written after that."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def move_to(self, path: str) -> None:
        """Give it its place in the folder."""
        self._folder.move_draft(self._path, path)

    def discard(self) -> None:
        """Remove it, if it has not been moved."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
