"""What one tenant asks of another's things: as if they did not exist, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore, compute_sha256
from shared.catalog import Catalog
from shared.errors import InvalidRequest, NotFound
from shared.jobs.attempts import renew_lease
from shared.jobs.declarations import Kind, NewDeclaration
from shared.jobs.filters import JobFilter
from shared.jobs.previews import SIGNATURE, record_preview
from shared.jobs.records import Input
from shared.jobs.repair import Producer
from shared.jobs.submit import AuditRequest, IdempotencyKey
from shared.jobs.tenant_store import TenantStore
from tests.support.job_store import ALICE, BOB, JobStore, make_artifact, make_planned_job
from tests.support.migrated import open_in_memory

HOUR_S = 3600.0
UPLOAD = b"brought by alice"
DIGEST = compute_sha256(UPLOAD)
PLANNED = make_planned_job("tag")


class World:
    """What alice has: an audit of one job that has succeeded, another job, an upload, a model, a
    webhook."""

    def __init__(self, store: JobStore, folder: ArtifactStore) -> None:
        self.store, self.folder = store, folder
        self.alice, self.bob = TenantStore(store.db, ALICE), TenantStore(store.db, BOB)
        with folder.open_draft() as draft:
            draft.write(UPLOAD)
            self.alice.record_upload(
                draft.seal(), "text/csv",
                lifetime_s=HOUR_S, quota_bytes=1 << 20, place=draft.place,
            )  # fmt: skip
        done = self.alice.submit_jobs(
            [PLANNED],
            audit=AuditRequest("audit", {"any": "thing"}),
            idempotency_key=IdempotencyKey("key", "body"),
        )
        self.audit, (self.job,) = str(done.audit), done.jobs.values()
        claim = store.claim_one()
        record_preview(store.db, self.job, claim.fence, SIGNATURE, 1, 2)
        renew_lease(store.db, self.job, claim.fence, 60, {"done": 1, "matching_loss": 0.5})
        store.finish(claim)
        self.queued = store.post(make_planned_job("queued"))
        self.webhook = self.alice.add_webhook("https://a.example/", ["job.failed"])[0].id
        self.alice.add_test_delivery(self.webhook)
        self.artifact = make_artifact("tag").sha256
        planned = make_planned_job("check", Input("WEIGHTS", sha256=DIGEST))
        new = NewDeclaration(Kind.MODEL, "mine", {"weights": DIGEST}, frozenset({DIGEST}))
        self.declared = (new, planned.request_key)
        self.alice.record_declaration(new, store.post(planned), planned.request_key, {"a": "1"})


# of each method: how bob asks for what alice has
QUESTIONS: dict[str, Callable[[World], Any]] = {
    "get_job": lambda w: w.bob.get_job(w.job),
    "list_jobs": lambda w: w.bob.list_jobs(filters=JobFilter(audit=w.audit)).items,
    "list_events": lambda w: w.bob.list_events(w.job, 0),
    "list_last_events": lambda w: w.bob.list_last_events(w.job, 10),
    "read_relatives": lambda w: w.bob.read_relatives(w.alice.get_job(w.job), 10).users,
    "get_preview": lambda w: w.bob.get_preview(w.job),
    "list_previews": lambda w: w.bob.list_previews(w.audit, 10),
    "list_progress": lambda w: w.bob.list_progress(w.job),
    "list_curves": lambda w: w.bob.list_curves([w.job])[w.job],
    "get_audit": lambda w: w.bob.get_audit(w.audit),
    "list_audits": lambda w: w.bob.list_audits().items,
    "count_audit_jobs_by_stage": lambda w: w.bob.count_audit_jobs_by_stage(w.audit),
    "read_audit_graph": lambda w: w.bob.read_audit_graph(w.audit).groups,
    "read_audit_failures": lambda w: w.bob.read_audit_failures(w.audit, 10).causes,
    "find_methods_behind": lambda w: w.bob.find_methods_behind([w.job])[w.job],
    "get_artifact": lambda w: w.bob.get_artifact(w.artifact),
    "find_audit_names": lambda w: w.bob.find_audit_names([w.audit]),
    "find_artifacts": lambda w: w.bob.find_artifacts([w.artifact]),
    "find_live_duplicates": lambda w: w.bob.find_live_duplicates([PLANNED.request_key]),
    "find_inputs": lambda w: w.bob.find_inputs(w.job, Catalog([]), "train", ["OUT"]),
    "data_behind": lambda w: w.bob.data_behind(w.artifact, lambda files: {}, "inputs.IN"),
    "quote_jobs": lambda w: w.bob.quote_jobs([PLANNED], {}, workers=None).stages[0].past_jobs,
    "find_replay": lambda w: w.bob.find_replay(IdempotencyKey("key", "body")),
    "submit_jobs": lambda w: w.bob.submit_jobs(
        [make_planned_job("bob's", Input("IN", parent=w.job, parent_role="OUT"))]
    ),
    "cancel_job": lambda w: w.bob.cancel_job(w.queued),
    "retry_job": lambda w: w.bob.retry_job(w.job),
    "pause_job": lambda w: w.bob.pause_job(w.queued),
    "resume_job": lambda w: w.bob.resume_job(w.queued),
    "cancel_audit": lambda w: w.bob.cancel_audit(w.audit),
    "retry_audit": lambda w: w.bob.retry_audit(w.audit),
    "annotate_audit": lambda w: w.bob.annotate_audit(w.audit, labels={"a": "b"}),
    "set_job_priority": lambda w: w.bob.set_job_priority(w.queued, 1),
    "set_audit_priority": lambda w: w.bob.set_audit_priority(w.audit, 1),
    "bound_by_now": lambda w: int(w.bob.bound_by_now(JobFilter()).created_before or 0),
    "count_cancellable": lambda w: w.bob.count_cancellable(JobFilter(audit=w.audit)),
    "cancel_jobs": lambda w: w.bob.cancel_jobs(JobFilter(stage="train")).cancelled,
    "estimate_deletion": lambda w: w.bob.estimate_deletion(w.audit),
    "delete_audit": lambda w: w.bob.delete_audit(w.folder, w.audit, cancel=True),
    "delete_webhook": lambda w: w.bob.delete_webhook(w.webhook),
    "list_webhooks": lambda w: w.bob.list_webhooks(),
    "add_test_delivery": lambda w: w.bob.add_test_delivery(w.webhook),
    "list_deliveries": lambda w: w.bob.list_deliveries(w.webhook).items,
    "has_artifact": lambda w: w.bob.has_artifact(DIGEST),
    "check_room": lambda w: w.bob.check_room(1),
    "measure_uploads": lambda w: w.bob.measure_uploads(),
    "list_uploads": lambda w: w.bob.list_uploads().items,
    "get_upload": lambda w: w.bob.get_upload(DIGEST),
    "delete_upload": lambda w: w.bob.delete_upload(w.folder, DIGEST),
    "list_upload_uses": lambda w: w.bob.list_upload_uses([DIGEST])[DIGEST],
    "list_audit_uses": lambda w: w.bob.list_audit_uses([DIGEST])[DIGEST],
    "plan_erasure": lambda w: w.bob.plan_erasure([DIGEST]),
    "erase": lambda w: w.bob.erase(w.folder, [DIGEST]),
    "find_equal_declaration": lambda w: w.bob.find_equal_declaration(*w.declared),
    "record_declaration": lambda w: w.bob.record_declaration(
        w.declared[0], w.queued, w.declared[1], None
    ),
    "get_declaration": lambda w: w.bob.get_declaration(Kind.MODEL, "mine"),
    "list_declarations": lambda w: w.bob.list_declarations(Kind.MODEL).items,
    "change_declaration_labels": lambda w: w.bob.change_declaration_labels(
        Kind.MODEL, "mine", None, {"a": "2"}
    ),
    "delete_declarations": lambda w: w.bob.delete_declarations(
        Kind.MODEL, "mine", None, lifetime_s=1
    ),
    "plan_declaration_erasure": lambda w: w.bob.plan_declaration_erasure(Kind.MODEL, "mine"),
    "erase_declarations": lambda w: w.bob.erase_declarations(
        w.folder, Kind.MODEL, "mine", None, lifetime_s=1
    ),
    "list_produced_artifacts": lambda w: w.bob.list_produced_artifacts([w.job]),
    "find_producer": lambda w: w.bob.find_producer(w.artifact),
    "rebuild_artifact": lambda w: w.bob.rebuild_artifact(w.artifact, Producer(w.job, 1)),
}
# what makes something new has an answer for everyone, and is not in the table
FOR_EVERYONE = {"record_upload", "add_webhook", "bound_by_now"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    db = open_in_memory()
    yield World(JobStore(db), ArtifactStore.from_url(f"file://{tmp_path}/artifacts"))
    db.close()


def test_every_method_has_its_question() -> None:
    methods = {name for name in vars(TenantStore) if not name.startswith("_")}
    assert methods == set(QUESTIONS) | FOR_EVERYONE


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_what_another_has_does_not_exist(world: World, name: str) -> None:
    before = world.store.dump()
    try:  # a Conflict would say that something is there
        answer = QUESTIONS[name](world)
    except (NotFound, InvalidRequest):
        answer = None
    assert not answer
    assert world.store.dump() == before
