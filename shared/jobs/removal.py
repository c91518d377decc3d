"""Removes ended jobs that nothing refers to, with what they have left.

A job is referred to by an audit, a declaration, a job that takes an output of it (ended or not), a
job that has taken over its result, and a live job or a declaration that names one of its artifacts
by its digest. Who refers to a job locks its row, or that of the artifact, until the commit: here
both are locked first and then looked at, so a reference is either seen or finds the job gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, func, insert, select, update

from shared.failpoints import failpoint
from shared.jobs.bulk_delete import delete_rows, list_unneeded, select_rows
from shared.jobs.bulk_insert import insert_rows
from shared.jobs.database import Database
from shared.jobs.job_insert import generate_id
from shared.jobs.locks import lock_name
from shared.jobs.mapping import slices
from shared.jobs.states import LIVE, TERMINAL
from shared.jobs.tables import (
    NEVER,
    UPLOAD_ORIGIN,
    artifacts,
    audit_jobs,
    declarations,
    declared_uploads,
    deleted_artifacts,
    erasures,
    events,
    job_artifacts,
    job_inputs,
    jobs,
)
from shared.uploaded_files import PREFIX

_TAKEN_OVER = (jobs.c.reused_from, jobs.c.id)  # whose result, and who took it
MAX_EVENTS = 20_000  # that one transaction removes, unless a single job has more
MAX_CASCADE = 500  # jobs that one transaction removes because what was made of them is gone


@dataclass(frozen=True)
class Removed:
    """How many jobs and artifacts have gone. `size` is in bytes, of all artifacts together."""

    jobs: int = 0
    artifacts: int = 0
    size: int = 0

    def __add__(self, more: Removed) -> Removed:
        return Removed(
            self.jobs + more.jobs, self.artifacts + more.artifacts, self.size + more.size
        )


def remove_unreferenced_jobs(
    db: Database,
    connection: Connection,
    tenant: str,
    job_ids: Iterable[str],
    is_due: Any,
    *,
    skip_locked: bool = False,
) -> tuple[Removed, set[str]]:
    """Remove those of a tenant's ended jobs that nothing else refers to, then those of which they
    were made, or whose result they had taken over, if nothing refers to them any more, and so on.
    Returns what has gone, and the jobs that were to be looked at too, and would have made the
    transaction too large.

    Args:
        is_due: holds of the jobs that may go, as a condition on `jobs`.
        skip_locked: leave out jobs that another transaction holds, rather than wait for it; only
            for who comes back for them.
    """
    pending, left, left_bytes = set(job_ids), set[str](), set[str]()
    total, event_count = Removed(), 0
    while pending and total.jobs < MAX_CASCADE:
        sizes = _lock_due(connection, tenant, pending, is_due, skip_locked)
        due, size = set[str](), event_count
        for job, size_of_job in sizes.items():
            if size and size + size_of_job > MAX_EVENTS:
                left.add(job)
            else:
                due.add(job)
                size += size_of_job
        digests = _lock_artifacts(connection, tenant, due)
        free = due - _find_referred(connection, tenant, due, digests)
        needed = {
            row.needed
            for column, user in ((job_inputs.c.parent, job_inputs.c.job), _TAKEN_OVER)
            for row in select_rows(connection, (column.label("needed"),), user, free)
            if row.needed
        }
        step, digests_left = _remove_rows(connection, tenant, free)
        total, left_bytes = total + step, left_bytes | digests_left
        event_count += sum(sizes[job] for job in free)
        pending = needed - free
    left |= _lock_due(connection, tenant, pending, is_due, skip_locked).keys()
    note_unneeded(db, connection, left_bytes)
    failpoint("removal.before_commit")
    return total, left


def group_by_events(rows: Iterable[Row[Any]]) -> list[list[Row[Any]]]:
    """Jobs in their order, in groups of which one transaction may remove the events: a job of a day
    has tens of thousands. The rows have `event_seq`."""
    groups, size = list[list[Row[Any]]](), MAX_EVENTS
    for row in rows:
        size += row.event_seq
        if size > MAX_EVENTS:
            groups.append([])
            size = row.event_seq
        groups[-1].append(row)
    return groups


def note_erasure(db: Database, connection: Connection, audit_id: str | None = None) -> None:
    """Have the traces of this transaction removed from the database's own files as well; of an
    audit, when all of it is gone."""
    note_id = generate_id("era") if audit_id is None else compute_note_id(audit_id)
    connection.execute(insert(erasures).values(id=note_id, created_at=db.now))


def compute_note_id(audit_id: str) -> str:
    """The id of the note of an audit's deletion, from which nobody learns that of the audit."""
    return f"era_{hashlib.sha256(audit_id.encode()).hexdigest()[:20]}"


