"""In any order of what users, a worker and the collector do: nothing that is referred to is
collected, and what nothing refers to is, in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import delete, insert, select, update

from shared.artifacts import ArtifactStore
from shared.errors import Conflict
from shared.jobs import attempts, audit_deletion, completion, control, uploads
from shared.jobs.collector import Collector
from shared.jobs.database import Database
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.records import Artifact, Input
from shared.jobs.retention import DAY_S, PERSONAL_ROLES
from shared.jobs.states import LIVE
from shared.jobs.submit import AuditRequest
from shared.jobs.tables import (
    artifacts,
    audit_jobs,
    audits,
    declarations,
    declared_uploads,
    events,
    idempotency,
    job_artifacts,
    job_inputs,
    jobs,
)
from tests.support.job_store import (
    ALICE,
    BOB,
    CODE_DIGEST,
    JobStore,
    compute_sha256,
    make_planned_job,
)
from tests.support.migrated import open_in_memory
from tests.support.retention import RETENTION, collect_all

# a -> b -> c; a -> d; what `b` makes shows samples
GRAPH = {"a": "", "b": "a", "c": "b", "d": "a"}
ROLES = {"b": "RECONSTRUCTION"}
ANY = st.integers(0, 1000)
TAG = st.sampled_from(sorted(GRAPH))
TENANT = st.sampled_from([ALICE, BOB])


def ancestry(tag: str) -> list[str]:
    return [*[t for parent in GRAPH[tag] for t in ancestry(parent)], tag]


@dataclass
class World:
    """All that is stored, read at once."""

    jobs: dict[str, Any]
    audits: dict[str, Any]
    links: set[tuple[str, str]]
    inputs: list[Any]
    made: list[Any]  # links of jobs to artifacts, with these
    declared: list[Any]
    now: float

    @classmethod
    def read(cls, db: Database) -> World:
        with db.read() as connection:
            made = select(
                job_artifacts, artifacts.c.size, artifacts.c.expired_at, artifacts.c.origin
            ).join(artifacts)
            declared = select(declarations, declared_uploads.c.sha256).join(
                declared_uploads, isouter=True
            )
            return cls(
                {r.id: r for r in connection.execute(select(jobs))},
                {r.id: r for r in connection.execute(select(audits)) if not r.deleting},
                {(r.audit, r.job) for r in connection.execute(select(audit_jobs))},
                connection.execute(select(job_inputs)).all(),
                connection.execute(made).all(),
                connection.execute(declared).all(),
                connection.execute(select(db.now)).scalar_one(),
            )

    def has_ended_for(self, job_id: str, kept_s: float) -> bool:
        job = self.jobs[job_id]
        return job.state not in LIVE and job.finished_at <= self.now - kept_s

    def list_kept_audits(self) -> set[str]:
        return {
            audit
            for audit, row in self.audits.items()
            if row.created_at > self.now - RETENTION.audits_s
            or any(
                not self.has_ended_for(job, RETENTION.audits_s)
                for a, job in self.links
                if a == audit
            )
        }

    def list_kept_jobs(self, deleted: set[str]) -> set[str]:
        """By the definition: again and again through all, until nothing is added.

        Args:
            deleted: audits that a user has deleted meanwhile; what only they have is not needed.
        """
        shared = {job for audit, job in self.links if audit not in deleted}
        own = {
            job
            for audit, job in self.links
            if audit in deleted and job not in shared and not self.jobs[job].pinned
        }
        kept_audits = self.list_kept_audits()
        linked = {job for _, job in self.links}
        kept = {job for audit, job in self.links if audit in kept_audits - deleted}
        kept |= {r.job for r in self.declared} & self.jobs.keys()
        kept |= {i for i, r in self.jobs.items() if r.state in LIVE and i not in own}
        kept |= {
            i
            for i, r in self.jobs.items()
            if i not in own
            and (r.pinned or i not in linked)
            and not self.has_ended_for(i, RETENTION.jobs_s)
        }
        read = {
            (self.jobs[i.job].tenant, i.sha256)
            for i in self.inputs
            if i.job in kept and self.jobs[i.job].state in LIVE
        }
        read |= self.list_declared()
        kept |= {m.job for m in self.made if (m.tenant, m.sha256) in read}
        while True:
            more = {i.parent for i in self.inputs if i.job in kept and i.parent}
            more |= {self.jobs[i].reused_from for i in kept} - {None}
            if more <= kept:
                return kept
            kept |= more

    def list_declared(self) -> set[tuple[str, str]]:
        """The tenant's own bytes: what another has of the same goes when that one's are old."""
        return {(r.tenant, r.sha256) for r in self.declared}

    def may_expire(self, link: Any) -> bool:
        """Whether an artifact's bytes may have gone while its job stays."""
        makers = [m.job for m in self.made if m.tenant == link.tenant and m.sha256 == link.sha256]
        takers = [
            i.job
            for i in self.inputs
            if i.parent in makers
            or (i.sha256 == link.sha256 and self.jobs[i.job].tenant == link.tenant)
        ]
        return (
            link.role in PERSONAL_ROLES
            and all(self.has_ended_for(job, RETENTION.reconstructions_s) for job in makers)
            and not any(self.jobs[job].state in LIVE for job in takers)
            and (link.tenant, link.sha256) not in self.list_declared()
        )


