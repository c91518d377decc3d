"""Erasing a tenant: everything that is stored in its name, and nothing of anybody else's.

Its jobs are cancelled and must have ended. All rows then go in batches, last the one that says that
there is such a tenant; which bytes nobody else has is noted with them, and that traces are left
(`shared.jobs.erasure` finishes both). Killed in between, it is repeated from the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from shared.artifacts import ArtifactStore
from shared.errors import Conflict, NotFound
from shared.failpoints import failpoint
from shared.jobs.access_log import hide_tenant
from shared.jobs.bulk_delete import delete_rows
from shared.jobs.control import cancel_audit, cancel_job
from shared.jobs.database import Database
from shared.jobs.erasure import Erasure, finish_soon
from shared.jobs.mapping import slices, to_json
from shared.jobs.outbox_reader import OTHER_TENANTS
from shared.jobs.removal import group_by_events, list_checkpoints, note_erasure, note_unneeded
from shared.jobs.states import LIVE
from shared.jobs.tables import (
    artifacts,
    audit_jobs,
    audits,
    declarations,
    events,
    job_artifacts,
    job_inputs,
    jobs,
    metadata,
    metric_totals,
    previews,
    tenants,
    webhook_deliveries,
    webhooks,
)

BATCH = 500  # rows of jobs, or of artifacts, that one transaction removes
ROWS = 1000  # of other tables
_NAMED_BY = (metric_totals, tenants)  # tables without a column for whose a row is
_Count = tuple[int, int]  # rows, and bytes
POLL_S = 0.5


def erase_tenant(
    db: Database,
    tenant: str,
    store: ArtifactStore,
    *,
    wait_s: float = 60.0,
    scrub_wait_s: float = 2.0,
) -> Erasure:
    """Remove a tenant with all that it has: audits, jobs, models, data sets, uploads, artifacts,
    answers, keys and its entries in the log. Nobody may use its keys any more: disable it first.

    Args:
        wait_s: seconds to wait for its jobs to end, once they are told to.
        scrub_wait_s: see `shared.jobs.erasure.erase`.

    Raises:
        NotFound: nothing is stored in its name.
        Conflict: some of its jobs have not ended; call it again.
        TransientError: the job store did not answer; call it again.
    """
    if not any(_has_rows(db, table, tenant) for table in (*_list_tables(), *_NAMED_BY)):
        raise NotFound(f"nothing is stored for tenant {tenant}")
    _end_jobs(db, tenant, wait_s)
    with db.read() as connection:
        mine = select(func.count()).select_from(audits).where(audits.c.tenant == tenant)
        audit_count = int(connection.execute(mine).scalar_one())
    for table, is_its in _list_references(tenant):
        _repeat(db, partial(_remove_some, table, is_its))
        failpoint("tenant_erasure.references")
    job_count = _repeat(db, partial(_remove_jobs, tenant))[0]
    artifact_count, size = _repeat(db, partial(_remove_artifacts, tenant))
    db.run_transaction(lambda c: hide_tenant(c, tenant))
    for table in _list_tables():
        _repeat(db, partial(_remove_some, table, _is_of(table, tenant)))
    db.run_transaction(lambda c: _remove_rest(tenant, db, c))
    finished = finish_soon(db, store, scrub_wait_s)
    return Erasure(audit_count, job_count, artifact_count, size, finished)


def _list_tables() -> list[Table]:
    """Those whose rows say whose they are; the ones that all need come last."""
    return [table for table in reversed(metadata.sorted_tables) if "tenant" in table.c]


def _has_rows(db: Database, table: Table, tenant: str) -> bool:
    with db.read() as connection:
        return bool(connection.execute(select(exists().where(_is_of(table, tenant)))).scalar_one())


def _is_of(table: Table, tenant: str) -> ColumnElement[bool]:
    if table is tenants:
        return tenants.c.name == tenant
    if table is metric_totals:
        # the first label; a pattern would not tell upper from lower case on SQLite
        start = to_json([tenant]).removesuffix("]") + ","
        named = func.substr(metric_totals.c.labels, 1, len(start)) == start
        # what is summed is of many
        is_sum = tenant == OTHER_TENANTS
        return and_(metric_totals.c.name == "tenant_jobs_finished", named, literal(not is_sum))
    its: ColumnElement[bool] = table.c.tenant == tenant
    return its


def _end_jobs(db: Database, tenant: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    is_live = (jobs.c.tenant == tenant, jobs.c.state.in_(sorted(LIVE)))
    while True:
        with db.read() as connection:
            links = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
            active = select(audit_jobs.c.audit).select_from(links).where(*is_live).distinct()
            audit_ids = list(connection.execute(active.where(~audit_jobs.c.detached)).scalars())
        for audit_id in audit_ids:
            try:
                cancel_audit(db, tenant, audit_id)
            except NotFound:
                continue  # it is being deleted
        with db.read() as connection:
            live = list(connection.execute(select(jobs.c.id).where(*is_live)).scalars())
        for job_id in live:
            try:
                cancel_job(db, tenant, job_id)
            except NotFound:
                continue
        with db.read() as connection:
            left = list(connection.execute(select(jobs.c.id).where(*is_live).limit(1)).scalars())
        if not left:
            return
        if time.monotonic() > deadline:
            raise Conflict(
                f"jobs of tenant {tenant} have not ended (such as {left[0]}), although "
                "they were cancelled: nothing was removed; wait until they have, and try "
                "again"
            )
        time.sleep(POLL_S)


def _list_references(tenant: str) -> list[tuple[Table, ColumnElement[bool]]]:
    """What refers to jobs, and is found by the tenant's name; what hangs on other rows first, as
    of one audit there may be 10,000 links."""
    its_audits = select(audits.c.id).where(audits.c.tenant == tenant)
    its_webhooks = select(webhooks.c.id).where(webhooks.c.tenant == tenant)
    return [
        (webhook_deliveries, webhook_deliveries.c.webhook.in_(its_webhooks)),
        (audit_jobs, audit_jobs.c.audit.in_(its_audits)),
        (audits, audits.c.tenant == tenant),
        (declarations, declarations.c.tenant == tenant),
    ]


def _repeat(db: Database, step: Callable[[Database, Connection], _Count]) -> _Count:
    count = size = 0
    while (done := db.run_transaction(lambda c: step(db, c)))[0]:
        count, size = count + done[0], size + done[1]
        failpoint("tenant_erasure.between_batches")
    return count, size


def _remove_some(
    table: Table, condition: ColumnElement[bool], db: Database, connection: Connection
) -> _Count:
    key = tuple_(*table.primary_key.columns)
    some = select(*table.primary_key.columns).where(condition).limit(ROWS)
    count = connection.execute(delete(table).where(key.in_(some))).rowcount
    if count:
        note_erasure(db, connection)
    return count, 0


def _remove_jobs(tenant: str, db: Database, connection: Connection) -> _Count:
    columns = (jobs.c.id, jobs.c.state, jobs.c.event_seq)
    query = select(*columns).where(jobs.c.tenant == tenant).order_by(jobs.c.id).limit(BATCH)
    groups = group_by_events(connection.execute(query.with_for_update()))
    rows = groups[0] if groups else []
    if live := [row.id for row in rows if row.state in LIVE]:
        raise Conflict(f"job {live[0]} was submitted meanwhile: disable the tenant first")
    ids = [row.id for row in rows]
    checkpoints = list_checkpoints(connection, ids)
    for batch in slices(ids):
        refers = or_(job_inputs.c.job.in_(batch), job_inputs.c.parent.in_(batch))
        connection.execute(delete(job_inputs).where(refers))
    for table in (events, job_artifacts, audit_jobs, previews):
        delete_rows(connection, table, table.c.job, ids)
    delete_rows(connection, jobs, jobs.c.id, ids)
    if ids:
        note_erasure(db, connection)
    note_unneeded(db, connection, checkpoints)
    return len(ids), 0


def _remove_artifacts(tenant: str, db: Database, connection: Connection) -> _Count:
    mine = artifacts.c.tenant == tenant
    query = select(artifacts.c.sha256, artifacts.c.size).where(mine).limit(BATCH)
    sizes = {row.sha256: int(row.size) for row in connection.execute(query.with_for_update())}
    _remove_their_rows(connection, tenant, sizes)
    if sizes:
        note_erasure(db, connection)
    note_unneeded(db, connection, sizes)
    return len(sizes), sum(sizes.values())


def _remove_their_rows(connection: Connection, tenant: str, digests: Collection[str]) -> None:
    links: Any = job_artifacts.c.tenant == tenant
    delete_rows(connection, job_artifacts, job_artifacts.c.sha256, digests, links)
    mine: Any = artifacts.c.tenant == tenant
    delete_rows(connection, artifacts, artifacts.c.sha256, digests, mine)


def _remove_rest(tenant: str, db: Database, connection: Connection) -> None:
    """What is found by the tenant's name only, and what came in meanwhile."""
    # who stores something holds on to the tenant's row until it has
    connection.execute(select(tenants.c.name).where(tenants.c.name == tenant).with_for_update())
    for table in (audits, declarations):
        connection.execute(delete(table).where(_is_of(table, tenant)))
    while _remove_jobs(tenant, db, connection)[0] or _remove_artifacts(tenant, db, connection)[0]:
        pass
    for table in (*_list_tables(), *_NAMED_BY):
        connection.execute(delete(table).where(_is_of(table, tenant)))
    note_erasure(db, connection)
    failpoint("tenant_erasure.before_commit")