def list_checkpoints(connection: Connection, job_ids: Collection[str]) -> set[str]:
    """Digests of all states that attempts of these jobs have saved: a newer one replaces the
    pointer to it, and leaves the bytes."""
    is_checkpoint = events.c.kind == "checkpoint"
    saved = select_rows(connection, (events.c.data,), events.c.job, job_ids, is_checkpoint)
    current = select_rows(
        connection, (jobs.c.checkpoint,), jobs.c.id, job_ids, jobs.c.checkpoint.is_not(None)
    )
    return {json.loads(row.data)["sha256"] for row in saved} | {row.checkpoint for row in current}


def note_unneeded(db: Database, connection: Connection, digests: Collection[str]) -> None:
    """Have those of these bytes removed from the store that no row needs any more. To be called
    once, last in a transaction, when it has removed its rows.

    Of two transactions that remove the last two rows for the same bytes, neither sees what the
    other has removed before that commits: the second waits for it here. It is one lock, not one
    for each digest: of those PostgreSQL has room for a few thousand only.
    """
    if not digests:
        return
    lock_name(db, connection, "bytes that nobody needs")
    rows = [{"sha256": sha256} for sha256 in sorted(list_unneeded(connection, digests))]
    insert_rows(connection, deleted_artifacts, rows, ignore_conflicts=True)


def find_artifacts_in_use(
    connection: Connection, tenant: str, digests: Collection[str]
) -> set[str]:
    """Those of these artifacts that a live job of the tenant, or a declaration, names by their
    digest."""
    mine, live = jobs.c.tenant == tenant, jobs.c.state.in_(sorted(LIVE))
    used: set[str] = set()
    for batch in slices(sorted(digests)):
        read = select(job_inputs.c.sha256).join(jobs, jobs.c.id == job_inputs.c.job)
        used |= set(
            connection.execute(read.where(job_inputs.c.sha256.in_(batch), mine, live)).scalars()
        )
        declared = select(declared_uploads.c.sha256).join(
            declarations, declarations.c.id == declared_uploads.c.declaration
        )
        where = (declared_uploads.c.sha256.in_(batch), declarations.c.tenant == tenant)
        used |= set(connection.execute(declared.where(*where)).scalars())
    if not digests:
        return used
    files = select(jobs.c.data).where(mine, live, jobs.c.data.contains(PREFIX)).distinct()
    for data in connection.execute(files).scalars():
        paths = (path for path in json.loads(data) if path.startswith(PREFIX))
        used |= {path.removeprefix(PREFIX) for path in paths} & set(digests)
    return used


def _lock_due(
    connection: Connection, tenant: str, job_ids: Collection[str], is_due: Any, skip_locked: bool
) -> dict[str, int]:
    """Those that may go, with the number of their events; they are locked."""
    due: dict[str, int] = {}
    for batch in slices(sorted(job_ids)):
        ended = (jobs.c.tenant == tenant, jobs.c.state.in_(sorted(TERMINAL)), is_due)
        query = select(jobs.c.id, jobs.c.event_seq).where(jobs.c.id.in_(batch), *ended)
        locked = query.order_by(jobs.c.id).with_for_update(skip_locked=skip_locked)
        due |= {row.id: row.event_seq for row in connection.execute(locked)}
    return due


