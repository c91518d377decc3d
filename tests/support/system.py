"""A whole Palimpsest of real processes: store, Redis, workers, reconciler, gateway; each can be
killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis
from kombu.exceptions import OperationalError

from shared.artifacts import ArtifactStore
from shared.catalog import Catalog
from shared.jobs import queries, submit, worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.plan import plan_job
from shared.jobs.queue import CeleryWakeup, make_celery
from shared.jobs.records import Input, Job
from shared.jobs.states import TERMINAL
from tests.support.servers import RedisServer, find_free_port
from tests.support.waiting import TIMEOUT_S, wait_for

TENANT = "local"
TOKEN = "a-token-for-tests"

FAST_SETTINGS = {
    "PALIMPSEST_LEASE_S": "10",
    "PALIMPSEST_LEASE_RENEW_S": "0.5",
    "PALIMPSEST_RECONCILE_INTERVAL_S": "0.5",
    "PALIMPSEST_STOP_GRACE_S": "2",
    "PALIMPSEST_CHECKPOINT_INTERVAL_S": "0.3",
    "PALIMPSEST_RETRY_BACKOFF_S": "0.5",
    "PALIMPSEST_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class System:
    """Processes run from `tree`, with their state under `home`."""

    def __init__(self, home: Path, tree: Path, database_url: str | None = None, **env: str) -> None:
        self.home, self.tree = home, tree
        home.mkdir(parents=True, exist_ok=True)
        self.redis = RedisServer(home / "redis").start()
        self.database_url = database_url or f"sqlite:///{home}/palimpsest.db"
        self.db = Database(self.database_url)
        migrate(self.db)
        self.artifacts = ArtifactStore.from_url(f"file://{home}/artifacts")
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")},
            **FAST_SETTINGS,
            "PYTHONPATH": str(tree),
            "PALIMPSEST_DATABASE_URL": self.database_url,
            "PALIMPSEST_BROKER_URL": self.redis.url,
            "PALIMPSEST_ARTIFACTS_URL": f"file://{home}/artifacts",
            "PALIMPSEST_TOKEN": TOKEN,
            **env,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """A process of the system; its output goes to `<home>/<name>.log`."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=self.home, env={**self.env, **env}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes[name] = process
        return process

    def start_worker(
        self, stages: str, name: str | None = None, timeout_s: float = TIMEOUT_S, **env: str
    ) -> subprocess.Popen[bytes]:
        """A worker, ready to claim when this returns (its lease process has been seen)."""
        name = name or f"worker-{stages}"
        process = self.start(name, "-m", "workers", "--stages", stages, "--name", name, **env)

        def is_up() -> bool:
            assert process.poll() is None, f"{name} ended: {self.read_log(name)}"
            return bool(self.find_lease_process(process)) and self.is_live(name)

        if timeout_s:
            wait_for(is_up, timeout_s, f"{name} is up")
        return process

    def is_live(self, name: str) -> bool:
        return any(w.id == name and w.live for w in worker_registry.list_workers(self.db))

    def start_reconciler(self) -> subprocess.Popen[bytes]:
        return self.start("reconciler", "-m", "services.reconciler")

    def start_gateway(self, port: int | None = None, **env: str) -> str:
        """A gateway that answers; its URL."""
        port = port or find_free_port()
        self.start(
            "gateway", "-m", "services.gateway", "--port", str(port), "--processes", "1", **env
        )
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/livez", timeout=60, verify=False).is_success
            return False

        wait_for(answers, TIMEOUT_S, "the gateway answers")
        return url

    def read_log(self, name: str) -> str:
        path = self.home / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    @staticmethod
    def find_child(worker: subprocess.Popen[bytes]) -> psutil.Process | None:
        """The pool child: the one that has a lease process."""
        lease = System.find_lease_process(worker)
        return lease.parent() if lease else None

    @staticmethod
    def find_lease_process(worker: subprocess.Popen[bytes]) -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(worker.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "workers.lease" in process.cmdline():
                        return process
        return None

    def submit(
        self, stage: str, params: Mapping[str, Any] | None = None, inputs: Mapping[str, str] | None = None, *,
        method: str | None = None, seed: int = 0, notify: bool = True, no_cache: bool = False, **options: Any,
    ) -> str:  # fmt: skip
        """Post a job past the gateway, as it would; its id."""
        catalog = wait_for(
            lambda: c if (c := worker_registry.load_catalog(self.db)).plugins else None,
            TIMEOUT_S,
            "a catalog is published",
        )
        parents = {
            i: queries.get_job(self.db, TENANT, i).request_key for i in (inputs or {}).values()
        }
        job_inputs = tuple(Input(role, parent=job) for role, job in (inputs or {}).items())
        planned = plan_job(
            catalog,
            stage,
            method,
            params or {},
            seed,
            job_inputs,
            parent_request_keys=parents,
            no_cache=no_cache,
        )
        submitted = submit.submit_jobs(self.db, TENANT, [planned], **options)
        if notify:
            with contextlib.suppress(
                OperationalError, redis.ConnectionError
            ):  # Redis may be down: that is what some tests are about
                CeleryWakeup(make_celery(self.redis.url)).notify(stage)
        return submitted.jobs[planned.request_key]

    def get_job(self, job_id: str) -> Job:
        return queries.get_job(self.db, TENANT, job_id)

    def wait(self, job_id: str, timeout_s: float = TIMEOUT_S, state: str | None = None) -> Job:
        """Wait until the job is in `state`, or has ended."""

        def reached() -> Job | None:
            job = self.get_job(job_id)
            return job if (job.state == state if state else job.state in TERMINAL) else None

        try:
            return wait_for(reached, timeout_s, f"job {job_id} {state or 'ended'}")
        except AssertionError as error:
            logs = "\n".join(f"== {n}\n{self.read_log(n)}" for n in self.processes)
            raise AssertionError(f"{error}; it is {self.get_job(job_id)}\n{logs}") from None

    def list_transitions(self, job_id: str) -> list[str]:
        """Where the job went, as `to` words."""
        return [
            e.data["to"]
            for e in queries.list_events(self.db, TENANT, job_id, 0, 10_000)[1]
            if e.kind == "state"
        ]

    def kill(
        self, name: str, sent_signal: signal.Signals = signal.SIGKILL, group: bool = False
    ) -> None:
        """Signal a process, or all that it started as well, and wait for its end."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent_signal) if group else process.send_signal(sent_signal)
        process.wait(timeout=TIMEOUT_S)

    def load_catalog(self) -> Catalog:
        return worker_registry.load_catalog(self.db)

    def close(self) -> None:
        for name in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.processes[name].pid, signal.SIGCONT)
            self.kill(name, group=True)
        self.redis.kill()
        self.db.close()
