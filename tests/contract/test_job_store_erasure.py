"""Erasing uploads with everything that was made of them: what goes, what stays, and that no trace
is left in the database's files or in the store."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from shared.artifacts import ArtifactStore, compute_sha256
from shared.errors import Conflict, InvalidRequest, NotFound, TransientError
from shared.failpoints import FAILPOINT_VARIABLE
from shared.jobs import (
    attempts,
    completion,
    control,
    erasure,
    orphans,
    queries,
    submit,
    uploads,
    webhooks,
)
from shared.jobs.database import Database
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.previews import SIGNATURE, record_preview
from shared.jobs.records import Artifact, Input, PlannedJob
from shared.jobs.removal import note_erasure
from shared.jobs.tables import (
    artifacts,
    deleted_artifacts,
    erasures,
    idempotency,
    jobs,
    webhook_deliveries,
)
from shared.jobs.webhook_events import EVENTS
from tests.support.job_store import (
    ALICE,
    BOB,
    CODE_DIGEST,
    JobStore,
    make_planned_job,
    run_together,
)
from tests.support.migrated import open_in_memory
from tests.support.servers import find_database_files
from tests.support.traces import Traces

HOUR_S = 3600.0


class Erasing:
    """A job store with an artifact store, and what users and workers do with both."""

    def __init__(self, store: JobStore, folder: Path) -> None:
        self.store, self.db = store, store.db
        self.folder = folder / "artifacts"
        self.artifacts = ArtifactStore.from_url(f"file://{self.folder}")

    def bring(self, data: bytes, tenant: str = ALICE) -> str:
        with self.artifacts.open_draft() as draft:
            draft.write(data)
            uploads.record_upload(
                self.db, tenant, draft.seal(), "text/csv",
                lifetime_s=HOUR_S, quota_bytes=1 << 30, place=draft.place,
            )  # fmt: skip
        return compute_sha256(data)

    def run_all(self, outputs: dict[str, bytes] | None = None, checkpoint: bytes = b"") -> None:
        """Run what is queued. A job makes the bytes that are given for its tag, or its tag."""
        while claim := self.store.claim():
            tag = claim.job.params["tag"]
            if checkpoint:
                for n in range(2):
                    saved = self.artifacts.put(checkpoint + tag.encode() + bytes([n]))
                    attempts.save_checkpoint(self.db, claim.job.id, claim.fence, saved, "key")
            data = (outputs or {}).get(tag, tag.encode())
            record_preview(self.db, claim.job.id, claim.fence, SIGNATURE + data, 1, 2)
            made = Artifact("OUT", self.artifacts.put(data), len(data), "text/plain")
            completion.finish_job(
                self.db, claim.job.id, claim.fence, [made],
                cache_key=compute_sha256(f"content {tag}".encode()), code=CODE_DIGEST,
            )  # fmt: skip

    def submit_audit(
        self, *planned: PlannedJob, spec: object = None, name: str = "audit", **more: Any
    ) -> str:
        request = submit.AuditRequest(name, {"original": spec}, **more)
        return str(self.store.submit(*planned, audit=request).audit)

    def erase(self, *digests: str, tenant: str = ALICE) -> erasure.Erasure:
        return erasure.erase(self.db, tenant, self.artifacts, digests)

    def list_jobs(self) -> set[str]:
        with self.db.read() as connection:
            return set(connection.execute(select(jobs.c.id)).scalars())

    def count(self, table: object) -> int:
        with self.db.read() as connection:
            return len(connection.execute(select(table)).all())  # type: ignore[call-overload]  # any table

    def has(self, data: bytes) -> bool:
        return self.artifacts.has(compute_sha256(data), len(data))


@pytest.fixture
def system(store: JobStore, tmp_path: Path) -> Erasing:
    return Erasing(store, tmp_path)


def reader(tag: str, sha256: str, **more: object) -> PlannedJob:
    return make_planned_job(tag, Input("IN", sha256=sha256), **more)  # type: ignore[arg-type]  # keywords of the caller


def test_everything_derived_goes_and_nothing_else(system: Erasing) -> None:
    mine, other = system.bring(b"mine"), system.bring(b"other")
    first, second = reader("first", mine), reader("second", other)
    both = make_planned_job("both", first, second)
    plain = make_planned_job("plain")
    gone = system.submit_audit(first, second, both, plain, spec=mine)
    webhooks.add_webhook(system.db, ALICE, "https://receiver.example/", EVENTS)
    naming = {"labels": {"not-of": mine, mine: "no", "b": "c"}, "metadata": {"not": [mine]}}
    kept = system.submit_audit(second, plain, name=f"not of {mine}", **naming)
    system.run_all()
    process_outbox(system.db)
    plan = erasure.plan_erasure(system.db, ALICE, [mine])
    assert ([one.id for one in plan.audits], plan.jobs, plan.live_jobs) == ([gone], 2, 0)
    assert (plan.artifacts, plan.size) == (3, len(b"mine" + b"first" + b"both"))
    done = system.erase(mine)
    assert (done.audits, done.jobs, done.artifacts, done.size) == (1, 2, 3, plan.size)
    assert not system.has(b"mine")
    assert not system.has(b"both")
    assert system.has(b"second")
    assert system.has(b"plain")
    audit = queries.get_audit(system.db, ALICE, kept)
    assert (audit.counts, audit.name) == ({"succeeded": 2}, "not of deleted upload")
    assert audit.labels == {"not-of": "deleted upload", "b": "c"}
    assert audit.metadata == {"not": ["deleted upload"]}
    with pytest.raises(NotFound):
        queries.get_audit(system.db, ALICE, gone)
    with system.db.read() as connection:
        bodies = [json.loads(row.body) for row in connection.execute(select(webhook_deliveries))]
    told = {body["data"]["id"] for body in bodies}
    assert told == {kept, *(job.id for job in queries.list_jobs(system.db, ALICE).items)}
    with pytest.raises(NotFound):
        system.erase(mine)
    # the jobs that stay are shared again
    assert system.store.submit(second, plain).created == frozenset()


def test_files_of_data_sets_and_inputs_by_digest_are_followed(system: Erasing) -> None:
    mine = system.bring(b"mine")
    data = {f"upload:{mine}": mine}
    system.store.post(replace(make_planned_job("reads a file"), data_digests=data))
    system.run_all()
    made = compute_sha256(b"reads a file")
    system.store.post(reader("by digest", made))
    derived = {f"upload:{made}": made}
    system.store.post(replace(make_planned_job("as a file"), data_digests=derived))
    system.store.post(make_planned_job("stays"))
    system.run_all()
    assert system.erase(mine).jobs == 3
    assert len(system.list_jobs()) == 1


def test_what_others_have_stays(system: Erasing) -> None:
    """Bytes of another tenant, of another job, of another upload, of another's checkpoint."""
    mine, other = system.bring(b"mine"), system.bring(b"other")
    system.bring(b"mine", tenant=BOB)
    system.bring(b"kept upload")
    system.store.post(reader("first", mine))
    system.store.post(reader("second", other))
    system.store.post(reader("third", mine))
    outputs = {"first": b"same", "second": b"same", "third": b"kept upload"}
    system.run_all(outputs)
    system.store.post(reader("of the same", compute_sha256(b"same")))
    system.run_all()
    done = system.erase(mine)
    assert (done.jobs, done.artifacts) == (2, 1)
    for data in (b"mine", b"same", b"kept upload", b"of the same"):
        assert system.has(data)
    assert queries.get_artifact(system.db, ALICE, compute_sha256(b"same")).size == 4
    with pytest.raises(NotFound):
        queries.get_artifact(system.db, ALICE, mine)
    assert queries.get_artifact(system.db, BOB, mine).size == 4
    with system.db.read() as connection:
        origins = set(connection.execute(select(artifacts.c.origin)).scalars())
    assert origins - {"upload"} <= system.list_jobs()


