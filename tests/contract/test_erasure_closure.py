"""Whatever was made of whatever: all that is derived of erased uploads goes, and nothing that
anything else refers to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from shared.artifacts import ArtifactStore, compute_sha256
from shared.jobs import completion, erasure, queries, submit, uploads
from shared.jobs.database import Database
from shared.jobs.records import Artifact, Input, PlannedJob
from shared.jobs.tables import artifacts, audit_jobs, audits, deleted_artifacts, jobs, metadata
from tests.support.job_store import ALICE, BOB, CODE_DIGEST, JobStore, make_planned_job

UPLOADS = ("p", "q")  # contents
OUTPUTS = ("p", "s", "t", "u", "v")  # of jobs, one of which is that of an upload


@dataclass(frozen=True)
class Made:
    """A job: what it reads, as kind and what, and the content that it makes."""

    reads: tuple[tuple[str, str | int], ...]
    output: str


@st.composite
def graphs(draw: st.DrawFn) -> list[Made]:
    made: list[Made] = []
    for n in range(draw(st.integers(2, 6))):
        brought = [(kind, content) for kind in ("bytes", "file") for content in UPLOADS]
        before: list[tuple[str, str | int]] = [("job", m) for m in range(n)]
        outputs = [(k, one.output) for one in made for k in ("bytes", "file")]
        kinds = [st.sampled_from(some) for some in (brought, before, outputs) if some]
        reads = draw(st.lists(st.one_of(kinds), min_size=int(n < 2), max_size=2, unique=True))
        made.append(Made(tuple(reads), draw(st.sampled_from(OUTPUTS))))
    return made


def expect_derived(made: list[Made], erased: set[str]) -> set[int]:
    """By the definition: again and again through all, until nothing is added."""
    derived: set[int] = set()
    while True:
        inside = {made[n].output for n in derived} | erased
        outside = {one.output for n, one in enumerate(made) if n not in derived}
        gone = erased | (inside - outside - (set(UPLOADS) - erased))
        more = {
            n
            for n, one in enumerate(made)
            for kind, what in one.reads
            if (what in derived if kind == "job" else what in gone)
        }
        if more <= derived:
            return derived
        derived |= more


def digest(content: str) -> str:
    return compute_sha256(content.encode())


class World:
    def __init__(self, store: JobStore) -> None:
        store.clear()
        self.store, self.db = store, store.db
        self.artifacts = ArtifactStore.from_url("memory://")

    def bring(self, content: str, tenant: str) -> None:
        with self.artifacts.open_draft() as draft:
            draft.write(content.encode())
            uploads.record_upload(
                self.db, tenant, draft.seal(), "text/csv",
                lifetime_s=3600, quota_bytes=1 << 20, place=draft.place,
            )  # fmt: skip

    def run(self, made: list[Made]) -> list[tuple[str, PlannedJob]]:
        """Ids of the jobs, each of which has ended, and how they were planned."""
        done: list[tuple[str, PlannedJob]] = []
        for n, one in enumerate(made):
            inputs: list[str | Input] = []
            files = {}
            for kind, what in one.reads:
                if kind == "job":
                    inputs.append(Input(f"J{what}", done[int(what)][0], "OUT"))
                elif kind == "bytes":
                    inputs.append(Input(f"B{what}", sha256=digest(str(what))))
                else:
                    files[f"upload:{digest(str(what))}"] = digest(str(what))
            planned = replace(make_planned_job(f"job {n}", *inputs), data_digests=files)
            done.append((self.store.post(planned), planned))
            claim = self.store.claim_one()
            data = one.output.encode()
            completion.finish_job(
                self.db, claim.job.id, claim.fence,
                [Artifact("OUT", self.artifacts.put(data), len(data), "text/plain")],
                cache_key=f"{n}", code=CODE_DIGEST,
            )  # fmt: skip
        return done

    def list_ids(self, table: object) -> set[str]:
        with self.db.read() as connection:
            return set(connection.execute(select(table)).scalars())  # type: ignore[call-overload]  # any table


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    db = Database("sqlite://")
    with db.write() as connection:
        metadata.create_all(connection)
    yield World(JobStore(db))
    db.close()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],
)
@given(
    made=graphs(),
    erased=st.sets(st.sampled_from(UPLOADS), min_size=1),
    chosen=st.lists(st.sets(st.integers(0, 6), min_size=1), max_size=3),
    others=st.sets(st.sampled_from(UPLOADS)),
)
def test_the_closure_goes_and_the_rest_is_whole(
    world: World, made: list[Made], erased: set[str], chosen: list[set[int]], others: set[str]
) -> None:
    world.store.clear()
    for content in UPLOADS:
        world.bring(content, ALICE)
    for content in others:
        world.bring(content, BOB)
    done = world.run(made)
    members = [{n for n in one if n < len(done)} for one in chosen]
    audit_ids = {
        str(
            world.store.submit(
                *[done[n][1] for n in sorted(one)], audit=submit.AuditRequest("a", {})
            ).audit
        ): one
        for one in members
        if one
    }
    derived = expect_derived(made, erased)
    result = erasure.erase(world.db, ALICE, world.artifacts, [digest(c) for c in erased])
    left = {n for n in range(len(made)) if n not in derived}
    # what is derived is gone, nothing else is
    assert world.list_ids(jobs.c.id) == {done[n][0] for n in left}
    assert world.list_ids(audits.c.id) == {a for a, one in audit_ids.items() if not one & derived}
    kept = {made[n].output for n in left} | (set(UPLOADS) - erased)
    with world.db.read() as connection:
        mine = select(artifacts.c.sha256).where(artifacts.c.tenant == ALICE)
        assert set(connection.execute(mine).scalars()) == {digest(c) for c in kept}
        links = {
            tuple(row) for row in connection.execute(select(audit_jobs.c.audit, audit_jobs.c.job))
        }
    everything = set(UPLOADS) | {one.output for one in made}
    for content in everything:
        assert world.artifacts.has(digest(content), 1) == (content in kept | others), content
    assert world.list_ids(deleted_artifacts.c.sha256) == set()
    assert (result.jobs, result.artifacts) == (len(derived), len(everything - kept))
    # no reader meets a hole
    for audit_id, one in audit_ids.items():
        if not one & derived:
            assert links >= {(audit_id, done[n][0]) for n in one}
    for n in left:
        job = queries.get_job(world.db, ALICE, done[n][0])
        assert [queries.get_artifact(world.db, ALICE, a.sha256) for a in job.artifacts]
        for i in job.inputs:
            if i.parent:
                assert queries.get_job(world.db, ALICE, i.parent).state == "succeeded"
            else:
                assert queries.get_artifact(world.db, ALICE, str(i.sha256))
