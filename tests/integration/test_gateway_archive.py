"""An audit as a zip archive: what is in it, what is named instead, and how much memory it takes."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.artifacts import ArtifactStore
from shared.errors import NotFound, TransientError
from shared.jobs import queries
from shared.jobs.tables import artifacts
from shared.roles import Role
from tests.support.gateway import AUDIT, TENANT, AuthenticatedClient, GatewayInProcess, ManualWorker

LARGE = 24 << 20
NO_AUDIT = "aud_" + "0" * 20
SAFE_PATH = re.compile(r"[a-z0-9_.-]+(/[a-z0-9_-]+)*/[a-z0-9_-]+\.(json|html|txt|bin|safetensors)")


class Archived:
    """A gateway with an audit whose jobs have all succeeded, one of them with a large artifact."""

    def __init__(self, folder: Path, large: int = 20) -> None:
        self.folder = folder
        self.gateway = gateway = GatewayInProcess(folder)
        gateway.artifacts = ArtifactStore.from_url(f"file://{folder}/artifacts")
        deps = GatewayDeps(gateway.db, gateway.artifacts, gateway.wakeup_sender, gateway.settings)
        gateway.http = AuthenticatedClient(create_app(deps).test_client())
        posted = self.gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [0]})
        self.audit = posted.get_json()["id"]
        worker: ManualWorker = self.gateway.make_worker()
        while (claim := worker.try_claim()) is not None:
            is_large = claim.job.stage == "pretrain"
            text = b"x" * large if is_large else f"{claim.job.id} ".encode() * 9
            worker.finish(claim, text, "application/x-safetensors" if is_large else "text/plain")

    def get(self, query: str = "") -> tuple[zipfile.ZipFile, dict[str, Any]]:
        answer = self.gateway.http.get(f"/v1/audits/{self.audit}/archive.zip{query}")
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{self.audit}.zip"'
        archive = zipfile.ZipFile(io.BytesIO(answer.get_data()))
        assert archive.testzip() is None
        return archive, json.loads(archive.read(f"{self.audit}/index.json"))

    def find_file(self, sha256: str) -> Path:
        (path,) = self.folder.rglob(sha256)
        return path


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archived]:
    made = Archived(tmp_path_factory.mktemp("archived"), LARGE)
    yield made
    made.gateway.close()


def test_everything_of_an_audit_is_in_it_under_names_for_people(archived: Archived) -> None:
    archive, index = archived.get()
    names = archive.namelist()
    assert len(set(map(str.lower, names))) == len(names)
    assert all(SAFE_PATH.fullmatch(name) for name in names), names
    top = [name for name in names if name.count("/") == 1]
    assert sorted(top) == [
        f"{archived.audit}/{n}" for n in ("index.json", "manifest.json", "report.json")
    ]
    jobs = queries.list_jobs(archived.gateway.db, TENANT, limit=200).items
    records = [json.loads(archive.read(name)) for name in names if name.endswith("/job.json")]
    assert {record["id"] for record in records} == {job.id for job in jobs}
    rows = {(row["job"], row["role"]): row for row in index["artifacts"]}
    assert rows.keys() == {(job.id, a.role) for job in jobs for a in job.artifacts}
    for row in rows.values():
        stored = archived.gateway.artifacts.get(row["sha256"])
        assert archive.read(f"{archived.audit}/{row['path']}") == stored
    assert archive.read(f"{archived.audit}/report.json")
    first = min(n for n in names if "/jobs/" in n)
    assert re.search(r"/jobs/00001-(pretrain|selftest)-seed0/", first)
    assert json.loads(archive.read(f"{archived.audit}/manifest.json"))["payloadType"]


def test_models_may_be_left_out(archived: Archived) -> None:
    archive, index = archived.get("?models=false")
    left_out = [row for row in index["artifacts"] if row["path"] is None]
    assert {row["missing"] for row in left_out} == {"left out: models=false"}
    assert {row["role"] for row in left_out} >= {Role.BASE}
    assert sum(info.file_size for info in archive.infolist()) < LARGE


def test_its_memory_does_not_grow_with_the_artifacts(archived: Archived) -> None:
    path = f"/v1/audits/{archived.audit}/archive.zip"
    tracemalloc.start()
    try:
        answer = archived.gateway.http.get(path)
        received = sum(len(chunk) for chunk in answer.iter_encoded())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received > LARGE
    assert peak < LARGE / 2


@pytest.mark.parametrize("how", ["lost", "changed", "cut"])
def test_a_damaged_artifact_is_named_and_made_again(tmp_path: Path, how: str) -> None:
    archived = Archived(tmp_path)
    _, before = archived.get()
    (row,) = (row for row in before["artifacts"] if row["stage"] == "pretrain")
    file = archived.find_file(row["sha256"])
    content = file.read_bytes()
    file.unlink()
    if how != "lost":
        file.write_bytes(content[:-1] + (b"!" if how == "changed" else b""))
    archive, index = archived.get()
    (damaged,) = (row for row in index["artifacts"] if row["stage"] == "pretrain")
    assert damaged["path"] is None
    assert f"job {row['job']} is rebuilding it" in damaged["missing"]
    assert not any(name.endswith("/base.safetensors") for name in archive.namelist())
    assert queries.get_job(archived.gateway.db, TENANT, row["job"]).state == "queued"
    assert len([r for r in index["artifacts"] if r["path"]]) == len(index["artifacts"]) - 1
    archived.gateway.close()


def test_what_has_expired_is_left_out_even_if_its_bytes_are_still_there(tmp_path: Path) -> None:
    archived = Archived(tmp_path)
    _, before = archived.get()
    (row,) = (row for row in before["artifacts"] if row["stage"] == "pretrain")
    with archived.gateway.db.write() as connection:
        these = artifacts.c.sha256 == row["sha256"]
        connection.execute(update(artifacts).where(these).values(expired_at=86_400.0))
    archive, index = archived.get()
    (expired,) = (one for one in index["artifacts"] if one["stage"] == "pretrain")
    assert (expired["path"], expired["missing"]) == (None, "expired on 1970-01-02")
    assert not any(name.endswith("/base.safetensors") for name in archive.namelist())
    archived.find_file(row["sha256"]).unlink()
    assert archived.get()[1] == index  # nothing rebuilds it
    assert queries.get_job(archived.gateway.db, TENANT, row["job"]).state == "succeeded"
    archived.gateway.close()


def test_a_lost_artifact_of_several_jobs_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = Archived(tmp_path)
    _, before = archived.get()
    shared = Counter(row["sha256"] for row in before["artifacts"]).most_common(1)[0][0]
    archived.find_file(shared).unlink()
    store, looks = archived.gateway.artifacts, Counter[str]()
    is_intact = store.is_intact

    def count(sha256: str, size: int) -> bool:
        looks[sha256] += 1
        return is_intact(sha256, size)

    monkeypatch.setattr(store, "is_intact", count)
    _, index = archived.get()
    missing = [row["missing"] for row in index["artifacts"] if row["sha256"] == shared]
    assert len(missing) > 1
    assert len(set(missing)) == 1
    assert looks[shared] == 2  # the second look, before it is made again, included
    archived.gateway.close()


def test_an_archive_that_cannot_begin_is_refused_as_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = Archived(tmp_path)

    def away(*_: object) -> bool:
        raise TransientError("the artifact store did not answer")

    monkeypatch.setattr(archived.gateway.artifacts, "is_intact", away)
    answer = archived.gateway.http.get(f"/v1/audits/{archived.audit}/archive.zip")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    archived.gateway.close()


def test_an_archive_of_an_audit_that_is_deleted_meanwhile_has_no_end(tmp_path: Path) -> None:
    archived = Archived(tmp_path, 4 << 20)
    path = f"/v1/audits/{archived.audit}"
    chunks = archived.gateway.http.get(f"{path}/archive.zip").iter_encoded()
    next(chunks)
    assert archived.gateway.http.delete(path).status_code in (200, 202)
    with pytest.raises(NotFound):
        list(chunks)
    archived.gateway.close()


def test_an_audit_without_a_report_has_an_archive_too(tmp_path: Path) -> None:
    gateway = GatewayInProcess(tmp_path)
    audit = gateway.http.post("/v1/audits", json=AUDIT).get_json()["id"]
    answer = gateway.http.get(f"/v1/audits/{audit}/archive.zip")
    archive = zipfile.ZipFile(io.BytesIO(answer.get_data()))
    index = json.loads(archive.read(f"{audit}/index.json"))
    assert (index["manifest"], index["artifacts"], index["state"]) == (None, [], "queued")
    for wrong in (NO_AUDIT, "aud_x", "..%2f.."):
        assert gateway.http.get(f"/v1/audits/{wrong}/archive.zip").status_code == 404
    assert gateway.http.get(f"/v1/audits/{audit}/archive.zip?models=x").status_code == 422
    gateway.close()
