"""Erasing a tenant: no trace of it is left, and what others have stays."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from shared.artifacts import ArtifactStore, compute_sha256
from shared.errors import Conflict, NotFound
from shared.failpoints import FAILPOINT_VARIABLE
from shared.jobs import (
    access_log,
    attempts,
    completion,
    erasure,
    keys,
    queries,
    removal,
    submit,
    tenant_erasure,
    tenants,
    uploads,
    webhooks,
)
from shared.jobs.database import Database
from shared.jobs.declarations import Kind, NewDeclaration
from shared.jobs.keys import READ
from shared.jobs.metric_totals import Labels, add_to_totals, load_totals
from shared.jobs.previews import SIGNATURE, record_preview
from shared.jobs.records import Artifact, Input
from shared.jobs.scrubbing import scrub
from shared.jobs.tables import (
    artifacts,
    declaration_labels,
    declarations,
    declared_uploads,
    erasures,
    jobs,
    metadata,
)
from shared.jobs.tenant_store import TenantStore
from tests.support.job_store import ALICE, BOB, CODE_DIGEST, JobStore, make_planned_job
from tests.support.servers import find_database_files
from tests.support.traces import Traces
from tests.support.waiting import TIMEOUT_S, wait_for

NAME = "the name of an audit of mallory, which nobody else has given to anything of theirs at all"
MALLORY = "mallory-whose-name-is-not-in-any-other-row"


class Tenant:
    """What a tenant brings, and what is made of it."""

    def __init__(self, store: JobStore, folder: Path) -> None:
        self.store, self.db = store, store.db
        self.artifacts = ArtifactStore.from_url(f"file://{folder}/artifacts")
        self.folder = folder / "artifacts"

    def bring(self, data: bytes, tenant: str) -> str:
        with self.artifacts.open_draft() as draft:
            draft.write(data)
            uploads.record_upload(
                self.db, tenant, draft.seal(), "text/csv",
                lifetime_s=3600, quota_bytes=1 << 30, place=draft.place,
            )  # fmt: skip
        return compute_sha256(data)

    def run(self, tenant: str, tag: str, upload: str, made: bytes, state: bytes) -> str:
        """An audit of one job, which has a checkpoint, fails, and succeeds as another."""
        planned = make_planned_job(tag, Input("DATA", sha256=upload))
        audit = submit.AuditRequest(NAME if tenant == MALLORY else "theirs", {"of": upload})
        key = submit.IdempotencyKey(f"key {tag}", "0" * 64)
        self.store.submit(planned, tenant=tenant, audit=audit, idempotency_key=key)
        claim = self.store.claim_one()
        attempts.save_checkpoint(
            self.db, claim.job.id, claim.fence, self.artifacts.put(state), "key"
        )
        record_preview(self.db, claim.job.id, claim.fence, SIGNATURE + made, 1, 2)
        stored = Artifact("OUT", self.artifacts.put(made), len(made), "text/plain")
        completion.finish_job(
            self.db, claim.job.id, claim.fence, [stored], cache_key=tag, code=CODE_DIGEST
        )
        return claim.job.id

    def declare(self, tenant: str, upload: str, job: str) -> None:
        row = {"id": f"dec_{tenant[:8]}", "tenant": tenant, "kind": "model", "name": "mine",
               "version": 1, "spec": f'{{"weights":"{upload}"}}', "job": job, "created_at": 1.0}  # fmt: skip
        with self.db.write() as connection:
            connection.execute(insert(declarations).values(**row))
            connection.execute(
                insert(declared_uploads).values(declaration=row["id"], sha256=upload)
            )
            connection.execute(
                insert(declaration_labels).values(
                    declaration=row["id"], key="owner", value=f"label of {tenant}"
                )
            )


@pytest.fixture
def tenant(store: JobStore, tmp_path: Path) -> Tenant:
    return Tenant(store, tmp_path)


def make_secret(prefix: str) -> bytes:
    return prefix.encode() + secrets.token_bytes(900)


def test_nothing_of_a_tenant_is_left_and_equal_bytes_of_others_stay(tenant: Tenant) -> None:
    db, store = tenant.db, tenant.store
    own, made, state, common = (make_secret(n) for n in ("own", "made", "state", "common"))
    tenant.bring(common, BOB)
    theirs = tenant.run(BOB, "theirs", tenant.bring(common, MALLORY), common, make_secret("s"))
    job = tenant.run(MALLORY, "mine", tenant.bring(own, MALLORY), made, state)
    tenant.run(MALLORY, "common", compute_sha256(common), common, state)
    tenant.declare(MALLORY, compute_sha256(own), job)
    tenant.declare(BOB, compute_sha256(common), theirs)
    bobs = {
        name: [row for row in rows if BOB in map(str, row)] for name, rows in store.dump().items()
    }
    tenants.ensure_tenant(db, MALLORY)
    key, _ = keys.create_key(db, MALLORY, "", [READ])
    for act in (("POST /v1/tenants", MALLORY), ("POST /v1/keys/{key_id}/revoke", key.id)):
        access_log.begin_entry(db, "operators", "token", *act)
    words = [NAME.encode(), key.id.encode(), f"label of {MALLORY}".encode(), MALLORY.encode()]
    traces = Traces([own, made, state, NAME.encode() * 2])
    files = [tenant.folder]
    if db.url.database not in (None, "", ":memory:"):
        files += find_database_files(db)
        assert any("digest" in one for one in traces.find(*find_database_files(db)))
    assert traces.find(*files)
    done = tenant_erasure.erase_tenant(db, MALLORY, tenant.artifacts)
    assert (done.audits, done.jobs, done.artifacts) == (2, 2, 3)
    wait_for(
        lambda: erasure.finish_erasures(db, tenant.artifacts), TIMEOUT_S, "all traces are gone"
    )
    assert traces.find(*files) == []
    for path in files[1:]:
        for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
            data = file.read_bytes()
            assert not [word for word in words if word in data], file.name
    assert MALLORY not in str(store.dump())
    # others have what they had
    assert {
        name: [row for row in rows if BOB in map(str, row)] for name, rows in store.dump().items()
    } == bobs
    assert tenant.artifacts.get(compute_sha256(common)) == common
    assert queries.get_artifact(db, BOB, compute_sha256(common)).size == len(common)
    with pytest.raises(NotFound, match="nothing is stored"):
        tenant_erasure.erase_tenant(db, MALLORY, tenant.artifacts)


def test_every_table_that_names_a_tenant_is_cleared(store: JobStore, tmp_path: Path) -> None:
    """Also one that is added later: it must have a column `tenant`, or hang on one that has."""
    without = {t.name for t in metadata.sorted_tables if "tenant" not in t.c}
    hanging = {
        t.name
        for t in metadata.sorted_tables
        if any(key.ondelete == "CASCADE" for key in t.foreign_keys)
    }
    of_no_tenant = {
        "plugin_sets", "deleted_artifacts", "erasures", "workers", "device_leases", "drained_workers", "catalogs",
        "paused_stages", "service_heartbeats", "server_secrets",
    }  # fmt: skip
    by_name = {"tenants", "metric_totals"}  # cleared by the tenant's name
    assert without - hanging - of_no_tenant == by_name


def test_jobs_are_cancelled_and_must_have_ended(tenant: Tenant) -> None:
    store = tenant.store
    store.post(make_planned_job("queued"), tenant=ALICE)
    running = store.post(make_planned_job("running"), tenant=ALICE, priority=1)
    claim = store.claim_one()
    assert claim.job.id == running
    with pytest.raises(Conflict, match="have not ended"):
        tenant_erasure.erase_tenant(tenant.db, ALICE, tenant.artifacts, wait_s=0)
    assert store.get_job(running).stop == "cancel"
    attempts.cancel_attempt(tenant.db, running, claim.fence)
    assert tenant_erasure.erase_tenant(tenant.db, ALICE, tenant.artifacts).jobs == 2
    assert not any(store.dump()[name] for name in ("jobs", "events", "job_inputs", "artifacts"))


@pytest.mark.parametrize("place", ["references", "between_batches", "before_commit"])
def test_a_kill_leaves_something_that_is_repeated(tmp_path: Path, place: str) -> None:
    from tests.support.migrated import open_migrated

    db = open_migrated(tmp_path / "store/palimpsest.db")
    tenant = Tenant(JobStore(db), tmp_path)
    data = make_secret("own")
    tenants.ensure_tenant(db, MALLORY)
    job = tenant.run(MALLORY, "mine", tenant.bring(data, MALLORY), data, data)
    db.close()
    child = os.fork()
    if child == 0:
        os.environ[FAILPOINT_VARIABLE] = f"tenant_erasure.{place}"
        tenant_erasure.erase_tenant(Database(str(db.url)), MALLORY, tenant.artifacts)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = Database(str(db.url))
    tenant_erasure.erase_tenant(again, MALLORY, tenant.artifacts)
    assert erasure.finish_erasures(again, tenant.artifacts)
    assert Traces([data], [compute_sha256(data)]).find(tenant.folder, tmp_path / "store") == []
    with again.read() as connection:
        assert connection.execute(select(jobs.c.id)).all() == []
    assert job
    again.close()


def test_what_goes_while_a_reconciler_removes_earlier_traces_is_noted_anew(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note that the reconciler takes away with its scrub stands for what went before that."""
    db, data = tenant.db, make_secret("own")
    tenant.run(MALLORY, "mine", tenant.bring(data, MALLORY), data, data)
    db.run_transaction(lambda c: tenant_erasure._remove_jobs(MALLORY, db, c))

    def scrub_then_remove(*arguments: Any) -> bool:
        is_done = scrub(*arguments)
        if is_done:
            db.run_transaction(lambda c: tenant_erasure._remove_artifacts(MALLORY, db, c))
        return is_done

    monkeypatch.setattr("shared.jobs.erasure.scrub", scrub_then_remove)
    wait_for(lambda: erasure.finish_erasures(db, tenant.artifacts), TIMEOUT_S, "it is scrubbed")
    monkeypatch.undo()
    with db.read() as connection:
        assert len(connection.execute(select(erasures.c.id)).all()) == 1


