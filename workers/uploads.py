"""Uploads as files, for the data sets of a job: from the artifact store's own folder, or copied
into a folder that lives as long as the job."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.artifacts import ArtifactStore
from shared.errors import NotFound
from shared.uploaded_files import offer_uploads

_FOLDER_NAME = re.compile(r"palimpsest-(\d+)-[^-]+-uploads")


class _UploadFiles:
    def __init__(self, artifacts: ArtifactStore, folder: Path) -> None:
        self._artifacts, self._folder = artifacts, folder
        self._paths: dict[str, Path] = {}

    def fetch(self, sha256: str) -> Path | None:
        """See `OffersUploads`. The bytes are verified once per job.

        Raises:
            TransientError: the store did not answer, or holds other bytes.
        """
        if sha256 not in self._paths:
            try:
                self._paths[sha256] = self._artifacts.export(sha256, self._folder)
            except NotFound:
                return None
        return self._paths[sha256]

    def has(self, path: Path) -> bool:
        return path in self._paths.values()


@contextmanager
def uploads_as_files(artifacts: ArtifactStore) -> Iterator[None]:
    """Let data sets read uploads in here."""
    _remove_abandoned_folders(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(
            prefix=f"palimpsest-{os.getpid()}-", suffix="-uploads"
        ) as folder,
        offer_uploads(_UploadFiles(artifacts, Path(folder))),
    ):
        yield


def _remove_abandoned_folders(parent: Path) -> None:
    """Remove the copies that workers of this user have left that were killed."""
    for path in parent.glob("palimpsest-*-uploads"):
        name = _FOLDER_NAME.fullmatch(path.name)
        try:
            if name is not None and path.stat().st_uid == os.geteuid():
                os.kill(int(name.group(1)), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # another's, or gone meanwhile
