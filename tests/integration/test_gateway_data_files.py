"""Jobs that name files of the data root: what identifies them, and what reading them costs
others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.gateway.deps import EXTENSION_KEY
from services.gateway.planning_limiter import READERS
from shared.artifacts import compute_sha256
from shared.catalog import Catalog
from shared.data_files import ABSENT, DataFile, DataRoot
from shared.jobs import worker_registry
from tests.support.gateway import AUDIT, GatewayInProcess, make_catalog
from tests.support.waiting import TIMEOUT_S

READ = {"stage": "sleep", "params": {"path": "mine.npz"}}


def reading_catalog() -> Catalog:
    """The stage `sleep` reads a file, and digits are a file that need not be there."""
    path = {"type": "string", "x-data": True}
    entries = []
    for entry in make_catalog():
        if entry.name == "sleep":
            properties = {**entry.params_schema["properties"], "path": path}
            entry = entry.model_copy(
                update={"params_schema": {**entry.params_schema, "properties": properties}}
            )
        if entry.name == "digits":
            entry = entry.model_copy(update={"data_files": ["digits.npz"]})
        entries.append(entry)
    return Catalog(entries)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def gateway(tmp_path: Path, root: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path, publish=False, data_root=root)
    worker_registry.publish_catalog(made.db, reading_catalog())
    yield made
    made.close()


def test_a_job_is_planned_with_what_its_files_are_now(
    gateway: GatewayInProcess, root: Path
) -> None:
    (root / "mine.npz").write_bytes(b"one")
    first = gateway.post(READ)
    assert first["data"] == {"mine.npz": compute_sha256(b"one")}
    assert gateway.post(READ)["id"] == first["id"]
    (root / "mine.npz").write_bytes(b"two")
    assert gateway.post(READ)["data"] == {"mine.npz": compute_sha256(b"two")}


def test_data_files_behind_an_input_that_is_named_by_its_digest_count(
    gateway: GatewayInProcess, root: Path
) -> None:
    """Two versions of a file may come to the same bytes; what else is read of the file is of one of
    them."""
    worker, jobs = gateway.make_worker(), []
    for body in (b"one", b"two"):
        (root / "mine.npz").write_bytes(body)
        gateway.post(READ)
        sha256 = worker.finish(worker.claim(), b"the same from both")
        jobs.append(gateway.post({"stage": "sleep", "inputs": {"BASE": sha256}}))
        worker.finish(worker.claim(), body)
    assert [job["data"] for job in jobs] == [
        {"mine.npz": compute_sha256(body)} for body in (b"one", b"two")
    ]
    assert jobs[0]["request_key"] != jobs[1]["request_key"]
    (root / "mine.npz").write_bytes(b"one")
    assert gateway.post({"stage": "sleep", "inputs": {"BASE": sha256}})["id"] == jobs[0]["id"]


def test_a_file_is_not_combined_with_another_version_of_it(
    gateway: GatewayInProcess, root: Path
) -> None:
    worker = gateway.make_worker()
    (root / "mine.npz").write_bytes(b"one")
    gateway.post(READ)
    sha256 = worker.finish(worker.claim())
    (root / "mine.npz").write_bytes(b"two")
    answer = gateway.http.post("/v1/jobs", json={**READ, "inputs": {"BASE": sha256}})
    assert (answer.status_code, answer.get_json()["field"]) == (422, "inputs.BASE")
    assert (
        "'mine.npz' in the data root has changed since input BASE was produced"
        in answer.get_json()["detail"]
    )


def test_that_a_file_is_not_there_is_one_version_of_it(
    gateway: GatewayInProcess, root: Path
) -> None:
    base = {"stage": "pretrain", "params": {"dataset": "digits", "model": "mlp"}}
    train = {"stage": "train", "params": {"dataset": "digits"}}
    before = gateway.post(base)
    assert before["data"] == {"digits.npz": ABSENT}
    assert gateway.post({**train, "from": before["id"]})["data"] == {"digits.npz": ABSENT}
    (root / "digits.npz").write_bytes(b"one")
    assert gateway.post(base)["id"] != before["id"]
    answer = gateway.http.post("/v1/jobs", json={**train, "inputs": {"BASE": before["id"]}})
    assert (answer.status_code, answer.get_json()["field"]) == (422, "inputs.BASE")


def test_a_file_that_must_be_there_is_asked_for_though_another_job_could_do_without(
    root: Path, tmp_path: Path
) -> None:
    """`digits.npz` is looked for by the data set, and named by a stage of the same audit."""
    wanting = []
    for entry in reading_catalog():
        if entry.name == "evaluate":
            schema = {
                **entry.params_schema,
                "properties": {"path": {"type": "string", "x-data": True}},
            }
            entry = entry.model_copy(update={"params_schema": schema})
        wanting.append(entry)
    gateway = GatewayInProcess(tmp_path, publish=False, data_root=root)
    worker_registry.publish_catalog(gateway.db, Catalog(wanting))
    audit = {**AUDIT, "evaluate": {"path": "digits.npz"}}
    answer = gateway.http.post("/v1/audits", json=audit)
    assert (answer.status_code, answer.get_json()["field"]) == (422, "evaluate.path")
    assert "there is no 'digits.npz' in the data root" in answer.get_json()["detail"]
    (root / "digits.npz").write_bytes(b"one")
    assert gateway.http.post("/v1/audits", json=audit).status_code == 202
    gateway.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/audits", AUDIT), ("/v1/audits?dry_run=true", AUDIT), ("/v1/jobs", READ)],
)
def test_while_files_are_read_for_one_others_are_planned(
    gateway: GatewayInProcess,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
) -> None:
    (root / "mine.npz").write_bytes(b"one")
    reading, go_on, digests = threading.Event(), threading.Event(), DataRoot.identify_files

    def slow(self: DataRoot, files: Sequence[DataFile]) -> dict[str, str]:
        if files and threading.current_thread() is reader:
            reading.set()
            assert go_on.wait(TIMEOUT_S)
        return digests(self, files)

    monkeypatch.setattr(DataRoot, "identify_files", slow)
    answers = []
    long = (
        {**body, "params": {**READ["params"], "note": "x" * 20_000}} if path == "/v1/jobs" else body
    )
    reader = threading.Thread(target=lambda: answers.append(gateway.http.post(path, json=long)))
    reader.start()
    assert reading.wait(TIMEOUT_S)
    with gateway.app.extensions[EXTENSION_KEY].planning_limiter.acquire():
        pass  # nobody plans
    assert gateway.http.post("/v1/audits", json=AUDIT).status_code == 202
    go_on.set()
    reader.join()
    assert answers[0].status_code in (200, 202)


def test_files_are_read_for_few_at_a_time_and_the_others_come_again(
    gateway: GatewayInProcess, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "mine.npz").write_bytes(b"one")
    full, go_on, digests = (
        threading.Barrier(READERS + 1),
        threading.Event(),
        DataRoot.identify_files,
    )

    def slow(self: DataRoot, files: Sequence[DataFile]) -> dict[str, str]:
        full.wait(TIMEOUT_S)
        assert go_on.wait(TIMEOUT_S)
        return digests(self, files)

    with monkeypatch.context() as patch:
        patch.setattr(DataRoot, "identify_files", slow)
        patch.setattr(gateway.app.extensions[EXTENSION_KEY].reading_limiter, "_max_wait_s", 0.01)
        readers = [threading.Thread(target=gateway.http.post, args=("/v1/jobs",), kwargs={"json": READ})
                   for _ in range(READERS)]  # fmt: skip
        for reader in readers:
            reader.start()
        full.wait(TIMEOUT_S)
        answer = gateway.http.post("/v1/jobs", json=READ)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert "reading data files for other requests" in answer.get_json()["detail"]
        assert gateway.post({"stage": "sleep"})["created"] is True  # needs none
        go_on.set()
        for reader in readers:
            reader.join()
    assert gateway.post(READ)["created"] is False


def test_an_upload_is_a_data_file_that_its_name_identifies(gateway: GatewayInProcess) -> None:
    sha256 = gateway.http.post("/v1/artifacts", data=b"rows").get_json()["sha256"]
    job = gateway.post({"stage": "sleep", "params": {"path": f"upload:{sha256}"}})
    assert job["data"] == {f"upload:{sha256}": sha256}
    kept = gateway.http.delete(f"/v1/artifacts/{sha256}")
    assert kept.status_code == 409
    assert job["id"] in kept.get_json()["detail"]
    gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert gateway.http.delete(f"/v1/artifacts/{sha256}").status_code == 204


@pytest.mark.parametrize("name", ["0" * 64, "x", "", "../../etc/passwd", "A" * 64])
def test_an_upload_that_one_does_not_have_is_refused(gateway: GatewayInProcess, name: str) -> None:
    gateway.artifacts.put(b"of no tenant")
    other = compute_sha256(b"of no tenant")
    for path in (f"upload:{name}", f"upload:{other}"):
        refused = gateway.post({"stage": "sleep", "params": {"path": path}}, 422)
        assert refused["field"] == "params.path"
        assert "upload" in refused["detail"]
