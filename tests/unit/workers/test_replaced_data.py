"""A data file that is replaced: between two submissions there are new jobs and new results, and a
job that was waiting is refused. Planned as the gateway does it, run as a worker does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.artifacts import ArtifactStore
from shared.catalog import Catalog, CatalogEntry
from shared.config import Settings
from shared.data_files import DataRoot
from shared.jobs import submit
from shared.jobs.database import Database
from shared.jobs.plan import plan_job
from shared.jobs.queries import get_job
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.records import Input, Job, PlannedJob
from shared.ml import REGISTRIES
from tests.support.lpips import FILE, make_random_weights
from tests.support.migrated import open_migrated
from tests.support.tiny_chain import DATA, MODEL, write_data
from workers.lease import LeaseProcess
from workers.runner import MachineInfo, Runner
from workers.stages import registry as stages

pytestmark = pytest.mark.slow

TENANT = "alice"
FOLDER = {"name": "image_folder", "params": {"path": "faces", "size": 9}}


@dataclass
class Bench:
    """A job store, an artifact store and a worker that runs in the test itself."""

    root: Path
    db: Database
    runner: Runner
    catalog: Catalog
    jobs: dict[str, Job] = field(default_factory=dict)

    def plan(self, stage: str, method: str | None = None, **params: Any) -> PlannedJob:
        """With the inputs that earlier jobs of `run` made."""
        taken = self.catalog.describe(stage, method, params)
        made = {a: job for job in self.jobs.values() for a in job.produces}
        parents = {role: made[role] for role in (*taken.needs, *taken.uses) if role in made}
        inputs = tuple(Input(role, parent=job.id) for role, job in parents.items())
        keys = {job.id: job.request_key for job in parents.values()}
        identify = DataRoot(self.root).identify_files
        return plan_job(
            self.catalog,
            stage,
            method,
            params,
            0,
            inputs,
            parent_request_keys=keys,
            identify_files=identify,
        )

    def post(self, stage: str, method: str | None = None, **params: Any) -> str:
        planned = self.plan(stage, method, **params)
        return submit.submit_jobs(self.db, TENANT, [planned]).jobs[planned.request_key]

    def end(self, job_id: str) -> Job:
        """Run all that waits."""
        self.runner.run_until_idle()
        return get_job(self.db, TENANT, job_id)

    def run(self, stage: str, method: str | None = None, **params: Any) -> Job:
        job = self.end(self.post(stage, method, **params))
        assert job.state == "succeeded", job.message
        self.jobs[stage] = job
        return job

    def train(self) -> None:
        """Up to the unlearned models."""
        self.run("pretrain", dataset=DATA, model=MODEL)
        self.run("train", dataset=DATA, size=12)
        self.run("unlearn", "gradient_ascent", deletions=3)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(root))
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/palimpsest.db")
    db = open_migrated(tmp_path / "palimpsest.db")
    catalog = Catalog(
        CatalogEntry.from_plugin(plugin)
        for registry in (*REGISTRIES, stages)
        for plugin in registry
    )
    lease = LeaseProcess("w1")
    runner = Runner(
        Settings(),
        db,
        ArtifactStore.from_url("memory://"),
        catalog,
        WakeupSender(InMemoryWakeup()),
        lease,
        worker="w1",
        served_stages=("pretrain", "train", "unlearn", "evaluate"),
        machine=MachineInfo(torch.__version__, "cpu", 1, "DEFAULT"),
    )
    yield Bench(root, db, runner, catalog)
    lease.close()
    db.close()


def write_faces(root: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for place in ("a", "b"):
        (root / "faces" / place).mkdir(parents=True, exist_ok=True)
        for n in range(20):
            Image.fromarray(draw.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
                root / f"faces/{place}/{n}.png"
            )


Write = Callable[[Path, int], None]
EACH = pytest.mark.parametrize(
    ("dataset", "write"), [(DATA, write_data), (FOLDER, write_faces)], ids=["file", "folder"]
)


@EACH
def test_what_is_replaced_between_two_submissions_gives_new_results(
    bench: Bench, dataset: Any, write: Write
) -> None:
    def made() -> Job:
        return bench.run("pretrain", dataset=dataset, model=MODEL)

    write(bench.root, 0)
    first = made()
    assert made().id == first.id
    write(bench.root, 1)
    second = made()
    assert second.request_key != first.request_key
    assert second.cache_key != first.cache_key
    assert second.reused_from is None
    assert {a.sha256 for a in second.artifacts}.isdisjoint(a.sha256 for a in first.artifacts)
    write(bench.root, 0)
    assert [a.sha256 for a in made().artifacts] == [a.sha256 for a in first.artifacts]


@EACH
def test_what_is_replaced_while_a_job_waits_is_refused(
    bench: Bench, dataset: Any, write: Write
) -> None:
    write(bench.root, 0)
    waiting = bench.post("pretrain", dataset=dataset, model=MODEL)
    write(bench.root, 1)
    job = bench.end(waiting)
    path = dataset["params"]["path"]
    assert (job.state, job.failure) == ("failed", "invalid")
    assert str(job.message).startswith(
        f"params.dataset.params.path: {path!r} in the data root has changed since the"
    )
    assert "submit it again" in str(job.message)
    assert bench.run("pretrain", dataset=dataset, model=MODEL).id != waiting


def test_what_is_replaced_while_a_job_runs_gives_no_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage = Runner._run_stage

    def replacing(*arguments: Any) -> Any:
        outputs = run_stage(*arguments)
        write_data(bench.root, 1)
        return outputs

    monkeypatch.setattr(Runner, "_run_stage", replacing)
    write_data(bench.root, 0)
    job = bench.end(bench.post("pretrain", dataset=DATA, model=MODEL))
    assert (job.state, job.failure, job.artifacts) == ("failed", "invalid", ())
    assert "'tiny.npz' in the data root has changed since the job was planned" in str(job.message)


def test_a_job_that_reads_what_its_inputs_name_is_refused_too(bench: Bench) -> None:
    """`evaluate` is told by FORGET_SETS which data set to take its public samples from."""
    draw = np.random.default_rng(0)
    arrays = {
        "images": draw.random((200, 9, 9)),
        "labels": np.arange(200) % 4,
        "test_labels": np.arange(40) % 4,
    }
    np.savez(bench.root / "tiny.npz", **arrays, test_images=draw.random((40, 9, 9)))
    bench.train()
    waiting = bench.post("evaluate")
    assert bench.end(waiting).data_digests == bench.jobs["pretrain"].data_digests
    fresh = bench.post("evaluate", decoys=5)
    # the train split is the same
    np.savez(bench.root / "tiny.npz", **arrays, test_images=draw.random((40, 9, 9)))
    job = bench.end(fresh)
    assert (job.state, job.failure) == ("failed", "invalid")
    assert "'tiny.npz' in the data root has changed since the job was planned" in str(job.message)


def write_weights(root: Path, scale: float) -> None:
    from safetensors.torch import save_file

    save_file({name: scale * tensor for name, tensor in make_random_weights().items()}, root / FILE)


def test_replaced_weights_of_lpips_are_noticed_in_the_same_ways(bench: Bench) -> None:
    write_data(bench.root)
    bench.train()
    write_weights(bench.root, 1)
    first = bench.run("evaluate", lpips_weights=FILE)
    waiting = bench.post("evaluate", lpips_weights=FILE, decoys=5)
    write_weights(bench.root, 2)
    second = bench.end(bench.post("evaluate", lpips_weights=FILE))
    assert second.state == "succeeded", second.message
    assert second.request_key != first.request_key
    assert {a.sha256 for a in second.artifacts if a.role == "EVALUATION"} != {
        a.sha256 for a in first.artifacts if a.role == "EVALUATION"
    }
    refused = get_job(bench.db, TENANT, waiting)
    assert (refused.state, refused.failure) == ("failed", "invalid")
    assert str(refused.message).startswith(
        f"params.lpips_weights: {FILE!r} in the data root has changed"
    )


def test_another_cpu_is_another_condition(bench: Bench) -> None:
    """What its vector instructions round, others round otherwise: nothing is reused."""
    write_data(bench.root)
    keys = []
    for cpu in ("DEFAULT", "AVX2", "AVX2"):
        bench.runner.machine = MachineInfo(torch.__version__, "cpu", 1, cpu)
        # as if planned for other code: an equal job is planned again
        with bench.db.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET dedup_key = NULL")
        keys.append(bench.run("pretrain", dataset=DATA, model=MODEL).cache_key)
    assert len(set(keys)) == 2
    assert bench.jobs["pretrain"].reused_from is not None


def test_what_a_deletion_took_of_an_ending_job_is_stored_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes were there before, of another job that was deleted since."""
    store_outputs = Runner._store_outputs

    def deleting(self: Runner, *arguments: Any) -> Any:
        artifacts = store_outputs(self, *arguments)
        for artifact in artifacts:
            self.artifacts.delete(artifact.sha256)
        return artifacts

    monkeypatch.setattr(Runner, "_store_outputs", deleting)
    write_data(bench.root, 0)
    job = bench.run("pretrain", dataset=DATA, model=MODEL)
    assert all(bench.runner.artifacts.is_intact(a.sha256, a.size) for a in job.artifacts)
