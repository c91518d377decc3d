"""Uploads as files within a job: where they lie, and that nothing else is opened through them."""

from __future__ import annotations

import io
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.artifacts import ArtifactStore
from shared.data_files import PlannedFiles
from shared.data_root import open_file
from shared.errors import DamagedArtifact, InvalidRequest
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef
from shared.uploaded_files import open_upload
from workers.uploads import uploads_as_files

FIELD = "params.dataset.params.path"


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.from_url(
        "memory://" if request.param == "memory" else f"file://{tmp_path}/artifacts"
    )


def make_npz() -> bytes:
    file = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(40) % 4)
    return file.getvalue()


def test_a_data_set_is_read_from_an_upload(store: ArtifactStore) -> None:
    sha256 = store.put(make_npz())
    path = f"upload:{sha256}"
    dataset = open_dataset(PluginRef(name="npz", params={"path": path}))
    with PlannedFiles({path: sha256}).guard_reads(), uploads_as_files(store):
        samples = dataset.load("train")
    assert samples.images.dtype == torch.float32
    assert len(samples.labels) == 32


def test_it_must_have_been_planned(store: ArtifactStore) -> None:
    sha256 = store.put(make_npz())
    dataset = open_dataset(PluginRef(name="npz", params={"path": f"upload:{sha256}"}))
    with (
        PlannedFiles({}).guard_reads(),
        uploads_as_files(store),
        pytest.raises(InvalidRequest, match="since the job was planned"),
    ):
        dataset.load("train")


def test_what_was_deleted_is_told(store: ArtifactStore) -> None:
    sha256 = store.put(b"data")
    store.delete(sha256)
    with uploads_as_files(store), pytest.raises(InvalidRequest, match="upload the file again"):
        open_upload(sha256, FIELD)
    with pytest.raises(InvalidRequest, match="upload the file again"):  # outside a job
        open_upload(sha256, FIELD)


def test_damaged_bytes_are_not_read(tmp_path: Path) -> None:
    store = ArtifactStore.from_url(f"file://{tmp_path}")
    sha256 = store.put(b"data")
    (tmp_path / "sha256" / sha256[:2] / sha256).write_bytes(b"dat4")
    with uploads_as_files(store), pytest.raises(DamagedArtifact):
        open_upload(sha256, FIELD)


def test_copies_end_with_the_job(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.put(b"data")
    with uploads_as_files(store):
        path = open_upload(sha256, FIELD)
        assert open_upload(sha256, FIELD) == path
        with open_file(path, FIELD) as file:
            assert file.read() == b"data"
        neighbour = path.with_name("neighbour")
        if not path.is_relative_to(tmp_path):
            neighbour.write_bytes(b"x")
            with pytest.raises(InvalidRequest):  # only what was fetched may lie outside the root
                open_file(neighbour, FIELD)
    assert path.exists() == path.is_relative_to(tmp_path)
    assert store.get(sha256) == b"data"
    assert not os.path.exists(neighbour)


def test_what_a_killed_worker_has_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = ArtifactStore.from_url("memory://")
    sha256 = store.put(make_npz())
    pid = os.fork()
    if pid == 0:
        with uploads_as_files(store):
            (next(tmp_path.iterdir()) / sha256).write_bytes(b"a copy")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.rglob(sha256))) == 1
    with uploads_as_files(store), uploads_as_files(store):
        assert len(list(tmp_path.iterdir())) == 2  # its own, one within the other
    assert list(tmp_path.iterdir()) == []
