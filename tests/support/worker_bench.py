"""A worker that runs in the test itself, with a job store that the test plans for as the gateway
does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

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
from tests.support.migrated import open_migrated
from tests.support.tiny_chain import DATA, MODEL
from workers.lease import LeaseProcess
from workers.runner import MachineInfo, Runner
from workers.stages import registry as stages

TENANT = "alice"


@dataclass
class Bench:
    """A job store, an artifact store and a worker that runs in the test itself."""

    root: Path
    db: Database
    runner: Runner
    catalog: Catalog
    jobs: dict[str, Job] = field(default_factory=dict)

    def plan(
        self, stage: str, method: str | None = None, *, no_cache: bool = False, **params: Any
    ) -> PlannedJob:
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
            no_cache=no_cache,
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


@contextmanager
def open_bench(folder: Path, root: Path) -> Iterator[Bench]:
    """Over `palimpsest.db` in `folder`, to which PALIMPSEST_DATABASE_URL must lead.

    Args:
        root: with the data files, as PALIMPSEST_DATA_ROOT says.
    """
    db = open_migrated(folder / "palimpsest.db")
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
        served_stages=("pretrain", "train", "unlearn", "attack", "evaluate"),
        machine=MachineInfo(torch.__version__, "cpu", 1, "DEFAULT"),
    )
    yield Bench(root, db, runner, catalog)
    lease.close()
    db.close()