def test_no_transaction_of_an_erasure_removes_more_than_a_batch(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much the tenant has: a transaction of half a minute is ended by the database."""
    store, db = tenant.store, tenant.db
    for n in range(3):
        planned = [make_planned_job(f"{n} {m}") for m in range(3)]
        key = submit.IdempotencyKey(f"key {n}", "0" * 64)
        audit = submit.AuditRequest("audit", {}, labels={"n": f"{n}"})
        store.submit(*planned, audit=audit, idempotency_key=key)
        access_log.begin_entry(db, ALICE, "token", "POST /v1/audits", "")
        hook, _ = webhooks.add_webhook(db, ALICE, f"https://example.com/{n}", ["job.ended"])
        for _ in range(3):
            webhooks.add_test_delivery(db, ALICE, hook.id)
    removed, run_transaction = list[int](), db.run_transaction

    def count_rows() -> int:
        return sum(map(len, store.dump(without=("erasures",)).values()))

    def run_counted(transaction: Any) -> Any:
        before = count_rows()
        result = run_transaction(transaction)
        removed.append(before - count_rows())
        return result

    monkeypatch.setattr(tenant_erasure, "ROWS", 4)
    monkeypatch.setattr(tenant_erasure, "BATCH", 4)
    monkeypatch.setattr(removal, "MAX_EVENTS", 5)
    tenant_erasure._end_jobs(db, ALICE, 60)
    monkeypatch.setattr(db, "run_transaction", run_counted)
    assert tenant_erasure.erase_tenant(db, ALICE, tenant.artifacts).jobs == 9
    assert max(removed) <= 8
    assert "alice" not in str(store.dump())


def bring_as(tenant: Tenant, mine: TenantStore) -> None:
    with tenant.artifacts.open_draft() as draft:
        draft.write(b"late")
        mine.record_upload(
            draft.seal(), "text/csv", lifetime_s=60, quota_bytes=1 << 20, place=draft.place
        )


CREATE: dict[str, Callable[[Tenant, TenantStore], Any]] = {
    "jobs": lambda t, mine: mine.submit_jobs([make_planned_job("late")]),
    "upload": bring_as,
    "webhook": lambda t, mine: mine.add_webhook("https://example.com/", ["job.ended"]),
    "declaration": lambda t, mine: mine.record_declaration(
        NewDeclaration(Kind.MODEL, "late", {}, frozenset()), "no job", "k", None
    ),
}


@pytest.mark.parametrize("is_erased", [False, True], ids=["disabled", "erased"])
def test_a_request_that_began_before_stores_nothing_after(tenant: Tenant, is_erased: bool) -> None:
    """A body may be minutes on its way, and a gateway remembers a key for seconds."""
    db = tenant.db
    tenants.ensure_tenant(db, MALLORY)
    mine = TenantStore(db, MALLORY, True)
    mine.submit_jobs([make_planned_job("early")])
    tenants.disable_tenant(db, MALLORY, has_token=True)
    if is_erased:
        tenant_erasure.erase_tenant(db, MALLORY, tenant.artifacts)
    before = tenant.store.dump()
    for create in CREATE.values():
        with pytest.raises(Conflict, match="disabled or deleted"):
            create(tenant, mine)
        assert tenant.store.dump() == before


def test_what_the_token_brings_during_an_erasure_goes_too(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tenant may be a name that nobody can disable."""
    db = tenant.db
    tenant.bring(b"early", MALLORY)
    remove_rest = tenant_erasure._remove_rest

    def bring_first(name: str, db: Database, connection: Connection) -> None:
        row = {"tenant": name, "sha256": late, "size": 4, "media_type": "text/csv"}
        connection.execute(insert(artifacts).values(**row, origin="upload", created_at=1.0))
        remove_rest(name, db, connection)

    late = tenant.artifacts.put(b"late")
    monkeypatch.setattr(tenant_erasure, "_remove_rest", bring_first)
    tenant_erasure.erase_tenant(db, MALLORY, tenant.artifacts)
    assert MALLORY not in str(tenant.store.dump())
    uploads.remove_deleted_bytes(db, tenant.artifacts)
    assert not tenant.artifacts.has(late, 4)


def test_counters_of_others_stay_whatever_a_tenant_is_called(tenant: Tenant) -> None:
    """Names of tenants stand beside states, and one that is no tenant may have any form."""
    others: dict[Labels, float] = {
        ("acme", "failed"): 1, ("aXb", "failed"): 2, ("other", "failed"): 3,
    }  # fmt: skip
    names = ("failed", "Acme", "a%", "other")
    with tenant.db.write() as connection:
        own: dict[Labels, float] = {(name, "failed"): 4 for name in names if name != "other"}
        amounts = {("tenant_jobs_finished", labels): n for labels, n in (others | own).items()}
        add_to_totals(tenant.db, connection, amounts)
    for name in names:
        tenant.store.post(make_planned_job("a"), tenant=name)
        tenant_erasure.erase_tenant(tenant.db, name, tenant.artifacts)
    with tenant.db.read() as connection:
        assert load_totals(connection)["tenant_jobs_finished"] == others
