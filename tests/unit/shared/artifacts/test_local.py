"""A local artifact survives a power cut: what the operating system was asked, in which order."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore, compute_sha256
from shared.artifacts.local import DRAFTS_FOLDER, STALE_DRAFT_S
from shared.errors import TransientError
from tests.support.artifacts import put_chunks


class Disk:
    """What a power cut would leave: names and bytes that were synced, in the order in which that
    was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[Path] = []
        self.named: list[tuple[Path, int]] = []  # (what got its name, syncs before it)
        fsync, replace, mkdir = os.fsync, os.replace, os.mkdir

        def seen_fsync(fd: int) -> None:
            self.synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
            fsync(fd)

        def seen_replace(source: Any, target: Any) -> None:
            assert Path(source) in self.synced, "the name came before the bytes"
            replace(source, target)
            self.named.append((Path(target), len(self.synced)))

        def seen_mkdir(path: Any, *args: Any, **options: Any) -> None:
            mkdir(path, *args, **options)
            self.named.append((Path(path), len(self.synced)))

        monkeypatch.setattr(os, "fsync", seen_fsync)
        monkeypatch.setattr(os, "replace", seen_replace)
        monkeypatch.setattr(os, "mkdir", seen_mkdir)

    def loses(self) -> list[Path]:
        """Names that no sync of their folder has followed."""
        return [path for path, before in self.named if path.parent not in self.synced[before:]]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def at(folder: Path, sha256: str) -> Path:
    return folder / "sha256" / sha256[:2] / sha256


@pytest.mark.parametrize(
    "put", [lambda a: a.put(b"kept"), lambda a: put_chunks(a, [b"ke", b"pt"]).sha256]
)
def test_what_was_put_is_on_the_disk_with_every_folder_above_it(
    tmp_path: Path, disk: Disk, put: Callable[[ArtifactStore], str]
) -> None:
    folder = tmp_path / "new/artifacts"
    artifacts = ArtifactStore.from_url(f"file://{folder}")
    sha256 = put(artifacts)
    assert {path for path, _ in disk.named} >= {folder, folder / "sha256", at(folder, sha256)}
    assert disk.loses() == []


def test_what_another_process_wrote_just_now_is_synced_too(tmp_path: Path, disk: Disk) -> None:
    """It may have been on its way to do so when it was killed."""
    sha256 = compute_sha256(b"kept")
    at(tmp_path, sha256).parent.mkdir(parents=True)
    at(tmp_path, sha256).write_bytes(b"kept")
    ArtifactStore.from_url(f"file://{tmp_path}").put(b"kept")
    folders = {tmp_path, tmp_path / "sha256", at(tmp_path, sha256).parent}
    assert {at(tmp_path, sha256)} | folders <= set(disk.synced)


def test_what_is_damaged_is_replaced_as_a_whole(tmp_path: Path, disk: Disk) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}")
    sha256 = artifacts.put(b"kept")
    at(tmp_path, sha256).write_bytes(b"")
    assert artifacts.put(b"kept") == sha256
    assert artifacts.get(sha256) == b"kept"
    assert disk.loses() == []


@pytest.mark.parametrize("where", ["write", "fsync"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}")
    first = artifacts.put(b"first")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", full)
        data = b"second"
    else:
        # the kernel's own answer to a file that may not grow: Python ignores its signal
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        data = os.urandom(1 << 20)
    try:
        with pytest.raises(TransientError, match="could not be stored"):
            artifacts.put(data)
    finally:
        if where == "write":
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        monkeypatch.undo()
    assert not at(tmp_path, compute_sha256(data)).exists()
    assert list((tmp_path / DRAFTS_FOLDER).iterdir()) == []
    assert artifacts.get(first) == b"first"
    assert artifacts.get(artifacts.put(data)) == data  # there is room again


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    drafts = tmp_path / DRAFTS_FOLDER
    drafts.mkdir()
    old, new = drafts / "1-old", drafts / "2-new"
    for draft in (old, new):
        draft.write_bytes(b"half")
    past = time.time() - STALE_DRAFT_S - 60
    os.utime(old, (past, past))
    ArtifactStore.from_url(f"file://{tmp_path}").put(b"x")
    assert [d.name for d in drafts.iterdir()] == [new.name]


def test_a_folder_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    artifacts.put(b"x")
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises(TransientError):
        artifacts.put(b"x")
    assert artifacts.get(artifacts.put(b"x")) == b"x"