def _lock_artifacts(
    connection: Connection, tenant: str, job_ids: Collection[str]
) -> dict[str, set[str]]:
    """By digest, those of these jobs that have made it; the rows are locked."""
    makers: dict[str, set[str]] = {}
    columns = (job_artifacts.c.sha256, job_artifacts.c.job)
    for row in select_rows(connection, columns, job_artifacts.c.job, job_ids):
        makers.setdefault(row.sha256, set()).add(row.job)
    for batch in slices(sorted(makers)):
        mine = (artifacts.c.tenant == tenant) & artifacts.c.sha256.in_(batch)
        query = select(artifacts.c.sha256).where(mine).order_by(artifacts.c.sha256)
        connection.execute(query.with_for_update()).all()
    return makers


def _find_referred(
    connection: Connection, tenant: str, job_ids: Collection[str], makers: dict[str, set[str]]
) -> set[str]:
    """Those that something else refers to, or one of these that stays for that reason."""
    referred: set[str] = set()
    for column in (audit_jobs.c.job, declarations.c.job):
        rows = select_rows(connection, (column.label("id"),), column, job_ids)
        referred |= {row.id for row in rows}
    for sha256 in find_artifacts_in_use(connection, tenant, makers):
        referred |= makers[sha256]
    needs: dict[str, set[str]] = {}  # by job, those of these that it was made of
    for by, user in ((job_inputs.c.parent, job_inputs.c.job), _TAKEN_OVER):
        for row in select_rows(connection, (by.label("used"), user.label("user")), by, job_ids):
            needs.setdefault(row.user, set()).add(row.used)
    staying = (needs.keys() - set(job_ids)) | referred
    while staying:
        staying = set().union(*(needs.get(job, ()) for job in staying)) - referred
        referred |= staying
    return referred


def _remove_rows(
    connection: Connection, tenant: str, job_ids: Collection[str]
) -> tuple[Removed, set[str]]:
    """What went, and the digests of the bytes that these jobs had."""
    if not job_ids:
        return Removed(), set()
    outputs = {
        row.sha256
        for column in (job_artifacts.c.job, artifacts.c.origin)
        for row in select_rows(connection, (column.table.c.sha256,), column, job_ids)
    }
    checkpoints = list_checkpoints(connection, job_ids)
    for table in (events, job_inputs, job_artifacts):
        delete_rows(connection, table, table.c.job, job_ids)
    delete_rows(connection, jobs, jobs.c.id, job_ids)
    gone, size = _remove_artifacts(connection, tenant, outputs)
    return Removed(len(job_ids), len(gone), size), checkpoints | gone


def _remove_artifacts(
    connection: Connection, tenant: str, digests: Collection[str]
) -> tuple[set[str], int]:
    """Of artifacts whose job is gone, those that no other job makes go, unless they were brought
    too. Returns their digests and bytes."""
    mine = artifacts.c.tenant == tenant
    maker = (
        select(func.min(job_artifacts.c.job))
        .where(job_artifacts.c.tenant == tenant, job_artifacts.c.sha256 == artifacts.c.sha256)
        .scalar_subquery()
    )
    others = exists().where(
        job_artifacts.c.tenant == tenant, job_artifacts.c.sha256 == artifacts.c.sha256
    )
    is_brought = artifacts.c.expires_at.is_not(None) & artifacts.c.expired_at.is_(None)
    gone, size = set(), 0
    for batch in slices(sorted(digests)):
        these = (mine, artifacts.c.sha256.in_(batch), artifacts.c.origin != UPLOAD_ORIGIN)
        connection.execute(update(artifacts).where(*these, others).values(origin=maker))
        becomes_upload = update(artifacts).where(*these, ~others, is_brought)
        expiry = func.nullif(artifacts.c.expires_at, NEVER)
        connection.execute(becomes_upload.values(origin=UPLOAD_ORIGIN, expires_at=expiry))
        left = (*these, ~others, ~is_brought)
        for row in connection.execute(select(artifacts.c.sha256, artifacts.c.size).where(*left)):
            gone.add(row.sha256)
            size += row.size
    delete_rows(connection, artifacts, artifacts.c.sha256, gone, mine)
    return gone, size