class Machine(RuleBasedStateMachine):
    def __init__(self, store: JobStore) -> None:
        super().__init__()
        store.clear()
        self.store, self.db = store, store.db
        self.artifacts = ArtifactStore.from_url("memory://")
        self.collector = Collector(self.db, self.artifacts, RETENTION, round_s=0.0)
        self.claims: list[Any] = []

    @rule(tag=TAG, tenant=TENANT, as_audit=st.booleans())
    def submit(self, tag: str, tenant: str, as_audit: bool) -> None:
        tags = list(dict.fromkeys(ancestry(tag)))
        planned = [make_planned_job(t, *[make_planned_job(p) for p in GRAPH[t]]) for t in tags]
        audit = AuditRequest(f"audit of {tag}", {}) if as_audit else None
        with suppress(Conflict):  # its input has failed
            self.store.submit(*planned, tenant=tenant, audit=audit)

    @rule(n=ANY, tenant=TENANT)
    def post_by_digest(self, n: int, tenant: str) -> None:
        world = World.read(self.db)
        mine = [m for m in world.made if m.tenant == tenant and m.expired_at is None]
        if mine:
            link = mine[n % len(mine)]
            planned = make_planned_job(f"of {link.sha256}", Input("BYTES", sha256=link.sha256))
            self.store.submit(planned, tenant=tenant)

    @rule(how=st.sampled_from(["finish", "finish", "finish", "fail", "save"]), dies=st.booleans())
    def work(self, how: str, dies: bool) -> None:
        claim = self.claims.pop() if self.claims else self.store.claim("w1", 600)
        if claim is None:
            return
        job, tag = claim.job, str(claim.job.params["tag"])
        key = compute_sha256(f"content {tag}")
        if how == "save":
            saved = self.artifacts.put(f"state {tag}".encode())
            attempts.save_checkpoint(self.db, job.id, claim.fence, saved, key)
            self.claims.append(claim)
        elif how == "fail":
            self.store.fail(claim)
        elif cached := completion.find_cached_artifacts(self.db, job.tenant, key):
            completion.finish_job(
                self.db, job.id, claim.fence, cached[1],
                cache_key=key, code=CODE_DIGEST, reused_from=cached[0],
            )  # fmt: skip
        else:
            data = f"made by {tag}".encode()
            made = Artifact(
                ROLES.get(tag, "OUT"), self.artifacts.put(data), len(data), "text/plain"
            )
            completion.finish_job(
                self.db, job.id, claim.fence, [made], cache_key=key, code=CODE_DIGEST
            )

    @rule(n=ANY, retry=st.booleans())
    def retry_or_cancel(self, n: int, retry: bool) -> None:
        ended = sorted(World.read(self.db).jobs.items())
        if not ended:
            return
        job_id, row = ended[n % len(ended)]
        with suppress(Conflict):
            (control.retry_job if retry else control.cancel_job)(self.db, row.tenant, job_id)
        self.claims = [c for c in self.claims if not self._obey(c)]

    def _obey(self, claim: Any) -> bool:
        row = World.read(self.db).jobs.get(claim.job.id)
        if row is not None and row.state == "running" and row.stop == "cancel":
            attempts.cancel_attempt(self.db, claim.job.id, claim.fence)
            return True
        return row is None or row.state != "running"

    @rule(n=ANY)
    def declare(self, n: int) -> None:
        world = World.read(self.db)
        mine = [m for m in world.made if m.expired_at is None]
        if not mine:
            return
        link = mine[n % len(mine)]
        name = f"d{len(world.declared)}"
        row = {"id": f"{name}{link.tenant}{n}", "tenant": link.tenant, "kind": "model",
               "name": name, "version": n, "spec": "{}", "job": link.job, "created_at": 1.0}  # fmt: skip
        with self.db.write() as connection:
            done = self.db.insert(declarations).values(**row).on_conflict_do_nothing()
            if connection.execute(done).rowcount:
                connection.execute(
                    insert(declared_uploads).values(declaration=row["id"], sha256=link.sha256)
                )

    @rule()
    def undeclare(self) -> None:
        with self.db.write() as connection:
            connection.execute(delete(declarations))

    @rule(tag=TAG, tenant=TENANT)
    def push(self, tag: str, tenant: str) -> None:
        with self.artifacts.open_draft() as draft:
            draft.write(f"made by {tag}".encode())
            uploads.record_upload(
                self.db, tenant, draft.seal(), "text/plain",
                lifetime_s=RETENTION.uploads_s, quota_bytes=1 << 20, place=draft.place,
            )  # fmt: skip

    @rule(n=ANY, cancel=st.booleans())
    def delete_audit(self, n: int, cancel: bool) -> None:
        world = World.read(self.db)
        if not world.audits:
            return
        audit = sorted(world.audits)[n % len(world.audits)]
        try:
            audit_deletion.delete_audit(
                self.db, world.audits[audit].tenant, self.artifacts, audit, cancel=cancel
            )
        except Conflict:
            return
        self.claims = [c for c in self.claims if not self._obey(c)]
        self._compare(world, {audit})

    @rule(days=st.sampled_from([1, 8, 31, 91, 366]))
    def pass_time(self, days: float) -> None:
        with self.db.write() as connection:
            for column in (
                jobs.c.finished_at, audits.c.created_at, idempotency.c.created_at,
                artifacts.c.expires_at,
            ):  # fmt: skip
                older = {column.name: column - days * DAY_S}
                connection.execute(update(column.table).values(**older))

    @rule(whole=st.booleans())
    def collect(self, whole: bool) -> None:
        before = World.read(self.db)
        if whole:
            collect_all(self.collector)
        else:
            self.collector.collect()
        self._compare(before, set())

    def _compare(self, before: World, deleted: set[str]) -> None:
        """Nothing has gone that was referred to before."""
        after = World.read(self.db)
        kept_audits, kept = before.list_kept_audits() - deleted, before.list_kept_jobs(deleted)
        assert kept_audits <= after.audits.keys()
        assert kept <= after.jobs.keys()
        assert {link for link in before.links if link[0] in kept_audits} <= after.links
        still = {(m.job, m.role): m for m in after.made}
        for link in before.made:
            if link.job in kept and (link.job, link.role) in still:
                now = still[link.job, link.role]
                if link.expired_at is None and not before.may_expire(link):
                    assert now.expired_at is None
            elif link.job in kept:
                assert after.jobs[link.job].state != "succeeded"  # it is made anew
        self._check_bytes(after)

    def _check_bytes(self, world: World) -> None:
        for link in world.made:
            assert (link.expired_at is not None) or self.artifacts.has(link.sha256, link.size)
        for job in world.jobs.values():
            if job.checkpoint and job.state in LIVE:
                assert self.artifacts.get(job.checkpoint)
        with self.db.read() as connection:
            pushed = select(artifacts).where(artifacts.c.expired_at.is_(None))
            for row in connection.execute(pushed):
                assert self.artifacts.has(row.sha256, row.size)
            told = set(connection.execute(select(events.c.job)).scalars())
        assert told == world.jobs.keys()

    def teardown(self) -> None:
        """When nothing runs and nothing is declared, all goes."""
        self.undeclare()
        for tenant in (ALICE, BOB):
            for job_id, row in World.read(self.db).jobs.items():
                if row.tenant == tenant:
                    control.cancel_job(self.db, tenant, job_id)
        for job_id, row in World.read(self.db).jobs.items():
            if row.state == "running":
                attempts.cancel_attempt(self.db, job_id, row.fence)
        self.pass_time(4000)
        for _ in range(3):
            collect_all(self.collector)
        process_outbox(self.db)
        left = {name: rows for name, rows in self.store.dump().items() if rows}
        assert left.keys() <= {"erasures", "metric_totals"}, left
        assert list(self.artifacts.list_objects()) == []


@pytest.fixture
def memory_store() -> Iterator[JobStore]:
    db = open_in_memory()
    yield JobStore(db)
    db.close()


def run(store: JobStore, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: Machine(store),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate],
        ),
    )


def test_nothing_referred_to_is_collected(memory_store: JobStore) -> None:
    run(memory_store, 8, 25)


@pytest.mark.long
def test_nothing_referred_to_is_collected_in_many_orders(memory_store: JobStore) -> None:
    run(memory_store, 400, 50)
