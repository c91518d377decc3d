"""A job store with short ways to move jobs about, for tests of what the store promises."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select, update

from shared.jobs import claims, completion, reads, reconcile, submit
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.records import Artifact, Claim, Event, Input, Job, PlannedJob, Submitted
from shared.jobs.states import Failure
from shared.jobs.tables import jobs, metadata
from tests.support.waiting import PATIENCE

T = TypeVar("T")
ALICE, BOB = "alice", "bob"
CODE = "code as planned"
STAGE = "train"
PLUGIN = f"stage:{STAGE}"
BELIEVING = reconcile.Watch(0, 0)  # every lease that has run out, at once


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def made(tag: str, role: str = "OUT") -> Artifact:
    """An artifact as a job would have made it."""
    return Artifact(role, sha(tag), len(tag), "text/plain")


def planned(
    tag: str,
    *parents: PlannedJob | str | Input,
    stage: str = STAGE,
    plugins: tuple[str, ...] = (PLUGIN,),
    fresh: bool = False,
    tolerant: bool = False,
) -> PlannedJob:
    """A job whose plan key follows from `tag`; a parent is a planned job, a job's id, or a whole `Input`."""
    inputs = []
    for n, parent in enumerate(parents):
        if isinstance(parent, Input):
            inputs.append(parent)
        else:
            key = parent.plan_key if isinstance(parent, PlannedJob) else parent
            inputs.append(Input(f"IN{n}", parent=key, parent_role="OUT"))
    return PlannedJob(sha(tag), stage, None, {"tag": tag}, 0, tuple(inputs), plugins, ("OUT",), CODE, fresh, tolerant)


class Store:
    """What tests do to one database, as the tenant alice and workers that have every plugin."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._dispatchers: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Dispatcher] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._dispatchers.clear()
        with self.db.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

    def submit(self, *what: PlannedJob, tenant: str = ALICE, **options: Any) -> Submitted:
        return submit.submit(self.db, tenant, what, **options)

    def post(self, *what: PlannedJob, tenant: str = ALICE, **options: Any) -> str:
        """Submit; the id of the last job."""
        return self.submit(*what, tenant=tenant, **options).jobs[what[-1].plan_key]

    def audit(self, *what: PlannedJob, tenant: str = ALICE) -> tuple[str, list[str]]:
        """Submit as an audit; its id and those of its jobs."""
        done = self.submit(*what, tenant=tenant, audit=submit.AuditRequest("audit", {"any": "thing"}))
        return str(done.audit), [done.jobs[p.plan_key] for p in what]

    def claim(
        self,
        worker: str = "w1",
        lease: float = 60,
        stages: tuple[str, ...] = (STAGE,),
        plugins: tuple[str, ...] = (PLUGIN,),
    ) -> Claim | None:
        who = (worker, stages, plugins)
        if who not in self._dispatchers:
            self._dispatchers[who] = Dispatcher(self.db, *who)
        return self._dispatchers[who].claim(lease, secrets.token_hex(8))

    def take(self, worker: str = "w1", lease: float = 60) -> Claim:
        """Claim where there must be something."""
        claim = self.claim(worker, lease)
        assert claim is not None
        return claim

    def run(self, tag: str, *parents: PlannedJob | str) -> str:
        """A job that has succeeded; its id. Nothing else may be queued."""
        job_id = self.post(planned(tag, *parents))
        claim = self.take()
        assert claim.job.id == job_id
        self.finish(claim)
        return job_id

    def finish(self, claim: Claim, code: str = CODE, **options: Any) -> set[str]:
        """The attempt succeeds with one artifact, named after the job's tag."""
        tag = claim.job.params["tag"]
        options = {"content_key": sha(f"content {tag}"), **options}
        return completion.finish(self.db, claim.job.id, claim.fence, [made(tag)], code=code, **options)

    def fail(self, claim: Claim, failure: Failure = Failure.ERROR) -> None:
        claims.fail(self.db, claim.job.id, claim.fence, failure, "it broke")

    def lapse(self, job_id: str) -> None:
        """As if the lease had run out, without the wait."""
        with self.db.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(lease_until=1.0))

    def expire_pause(self, job_id: str) -> None:
        """As if the pause after a lost attempt were over, without the wait."""
        with self.db.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(not_before=None))

    def lose(self, claim: Claim) -> None:
        """The attempt's lease runs out, and somebody notices."""
        self.lapse(claim.job.id)
        assert self.expire() == [claim.job.id]

    def expire(self, max_lost: int = 3) -> list[str]:
        return reconcile.expire_leases(self.db, BELIEVING, max_lost)

    def job(self, job_id: str, tenant: str = ALICE) -> Job:
        return reads.get_job(self.db, tenant, job_id)

    def states(self, *ids: str) -> list[str]:
        return [str(self.job(i).state) for i in ids]

    def events(self, job_id: str) -> list[Event]:
        return reads.events_after(self.db, ALICE, job_id, 0, 10_000)[1]

    def path(self, job_id: str) -> list[str]:
        """The states the job went through."""
        return [e.data["to"] for e in self.events(job_id) if e.kind == "state"]

    def dump(self) -> dict[str, list[Any]]:
        """Every row of every table."""
        with self.db.read() as connection:
            return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in metadata.sorted_tables}


def together(*calls: Callable[[], T]) -> list[T | Exception]:
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


def overlapping(db: Database, first: Callable[[Connection], Any], second: Callable[[], T], hold: float = 0.15) -> T:
    """Run `second` while a transaction in which `first` has run is still open; what `second` returned."""
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            first(connection)
            running = pool.submit(second)
            time.sleep(hold)  # long enough for it to run into the locks, if it takes any
        return running.result(timeout=PATIENCE)