def test_a_job_that_has_reused_what_goes_stays(system: Erasing) -> None:
    mine, other = system.bring(b"mine"), system.bring(b"other")
    first = system.store.post(reader("first", mine))
    system.run_all()
    second = system.store.post(reader("second", other))
    claim = system.store.claim_one()
    made = system.store.get_job(first).artifacts
    completion.finish_job(
        system.db, second, claim.fence, made, cache_key="c", code=CODE_DIGEST, reused_from=first
    )
    system.erase(mine)
    job = system.store.get_job(second)
    assert (job.reused_from, job.artifacts) == (None, made)
    assert system.has(b"first")


def test_an_upload_that_was_deleted_before_can_still_be_erased(system: Erasing) -> None:
    mine = system.bring(b"mine")
    system.store.post(reader("first", mine))
    system.run_all()
    uploads.delete_upload(system.db, ALICE, system.artifacts, mine)
    assert system.erase(mine).jobs == 1
    assert system.list_jobs() == set()
    with pytest.raises(NotFound, match="nothing derived from it"):
        system.erase(mine)


def test_what_a_job_made_is_no_upload(system: Erasing) -> None:
    system.store.post(make_planned_job("first"))
    system.run_all()
    system.store.post(reader("second", compute_sha256(b"first")))
    system.run_all()
    with pytest.raises(NotFound, match="jobs have produced"):
        system.erase(compute_sha256(b"first"))
    assert len(system.list_jobs()) == 2


