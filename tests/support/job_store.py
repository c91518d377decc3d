"""A job store with shortcuts to bring jobs into any state, for tests of the store's contract."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select, update

from shared.jobs import attempts, completion, queries, reconcile, submit
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.records import Artifact, Claim, Event, Input, Job, PlannedJob, SubmitResult
from shared.jobs.states import Failure
from shared.jobs.tables import jobs, metadata
from shared.wiring import RunWhen
from tests.support.waiting import TIMEOUT_S

T = TypeVar("T")
ALICE, BOB = "alice", "bob"
CODE_DIGEST = "code as planned"
STAGE = "train"
PLUGIN = f"stage:{STAGE}"
EXPIRE_AT_ONCE = reconcile.ExpiryGuard(0, 0)  # every lease that has run out, at once


def compute_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_artifact(tag: str, role: str = "OUT") -> Artifact:
    """An artifact as a job would have made it."""
    return Artifact(role, compute_sha256(tag), len(tag), "text/plain")


def make_planned_job(
    tag: str,
    *parents: PlannedJob | str | Input,
    stage: str = STAGE,
    plugins: tuple[str, ...] = (PLUGIN,),
    no_cache: bool = False,
    run_when: RunWhen = RunWhen.ALL_SUCCEEDED,
) -> PlannedJob:
    """A job whose request key follows from `tag`; a parent is a planned job, a job's id, or a whole
    `Input`."""
    inputs = []
    for n, parent in enumerate(parents):
        if isinstance(parent, Input):
            inputs.append(parent)
        else:
            key = parent.request_key if isinstance(parent, PlannedJob) else parent
            inputs.append(Input(f"IN{n}", parent=key, parent_role="OUT"))
    return PlannedJob(
        compute_sha256(tag),
        stage,
        None,
        {"tag": tag},
        0,
        tuple(inputs),
        plugins,
        ("OUT",),
        CODE_DIGEST,
        no_cache,
        run_when,
    )


class JobStore:
    """One database, used as the tenant alice and by workers that have every plugin."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._dispatchers: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Dispatcher] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._dispatchers.clear()
        with self.db.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

    def submit(
        self, *planned_jobs: PlannedJob, tenant: str = ALICE, **options: Any
    ) -> SubmitResult:
        return submit.submit_jobs(self.db, tenant, planned_jobs, **options)

    def post(self, *planned_jobs: PlannedJob, tenant: str = ALICE, **options: Any) -> str:
        """Submit; the id of the last job."""
        return self.submit(*planned_jobs, tenant=tenant, **options).jobs[
            planned_jobs[-1].request_key
        ]

    def submit_audit(self, *planned_jobs: PlannedJob, tenant: str = ALICE) -> tuple[str, list[str]]:
        """Submit as an audit; its id and those of its jobs."""
        done = self.submit(
            *planned_jobs, tenant=tenant, audit=submit.AuditRequest("audit", {"any": "thing"})
        )
        return str(done.audit), [done.jobs[p.request_key] for p in planned_jobs]

    def claim(
        self,
        worker: str = "w1",
        lease_s: float = 60,
        stages: tuple[str, ...] = (STAGE,),
        plugins: tuple[str, ...] = (PLUGIN,),
    ) -> Claim | None:
        who = (worker, stages, plugins)
        if who not in self._dispatchers:
            self._dispatchers[who] = Dispatcher(self.db, *who)
        return self._dispatchers[who].claim(lease_s, secrets.token_hex(8))

    def claim_one(self, worker: str = "w1", lease_s: float = 60) -> Claim:
        """Claim where there must be something."""
        claim = self.claim(worker, lease_s)
        assert claim is not None
        return claim

    def run_job(self, tag: str, *parents: PlannedJob | str) -> str:
        """A job that has succeeded; its id. Nothing else may be queued."""
        job_id = self.post(make_planned_job(tag, *parents))
        claim = self.claim_one()
        assert claim.job.id == job_id
        self.finish(claim)
        return job_id

    def finish(self, claim: Claim, code: str = CODE_DIGEST, **options: Any) -> set[str]:
        """The attempt succeeds with one artifact, named after the job's tag."""
        tag = claim.job.params["tag"]
        options = {"cache_key": compute_sha256(f"content {tag}"), **options}
        return completion.finish_job(
            self.db, claim.job.id, claim.fence, [make_artifact(tag)], code=code, **options
        )

    def fail(self, claim: Claim, failure: Failure = Failure.ERROR) -> None:
        attempts.fail_attempt(self.db, claim.job.id, claim.fence, failure, "it broke")

    def end_lease(self, job_id: str) -> None:
        """As if the lease had run out, without the wait."""
        with self.db.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(lease_until=1.0))

    def expire_pause(self, job_id: str) -> None:
        """As if the pause after a lost attempt were over, without the wait."""
        with self.db.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(not_before=None))

    def lose_attempt(self, claim: Claim) -> None:
        """The attempt's lease runs out, and somebody notices."""
        self.end_lease(claim.job.id)
        assert self.expire_leases() == [claim.job.id]

    def expire_leases(self, max_lost: int = 3) -> list[str]:
        return reconcile.expire_leases(self.db, EXPIRE_AT_ONCE, max_lost)

    def get_job(self, job_id: str, tenant: str = ALICE) -> Job:
        return queries.get_job(self.db, tenant, job_id)

    def list_states(self, *ids: str) -> list[str]:
        return [str(self.get_job(i).state) for i in ids]

    def list_events(self, job_id: str) -> list[Event]:
        return queries.list_events(self.db, ALICE, job_id, 0, 10_000)[1]

    def list_transitions(self, job_id: str) -> list[str]:
        """The states the job went through."""
        return [e.data["to"] for e in self.list_events(job_id) if e.kind == "state"]

    def dump(self, *, without: tuple[str, ...] = ()) -> dict[str, list[Any]]:
        """Every row of every table but these."""
        with self.db.read() as connection:
            return {
                t.name: sorted(map(tuple, connection.execute(select(t))), key=repr)
                for t in metadata.sorted_tables
                if t.name not in without
            }


def run_together(*calls: Callable[[], T]) -> list[T | Exception]:
    """Run the calls in threads that start at the same moment; what each returned or raised."""
    start = threading.Barrier(len(calls))

    def one(call: Callable[[], T]) -> T | Exception:
        start.wait()
        try:
            return call()
        except Exception as error:  # whatever it is, the test looks at it
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def run_overlapping(
    db: Database, first: Callable[[Connection], Any], second: Callable[[], T], hold_s: float = 0.15
) -> T:
    """Run `second` while a transaction in which `first` has run is still open; what `second`
    returned."""
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            first(connection)
            running = pool.submit(second)
            time.sleep(hold_s)  # long enough for it to run into the locks, if it takes any
        return running.result(timeout=TIMEOUT_S)
