"""What is asked of many jobs or audits at once: priority, cancelling by a filter, retry of an audit,
labels, filters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import select, update

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs import (
    attempts,
    audit_annotations,
    audit_retry,
    bulk_cancel,
    control,
    labels,
    priority,
    queries,
)
from shared.jobs.filters import AuditFilter, JobFilter
from shared.jobs.records import PlannedJob
from shared.jobs.states import Failure, State
from shared.jobs.submit import AuditRequest
from shared.jobs.tables import audits, jobs
from shared.wiring import RunWhen
from tests.support.job_store import ALICE, BOB, STAGE, JobStore, make_planned_job

NO_AUDIT = "aud_" + "0" * 20


def submit_named(
    store: JobStore, name: str, *planned: PlannedJob, tenant: str = ALICE, **more: Any
) -> str:
    request = AuditRequest(name, {}, **more)
    return str(store.submit(*planned, tenant=tenant, audit=request).audit)


class TestPriority:
    def test_it_moves_a_queued_job_among_those_of_its_tenant(self, store: JobStore) -> None:
        first, second = (store.post(make_planned_job(tag)) for tag in "ab")
        for _ in range(2):
            priority.set_job_priority(store.db, ALICE, second, 5)
        assert store.get_job(second).priority == 5
        (event,) = (e for e in store.list_events(second) if e.kind == "priority")
        assert event.data == {"from": 0, "to": 5}
        assert [store.claim_one().job.id for _ in range(2)] == [second, first]

    def test_it_counts_for_a_job_that_waits_and_one_that_is_paused(self, store: JobStore) -> None:
        root = make_planned_job("root")
        _, (root_id, child) = store.submit_audit(root, make_planned_job("child", root))
        paused = store.post(make_planned_job("paused"))
        control.pause_job(store.db, ALICE, paused)
        for job in (child, paused):
            priority.set_job_priority(store.db, ALICE, job, 3)
        claim = store.claim_one()
        other = store.post(make_planned_job("other"))
        store.finish(claim)
        control.resume_job(store.db, ALICE, paused)
        assert claim.job.id == root_id
        order = [store.claim_one().job.id for _ in range(3)]
        assert (set(order[:2]), order[2]) == ({child, paused}, other)

    def test_of_an_audit_it_changes_what_has_not_ended(self, store: JobStore) -> None:
        store.run_job("done")
        before = store.post(make_planned_job("before"))
        audit, ids = store.submit_audit(*(make_planned_job(tag) for tag in ("done", "a", "b")))
        assert priority.set_audit_priority(store.db, ALICE, audit, 7) == 2
        assert priority.set_audit_priority(store.db, ALICE, audit, 7) == 0
        assert [store.get_job(i).priority for i in ids] == [0, 7, 7]
        assert store.claim_one().job.id in ids
        assert store.get_job(before).priority == 0

    def test_tenants_take_turns_as_before(self, store: JobStore) -> None:
        for tag in "ab":
            store.post(make_planned_job(tag))
        theirs = store.post(make_planned_job("c"), tenant=BOB)
        audit, _ = store.submit_audit(make_planned_job("a"), make_planned_job("b"))
        priority.set_audit_priority(store.db, ALICE, audit, 100)
        assert theirs in [store.claim_one().job.id for _ in range(2)]

    def test_what_has_ended_is_refused_and_what_is_foreign_is_not_there(
        self, store: JobStore
    ) -> None:
        done = store.run_job("a")
        audit, _ = store.submit_audit(make_planned_job("a"))
        for call, item in ((priority.set_job_priority, done), (priority.set_audit_priority, audit)):
            with pytest.raises(Conflict, match=r"ended|succeeded"):
                call(store.db, ALICE, item, 1)
            with pytest.raises(NotFound):
                call(store.db, BOB, item, 1)


class TestBulkCancel:
    def cancel(self, store: JobStore, **filters: Any) -> bulk_cancel.BulkCancel:
        return bulk_cancel.cancel_jobs(store.db, ALICE, JobFilter(**filters))

    def test_it_cancels_what_the_filter_selects_and_no_other(self, store: JobStore) -> None:
        root = make_planned_job("root")
        chain = [root, make_planned_job("a", root), make_planned_job("b", root)]
        _, ids = store.submit_audit(*chain)
        other = store.post(make_planned_job("other", stage="attack", plugins=("stage:attack",)))
        theirs = store.submit(root, tenant=BOB).jobs[root.request_key]
        assert bulk_cancel.count_cancellable(store.db, ALICE, JobFilter(stage=STAGE)) == {
            "queued": 1,
            "waiting": 2,
        }
        ended = self.cancel(store, stage=STAGE)
        assert (ended.cancelled, ended.stopping, ended.remaining) == (3, 0, 0)
        assert store.list_states(*ids, other) == ["cancelled"] * 3 + ["queued"]
        assert store.get_job(theirs, BOB).state == "queued"
        assert self.cancel(store, stage=STAGE).cancelled == 0

    def test_what_waits_for_a_cancelled_job_fails_unless_it_is_selected_too(
        self, store: JobStore
    ) -> None:
        root = make_planned_job("root")
        middle = make_planned_job("middle", root, stage="attack")
        _, ids = store.submit_audit(root, middle, make_planned_job("leaf", middle))
        assert self.cancel(store, stage=STAGE).cancelled == 2
        assert store.list_states(*ids) == ["cancelled", "failed", "cancelled"]

    def test_a_running_job_is_told_to_stop_and_a_report_goes_on_without_it(
        self, store: JobStore
    ) -> None:
        a, b = make_planned_job("a"), make_planned_job("b")
        report = make_planned_job("report", a, b, stage="report", run_when=RunWhen.ALL_FINISHED)
        _, (a_id, b_id, report_id) = store.submit_audit(a, b, report)
        store.finish(store.claim_one())
        claim = store.claim_one()
        ended = self.cancel(store, stage=STAGE)
        assert (ended.cancelled, ended.stopping) == (0, 1)
        assert store.get_job(claim.job.id).stop == "cancel"
        attempts.cancel_attempt(store.db, claim.job.id, claim.fence)
        assert sorted(store.list_states(a_id, b_id)) == ["cancelled", "succeeded"]
        assert store.list_states(report_id) == ["queued"]
        assert self.cancel(store, state=State.QUEUED).stages == frozenset()

    def test_it_goes_in_slices_and_what_is_submitted_meanwhile_stays(
        self, store: JobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk_cancel, "BATCH_SIZE", 3)
        _, ids = store.submit_audit(*(make_planned_job(f"{n}") for n in range(8)))
        later: list[str] = []

        def submit_more(_name: str) -> None:
            time.sleep(0.01)
            later.append(store.post(make_planned_job(f"later {len(later)}")))

        monkeypatch.setattr(bulk_cancel, "failpoint", submit_more)
        stopped = bulk_cancel.cancel_jobs(store.db, ALICE, JobFilter(stage=STAGE), budget_s=0)
        assert (stopped.cancelled, stopped.remaining) == (3, 5)
        again = bulk_cancel.cancel_jobs(store.db, ALICE, stopped.filters)
        assert (again.cancelled, again.remaining) == (5, 0)
        assert store.list_states(*ids) == ["cancelled"] * 8
        assert store.list_states(*later) == ["queued"] * len(later)

    def test_by_label_audit_and_time(self, store: JobStore) -> None:
        run = submit_named(store, "one", make_planned_job("a"), labels={"run": "1"})
        submit_named(store, "two", make_planned_job("b"), labels={"run": "2"})
        submit_named(store, "three", make_planned_job("c"), tenant=BOB, labels={"run": "1"})
        assert self.cancel(store, label=("run", "3")).cancelled == 0
        assert self.cancel(store, created_before=1.0).cancelled == 0
        assert self.cancel(store, audit=run, label=("run", "2")).cancelled == 0
        assert self.cancel(store, label=("run", "1")).cancelled == 1
        assert self.cancel(store, label=("run", None)).cancelled == 1
        assert queries.list_jobs(store.db, BOB).items[0].state == "queued"


class TestAuditRetry:
    def test_what_failed_and_what_waited_for_it_goes_again_in_order(self, store: JobStore) -> None:
        done = store.run_job("done")
        good, root = make_planned_job("done"), make_planned_job("root")
        middle = make_planned_job("middle", root, good)
        audit, ids = store.submit_audit(good, root, middle, make_planned_job("leaf", middle))
        store.fail(store.claim_one())
        assert store.list_states(*ids) == ["succeeded", "failed", "failed", "failed"]
        retried = audit_retry.retry_audit(store.db, ALICE, audit)
        assert (retried.retried, retried.skipped, retried.stages) == (3, 0, {STAGE})
        assert store.list_states(*ids) == ["succeeded", "queued", "waiting", "waiting"]
        assert [store.get_job(i).failure for i in ids] == [None] * 4
        assert store.post(root) == ids[1]  # it answers for its equals again
        for job in ids[1:]:
            claim = store.claim_one()
            assert claim.job.id == job
            store.finish(claim)
        assert queries.get_audit(store.db, ALICE, audit).state == "succeeded"
        assert ids[0] == done

    def test_a_report_without_the_failed_results_is_made_again(self, store: JobStore) -> None:
        a, b = make_planned_job("a"), make_planned_job("b")
        report = make_planned_job("report", a, b, run_when=RunWhen.ALL_FINISHED)
        audit, (a_id, b_id, report_id) = store.submit_audit(a, b, report)
        store.finish(store.claim_one())
        store.fail(store.claim_one())
        claim = store.claim_one()
        with pytest.raises(Conflict, match="is running"):
            audit_retry.retry_audit(store.db, ALICE, audit)
        store.finish(claim)
        assert store.list_states(report_id) == ["succeeded"]
        assert audit_retry.retry_audit(store.db, ALICE, audit).retried == 2
        assert sorted(store.list_states(a_id, b_id, report_id)) == [
            "queued",
            "succeeded",
            "waiting",
        ]
        store.finish(store.claim_one())
        claim = store.claim_one()
        assert (claim.job.id, sorted(claim.inputs)) == (report_id, ["IN0", "IN1"])
        store.finish(claim, cache_key="another")
        assert store.post(a, b, report) == report_id

    def test_a_paused_report_does_not_run_without_the_failed_results(self, store: JobStore) -> None:
        a, b = make_planned_job("a"), make_planned_job("b")
        report = make_planned_job("report", a, b, run_when=RunWhen.ALL_FINISHED)
        audit, (*_, report_id) = store.submit_audit(a, b, report)
        store.finish(store.claim_one())
        store.fail(store.claim_one())
        control.pause_job(store.db, ALICE, report_id)
        assert audit_retry.retry_audit(store.db, ALICE, audit).retried == 2
        assert store.list_states(report_id) == ["waiting"]
        store.finish(store.claim_one())
        claim = store.claim_one()
        assert (claim.job.id, sorted(claim.inputs)) == (report_id, ["IN0", "IN1"])

    def test_what_was_made_of_an_incomplete_report_is_made_again(self, store: JobStore) -> None:
        a, b = make_planned_job("a"), make_planned_job("b")
        report = make_planned_job("report", a, b, run_when=RunWhen.ALL_FINISHED)
        manifest = make_planned_job("manifest", report)
        copy = make_planned_job("copy", manifest)
        audit, ids = store.submit_audit(a, b, report, manifest, copy)
        store.finish(store.claim_one())
        store.fail(store.claim_one())
        store.finish(store.claim_one())
        running = store.claim_one()
        assert running.job.id == ids[3]
        with pytest.raises(Conflict, match=f"job {ids[3]} .* is running"):
            audit_retry.retry_audit(store.db, ALICE, audit)
        store.finish(running)
        assert store.list_states(*ids[2:]) == ["succeeded", "succeeded", "queued"]
        assert audit_retry.retry_audit(store.db, ALICE, audit).retried == 4
        assert store.list_states(*ids[2:]) == ["waiting"] * 3
        for n in range(4):
            store.finish(store.claim_one(), cache_key=f"{n}")
        assert store.list_states(*ids) == ["succeeded"] * 5

    def test_an_equal_job_that_was_posted_since_is_left_alone(self, store: JobStore) -> None:
        audit, (job,) = store.submit_audit(make_planned_job("a"))
        store.fail(store.claim_one())
        newer = store.post(make_planned_job("a"))
        audit_retry.retry_audit(store.db, ALICE, audit)
        assert store.list_states(job, newer) == ["queued", "queued"]
        assert store.post(make_planned_job("a")) == newer

    def test_a_job_whose_input_is_cancelled_outside_is_skipped(self, store: JobStore) -> None:
        outside = store.post(make_planned_job("outside"))
        audit, (child, other) = store.submit_audit(
            make_planned_job("child", outside), make_planned_job("other")
        )
        control.cancel_job(store.db, ALICE, outside)
        with pytest.raises(Conflict, match=f"job {outside} .* has cancelled: retry that first"):
            audit_retry.retry_audit(store.db, ALICE, audit)
        store.fail(store.claim_one(), Failure.TIMEOUT)
        retried = audit_retry.retry_audit(store.db, ALICE, audit)
        assert (retried.retried, retried.skipped) == (1, 1)
        assert store.list_states(child, other) == ["failed", "queued"]

    def test_without_a_failed_job_it_says_why_not(self, store: JobStore) -> None:
        audit, _ = store.submit_audit(make_planned_job("a"), make_planned_job("b"))
        before = store.dump()
        with pytest.raises(Conflict, match="2 have not ended yet"):
            audit_retry.retry_audit(store.db, ALICE, audit)
        for tenant, wanted in ((BOB, audit), (ALICE, NO_AUDIT)):
            with pytest.raises(NotFound, match=f"^there is no audit {wanted}$"):
                audit_retry.retry_audit(store.db, tenant, wanted)
        assert store.dump() == before
        for _ in range(2):
            store.finish(store.claim_one())
        with pytest.raises(Conflict, match="all have succeeded"):
            audit_retry.retry_audit(store.db, ALICE, audit)
        second, _ = store.submit_audit(make_planned_job("c"))
        control.cancel_audit(store.db, ALICE, second)
        with pytest.raises(Conflict, match="was cancelled"):
            audit_retry.retry_audit(store.db, ALICE, second)


class TestAnnotations:
    def test_labels_and_metadata_are_stored_and_changed(self, store: JobStore) -> None:
        audit = submit_named(
            store, "one", make_planned_job("a"), labels={"team": "x"}, metadata={"a": {"b": 1}}
        )
        audit_annotations.annotate_audit(
            store.db, ALICE, audit, labels={"team": None, "run": "2"},
            metadata={"a": {"b": None, "c": [None]}, "d": "e"},
        )  # fmt: skip
        stored = queries.get_audit(store.db, ALICE, audit)
        assert stored.labels == {"run": "2"}
        assert stored.metadata == {"a": {"c": [None]}, "d": "e"}

    def test_too_much_is_refused_and_nothing_changes(self, store: JobStore) -> None:
        audit = submit_named(store, "one", make_planned_job("a"), labels={"team": "x"})
        before = store.dump()
        many = {f"k{n}": "v" for n in range(labels.MAX_LABELS)}
        with pytest.raises(Conflict, match="33 labels"):
            audit_annotations.annotate_audit(store.db, ALICE, audit, labels=many)
        large = {"text": "x" * audit_annotations.MAX_METADATA_BYTES}
        with pytest.raises(InvalidRequest, match="above the limit of 16,384"):
            audit_annotations.annotate_audit(store.db, ALICE, audit, metadata=large)
        for tenant, wanted in ((BOB, audit), (ALICE, NO_AUDIT)):
            with pytest.raises(NotFound):
                audit_annotations.annotate_audit(store.db, tenant, wanted, labels={"a": "b"})
        assert store.dump() == before


class TestFilters:
    def list_names(self, store: JobStore, **filters: Any) -> list[str]:
        token, names = None, []
        while True:
            page = queries.list_audits(
                store.db, ALICE, filters=AuditFilter(**filters), limit=2, page=token
            )
            assert len(page.items) <= 2
            names += [audit.name for audit in page.items]
            token = page.next
            if token is None:
                return sorted(names)

    @pytest.fixture
    def five(self, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> JobStore:
        monkeypatch.setattr(queries, "MAX_AUDITS_COUNTED", 2)
        monkeypatch.setattr(queries, "MAX_JOBS_COUNTED", 3)
        store.post(make_planned_job("other", stage="attack", plugins=("stage:attack",)))
        for name, end in (("Done_1", "finish"), ("broken", "fail"), ("runs 100%", "")):
            submit_named(store, name, make_planned_job(name), labels={"end": end})
            claim = store.claim_one()
            if end:
                getattr(store, end)(claim)
        cancelled = submit_named(store, "ÜBER", make_planned_job("d"))
        control.cancel_audit(store.db, ALICE, cancelled)
        submit_named(store, "waits", make_planned_job("e"), make_planned_job("f"))
        submit_named(store, "done too", make_planned_job("z"), tenant=BOB)
        return store

    @pytest.mark.parametrize(
        ("state", "names"),
        [
            ("succeeded", ["Done_1"]),
            ("failed", ["broken"]),
            ("running", ["runs 100%"]),
            ("cancelled", ["ÜBER"]),
            ("queued", ["waits"]),
        ],
    )
    def test_audits_by_state(self, five: JobStore, state: str, names: list[str]) -> None:
        assert self.list_names(five, state=state) == names

    @pytest.mark.parametrize(
        ("name", "names"),
        [("dOnE", ["Done_1"]), ("%", ["runs 100%"]), ("_", ["Done_1"]), ("über", ["ÜBER"]),
         ("/", []), ("'", [])],
    )  # fmt: skip
    def test_audits_by_a_part_of_their_name(
        self, five: JobStore, name: str, names: list[str]
    ) -> None:
        assert self.list_names(five, name=name) == names

    def test_audits_by_label_and_time(self, five: JobStore) -> None:
        assert self.list_names(five, label=("end", "fail")) == ["broken"]
        assert len(self.list_names(five, label=("end", None))) == 3
        with five.db.read() as connection:
            middle = connection.execute(
                select(audits.c.created_at).where(audits.c.name == "runs 100%")
            ).scalar_one()
        before = self.list_names(five, created_before=middle)
        after = self.list_names(five, created_after=middle)
        assert (before, after) == (["Done_1", "broken"], ["runs 100%", "waits", "ÜBER"])
        assert self.list_names(five, finished_after=middle) == ["ÜBER"]
        ended = ["Done_1", "broken", "ÜBER"]
        assert self.list_names(five, finished_after=1.0) == ended

    def test_jobs_by_time_and_label(self, five: JobStore) -> None:
        def count(**filters: Any) -> int:
            page = queries.list_jobs(five.db, ALICE, filters=JobFilter(**filters))
            return len(page.items)

        assert count() == 7
        assert count(label=("end", "finish")) == 1
        assert count(finished_after=1.0) == 3
        with five.db.write() as connection:
            connection.execute(update(jobs).where(jobs.c.state == "queued").values(created_at=5.0))
        assert count(created_before=5.0) == 0
        assert count(created_before=5.1, created_after=5.0) == 3