def test_refused_while_jobs_have_not_ended(system: Erasing) -> None:
    mine = system.bring(b"mine")
    first = reader("first", mine)
    second = make_planned_job("second", first)
    audit = system.submit_audit(first, second, make_planned_job("plain"), spec=mine)
    before = system.store.dump()
    with pytest.raises(Conflict, match=r"^3 jobs .*cancel"):
        system.erase(mine)
    assert erasure.plan_erasure(system.db, ALICE, [mine]).live_jobs == 3
    assert system.store.dump() == before
    control.cancel_audit(system.db, ALICE, audit)
    assert system.erase(mine).jobs == 2


def test_answers_under_idempotency_keys_go(system: Erasing) -> None:
    mine = system.bring(b"mine")
    for n, planned in enumerate((reader("first", mine), make_planned_job("plain"))):
        key = submit.IdempotencyKey(f"key {n}", "0" * 64)
        system.store.submit(planned, idempotency_key=key)
    system.run_all()
    system.erase(mine)
    with system.db.read() as connection:
        assert list(connection.execute(select(idempotency.c.key)).scalars()) == ["key 1"]
    again = submit.IdempotencyKey("key 0", "0" * 64)
    with pytest.raises(InvalidRequest, match="no artifact"):
        system.store.submit(reader("first", mine), idempotency_key=again)


def test_checkpoints_of_all_attempts_go(system: Erasing) -> None:
    mine = system.bring(b"mine")
    system.store.post(reader("first", mine))
    system.run_all(checkpoint=b"a checkpoint of ")
    assert system.has(b"a checkpoint of first\0")
    system.erase(mine)
    assert not system.has(b"a checkpoint of first\0")
    assert not system.has(b"a checkpoint of first\1")
    assert system.count(deleted_artifacts) == 0


def test_further_rows_go_in_the_same_transaction(system: Erasing) -> None:
    mine = system.bring(b"mine")

    def refuse(_connection: object) -> None:
        raise Conflict("a model refers to it")

    before = system.store.dump()
    with pytest.raises(Conflict, match="refers"):
        erasure.erase(system.db, ALICE, system.artifacts, [mine], also=refuse)
    assert system.store.dump() == before


class StoreAway(ArtifactStore):
    def delete(self, sha256: str) -> None:
        raise TransientError(f"{sha256} could not be deleted")


def test_what_a_store_missed_is_made_up_for(system: Erasing) -> None:
    mine = system.bring(b"mine")
    away = StoreAway(system.artifacts._backend, system.artifacts._folder)
    assert not erasure.erase(system.db, ALICE, away, [mine]).finished
    assert system.has(b"mine")
    assert erasure.finish_erasures(system.db, system.artifacts)
    assert not system.has(b"mine")
    assert (system.count(erasures), system.count(deleted_artifacts)) == (0, 0)


def test_a_reader_delays_the_rewriting_only(store: JobStore, tmp_path: Path) -> None:
    system = Erasing(store, tmp_path)
    if store.db.url.database in (None, ""):
        return  # one connection
    mine = system.bring(b"mine")
    with store.db.read() as connection:
        connection.execute(select(jobs)).all()
        done = erasure.erase(store.db, ALICE, system.artifacts, [mine], wait_s=0.1)
        assert not done.finished
        assert not system.has(b"mine")
        assert not erasure.finish_erasures(store.db, system.artifacts, wait_s=0.1)
    assert erasure.finish_erasures(store.db, system.artifacts)
    assert system.count(erasures) == 0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Erasing]:
    if request.param == "postgresql":
        found: JobStore = request.getfixturevalue("postgres_store")
        found.clear()
        yield Erasing(found, tmp_path)
        return
    from shared.jobs.migrations import migrate

    db = Database(f"sqlite:///{tmp_path}/palimpsest.db")
    migrate(db)
    yield Erasing(JobStore(db), tmp_path)
    db.close()


def test_no_trace_is_left(on_disk: Erasing) -> None:
    """Of uploads and what was made of them, beside as many that stay."""
    count = 8
    secrets = [os.urandom(300) for _ in range(count)]
    digests = [on_disk.bring(data) for data in secrets]
    others = [on_disk.bring(os.urandom(300)) for _ in range(count)]
    outputs = {f"job {n}": os.urandom(300) for n in range(count)}
    for n in range(count):
        data = {f"upload:{digests[n]}": digests[n]}
        first = replace(reader(f"job {n}", digests[n]), data_digests=data)
        on_disk.submit_audit(first, spec=["x" * (n * 7), digests[n]], name=f"of {digests[n]}")
        on_disk.submit_audit(reader(f"other {n}", others[n]), spec=["y" * (n * 9), others[n]])
    checkpoint = os.urandom(200)
    on_disk.run_all(outputs, checkpoint)
    on_disk.db.analyze(jobs, artifacts)
    saved = [checkpoint + tag.encode() + bytes([n]) for tag in outputs for n in range(2)]
    traces = Traces([*secrets, *outputs.values()], map(compute_sha256, saved))
    before = traces.find(*find_database_files(on_disk.db))
    assert before
    assert any("name" in one for one in traces.find(on_disk.folder))
    assert any("data" in one for one in traces.find(on_disk.folder))
    done = on_disk.erase(*digests)
    assert (done.audits, done.jobs) == (count, count)
    assert done.finished or erasure.finish_erasures(on_disk.db, on_disk.artifacts)
    assert traces.find(*find_database_files(on_disk.db), on_disk.folder) == []
    kept = Traces([], others)
    assert kept.find(*find_database_files(on_disk.db))


def test_a_submission_at_the_same_moment_is_seen_or_refused(system: Erasing) -> None:
    """Whoever is first: no job is left that names what was erased."""
    for n in range(6):
        data = f"data {n}".encode()
        sha256 = system.bring(data)
        files = {f"upload:{sha256}": sha256}
        named = replace(make_planned_job(f"upload:{sha256}"), data_digests=files)
        planned = reader(f"reads {n}", sha256) if n % 2 else named
        calls = [lambda s=sha256: system.erase(s), lambda p=planned: system.store.post(p)]
        erased, posted = run_together(*(calls if n % 3 else reversed(calls)))
        if isinstance(erased, str) or isinstance(posted, erasure.Erasure):
            erased, posted = posted, erased
        if isinstance(erased, Conflict):
            assert system.has(data)
            control.cancel_job(system.db, ALICE, str(posted))
            system.erase(sha256)
        else:
            assert isinstance(posted, InvalidRequest | NotFound), (erased, posted)
        assert system.list_jobs() == set()
        assert not system.has(data)


POINTS = (
    "erasure.before_commit",
    "erasure.after_commit",
    "uploads.after_bytes",
    "erasure.after_bytes",
    "erasure.after_scrub",
)


@pytest.mark.parametrize(
    ("on_disk", "point"),
    [
        *(("sqlite", point) for point in POINTS),
        pytest.param("postgresql", "erasure.before_commit", marks=pytest.mark.slow),
        pytest.param("postgresql", "erasure.after_bytes", marks=pytest.mark.slow),
    ],
    indirect=["on_disk"],
)
def test_killed_between_any_two_steps(
    on_disk: Erasing, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Either nothing has happened, or a reconciler finishes."""
    secrets = [os.urandom(300), os.urandom(300)]
    mine = on_disk.bring(secrets[0])
    on_disk.submit_audit(reader(f"first {point}", mine), spec=mine)
    on_disk.store.post(make_planned_job(f"other {point}"))
    on_disk.run_all({f"first {point}": secrets[1]})
    before = on_disk.store.dump()
    traces = Traces(secrets)
    on_disk.db.close()  # connections do not survive a fork
    monkeypatch.setenv(FAILPOINT_VARIABLE, point)
    pid = os.fork()
    if pid == 0:
        url = on_disk.db.url.render_as_string(hide_password=False)
        try:
            db = Database(url)
            erasure.erase(db, ALICE, on_disk.artifacts, [mine])
            erasure.finish_erasures(db, on_disk.artifacts)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    monkeypatch.delenv(FAILPOINT_VARIABLE)
    if point == "erasure.before_commit":
        assert on_disk.store.dump() == before
        assert on_disk.artifacts.get(mine) == secrets[0]
        on_disk.erase(mine)
    assert len(on_disk.list_jobs()) == 1
    assert on_disk.count(erasures) <= 1
    assert erasure.finish_erasures(on_disk.db, on_disk.artifacts)
    assert (on_disk.count(erasures), on_disk.count(deleted_artifacts)) == (0, 0)
    assert traces.find(*find_database_files(on_disk.db), on_disk.folder) == []
    assert on_disk.has(f"other {point}".encode())


def test_orphans_are_listed_and_removed(system: Erasing) -> None:
    mine = system.bring(b"mine")
    system.store.post(reader("first", mine))
    system.run_all()
    system.store.post(make_planned_job("second"))
    claim = system.store.claim_one()
    checkpoint = system.artifacts.put(b"a checkpoint")
    attempts.save_checkpoint(system.db, claim.job.id, claim.fence, checkpoint, "key")
    lost = system.artifacts.put(b"never recorded")
    assert list(orphans.list_orphans(system.db, system.artifacts)) == []  # all are young
    (orphan,) = orphans.list_orphans(system.db, system.artifacts, min_age_s=-60)
    assert (orphan.sha256, orphan.size) == (lost, len(b"never recorded"))
    orphans.remove_orphans(system.db, system.artifacts, [lost, mine, checkpoint])
    assert not system.has(b"never recorded")
    for data in (b"mine", b"first", b"a checkpoint"):
        assert system.has(data)
    assert system.count(deleted_artifacts) == 0


def test_bytes_take_no_more_of_a_round_than_their_share(tmp_path: Path) -> None:
    """A store that is far away takes 20 ms for each: leases are looked at in between."""
    db = open_in_memory()
    erasing = Erasing(JobStore(db), tmp_path)
    rows = [{"sha256": compute_sha256(f"{n}".encode())} for n in range(250)]
    with db.write() as connection:
        connection.execute(insert(deleted_artifacts), rows)
        note_erasure(db, connection)

    def finish(seconds: list[float]) -> bool:
        return erasure.finish_erasures(db, erasing.artifacts, ends_at=1.5, clock=seconds.pop)

    assert [finish([2.0, 1.0]), finish([2.0, 1.0, 1.0]), finish([])] == [False, True, True]
    db.close()
