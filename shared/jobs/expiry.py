"""One batch of what has been kept long enough, by kind. Each is one transaction, or one for each
tenant, and can be repeated: what is gone is not found again.

Every condition is looked at a second time under the locks of the rows, by the database's clock.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from shared.failpoints import failpoint
from shared.jobs.bulk_delete import delete_rows, select_rows
from shared.jobs.database import Database
from shared.jobs.mapping import slices
from shared.jobs.removal import (
    Removed,
    find_artifacts_in_use,
    group_by_events,
    list_checkpoints,
    note_unneeded,
    remove_unreferenced_jobs,
)
from shared.jobs.retention import HOUR_S, PAGE_ROLES, PERSONAL_ROLES, PICTURE_ROLES
from shared.jobs.states import LIVE, TERMINAL
from shared.jobs.tables import (
    UPLOAD_ORIGIN,
    access_log,
    artifacts,
    audit_jobs,
    audits,
    catalogs,
    events,
    idempotency,
    job_artifacts,
    job_inputs,
    jobs,
    plugin_sets,
    workers,
)
from shared.jobs.worker_registry import FORGET_AFTER_S, forget_workers, load_latest_catalog

BATCH = 250  # jobs that one transaction looks at
Position = tuple[float, str]  # an ended job: when it ended, and its id
START: Position = (-1.0, "")


def build_ended_filter(db: Database, kept_s: float) -> ColumnElement[bool]:
    """Whether a job ended so long ago."""
    return and_(jobs.c.finished_at.is_not(None), jobs.c.finished_at <= db.now - literal(kept_s))


def list_ended_jobs(db: Database, kept_s: float, after: Position) -> list[Row[Any]]:
    """The next jobs after a position that ended so long ago, oldest end first."""
    beyond = tuple_(jobs.c.finished_at, jobs.c.id) > tuple_(literal(after[0]), literal(after[1]))
    columns = (jobs.c.id, jobs.c.tenant, jobs.c.finished_at, jobs.c.event_seq)
    query = select(*columns).where(build_ended_filter(db, kept_s), beyond)
    with db.read() as connection:
        ordered = query.order_by(jobs.c.finished_at, jobs.c.id).limit(BATCH)
        return list(connection.execute(ordered))


def expire_events(db: Database, kept_s: float, rows: Collection[Row[Any]]) -> int:
    """Remove the events of ended jobs but the last one of each; those of checkpoints go with the
    checkpoints. Returns of how many jobs."""
    earlier = (events.c.job == jobs.c.id, events.c.seq < jobs.c.event_seq)
    not_checkpoint = events.c.kind != "checkpoint"
    candidates = set(_find(db, rows, exists().where(*earlier, not_checkpoint)))

    def remove(job_ids: Collection[str], connection: Connection) -> int:
        locked = _lock(db, connection, job_ids, kept_s)
        last = select(jobs.c.event_seq).where(jobs.c.id == events.c.job).scalar_subquery()
        delete_rows(connection, events, events.c.job, locked, not_checkpoint, events.c.seq < last)
        failpoint("expiry.events")
        return len(locked)

    groups = group_by_events(row for row in rows if row.id in candidates)
    return sum(db.run_transaction(partial(remove, [row.id for row in group])) for group in groups)


def expire_checkpoints(db: Database, kept_s: float, rows: Collection[Row[Any]]) -> int:
    """Remove all checkpoints of ended jobs. Returns of how many jobs."""
    saved = (events.c.job == jobs.c.id, events.c.kind == "checkpoint")
    candidates = _find(db, rows, or_(jobs.c.checkpoint.is_not(None), exists().where(*saved)))

    def remove(connection: Connection) -> int:
        locked = _lock(db, connection, candidates, kept_s)
        digests = list_checkpoints(connection, locked)
        delete_rows(connection, events, events.c.job, locked, events.c.kind == "checkpoint")
        for batch in slices(sorted(locked)):
            forgotten = update(jobs).where(jobs.c.id.in_(batch), jobs.c.checkpoint.is_not(None))
            connection.execute(
                forgotten.values(checkpoint=None, checkpoint_key=None, version=jobs.c.version + 1)
            )
        note_unneeded(db, connection, digests)
        failpoint("expiry.checkpoints")
        return len(locked)

    return db.run_transaction(remove) if candidates else 0


def expire_reconstructions(db: Database, kept_s: float, rows: Collection[Row[Any]]) -> int:
    """Remove the bytes of what shows or names samples, unless a job that has not ended needs them;
    the jobs stay, and say that it has expired. Returns how many artifacts."""
    shows_pictures = exists().where(
        job_inputs.c.job == job_artifacts.c.job, job_inputs.c.parent_role.in_(PICTURE_ROLES)
    )
    is_personal = or_(
        job_artifacts.c.role.in_(PERSONAL_ROLES),
        and_(job_artifacts.c.role.in_(PAGE_ROLES), shows_pictures),
    )
    has_bytes = and_(artifacts.c.expired_at.is_(None), artifacts.c.origin != UPLOAD_ORIGIN)
    links = job_artifacts.join(artifacts)
    left = select(job_artifacts.c.job).select_from(links).where(is_personal, has_bytes)
    candidates = _find(db, rows, left.where(job_artifacts.c.job == jobs.c.id).exists())

    def expire(tenant: str, job_ids: Collection[str], connection: Connection) -> int:
        locked = _lock(db, connection, job_ids, kept_s)
        columns, mine = (job_artifacts.c.sha256,), job_artifacts.c.tenant == tenant
        digests = {
            row.sha256
            for row in select_rows(connection, columns, job_artifacts.c.job, locked, is_personal)
        }
        for batch in slices(sorted(digests)):
            rows = (artifacts.c.tenant == tenant) & artifacts.c.sha256.in_(batch)
            query = select(artifacts.c.sha256).where(rows).order_by(artifacts.c.sha256)
            connection.execute(query.with_for_update()).all()
        makers = {
            (row.sha256, row.job)
            for row in select_rows(
                connection, (*columns, job_artifacts.c.job), columns[0], digests, mine
            )
        }
        needed = _find_needed(db, connection, kept_s, {job for _, job in makers})
        digests -= {sha256 for sha256, job in makers if job in needed}
        digests -= find_artifacts_in_use(connection, tenant, digests)
        expired = 0
        for batch in slices(sorted(digests)):
            these = (artifacts.c.tenant == tenant, artifacts.c.sha256.in_(batch), has_bytes)
            is_kept = and_(artifacts.c.expires_at.is_not(None), artifacts.c.expires_at > db.now)
            expired += connection.execute(
                update(artifacts).where(*these, ~is_kept).values(expired_at=db.now)
            ).rowcount
        note_unneeded(db, connection, digests)
        failpoint("expiry.reconstructions")
        return expired

    by_tenant = _group_by_tenant(rows, candidates)
    return sum(db.run_transaction(partial(expire, *group)) for group in by_tenant.items())


def expire_jobs(db: Database, kept_s: float, rows: Collection[Row[Any]]) -> Removed:
    """Remove jobs that belong to no audit and that nothing else refers to."""
    in_audit = exists().where(audit_jobs.c.job == jobs.c.id)

    def remove(tenant: str, group: Collection[Row[Any]], connection: Connection) -> Removed:
        ids, due = [row.id for row in group], build_ended_filter(db, kept_s)
        # the next walk comes back for what is left, or locked
        return remove_unreferenced_jobs(db, connection, tenant, ids, due, skip_locked=True)[0]

    candidates = set(_find(db, rows, ~in_audit))
    total = Removed()
    for tenant in sorted({row.tenant for row in rows}):
        mine = (row for row in rows if row.tenant == tenant and row.id in candidates)
        for group in group_by_events(mine):
            total += db.run_transaction(partial(remove, tenant, group))
    return total


def mark_expired_audits(db: Database, kept_s: float, limit: int = BATCH) -> list[str]:
    """Have those audits deleted all of whose jobs ended so long ago; returns their ids."""
    link = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
    young = or_(
        jobs.c.state.in_(sorted(LIVE)),
        jobs.c.finished_at.is_(None),
        jobs.c.finished_at > db.now - literal(kept_s),
    )
    has_young = (
        select(audit_jobs.c.job).select_from(link).where(audit_jobs.c.audit == audits.c.id, young)
    ).exists()
    is_old = (audits.c.created_at <= db.now - literal(kept_s), ~audits.c.deleting)
    with db.read() as connection:
        query = select(audits.c.id).where(*is_old, ~has_young).order_by(audits.c.created_at)
        candidates = list(connection.execute(query.limit(limit)).scalars())

    def mark(connection: Connection) -> list[str]:
        query = select(audits.c.id).where(audits.c.id.in_(candidates)).order_by(audits.c.id)
        locked = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
        marked = update(audits).where(audits.c.id.in_(locked), *is_old, ~has_young)
        rows = connection.execute(marked.values(deleting=True).returning(audits.c.id))
        ids = list(rows.scalars())
        failpoint("expiry.audits")
        return ids

    return db.run_transaction(mark) if candidates else []


def expire_answers(db: Database, kept_s: float) -> int:
    """Remove answers under Idempotency-Keys; returns how many."""
    old = idempotency.c.created_at <= db.now - literal(kept_s)
    keys = select(idempotency.c.tenant, idempotency.c.key).where(old).limit(2 * BATCH)
    with db.read() as connection:
        candidates = list(connection.execute(keys))
    if not candidates:
        return 0
    these = tuple_(idempotency.c.tenant, idempotency.c.key).in_([tuple(row) for row in candidates])
    return db.run_transaction(
        lambda c: int(c.execute(delete(idempotency).where(these, old)).rowcount)
    )


def expire_log(db: Database, kept_s: float) -> int:
    """Remove entries of the log of who changed what; returns how many."""
    old = access_log.c.at <= db.now - literal(kept_s)
    query = select(access_log.c.id).where(old).order_by(access_log.c.at).limit(2 * BATCH)
    with db.read() as connection:
        candidates = list(connection.execute(query).scalars())
    if not candidates:
        return 0
    these = access_log.c.id.in_(candidates)
    return db.run_transaction(
        lambda c: int(c.execute(delete(access_log).where(these, old)).rowcount)
    )


def expire_workers(db: Database) -> int:
    """Remove the rows of workers that have not been seen for an hour; returns how many."""
    old = workers.c.seen_at < db.now - FORGET_AFTER_S
    with db.read() as connection:
        if connection.execute(select(workers.c.id).where(old).limit(1)).first() is None:
            return 0
    return db.run_transaction(lambda c: forget_workers(c, old))


def expire_catalogs(db: Database, kept_s: float) -> int:
    """Remove catalogs older than the current one that no worker serves, and sets of plugins that no
    job needs; returns how many of both."""
    current, _ = load_latest_catalog(db)
    latest = select(catalogs.c.published_at).where(catalogs.c.digest == current).scalar_subquery()
    serving = exists().where(workers.c.catalog == catalogs.c.digest)
    old = and_(
        catalogs.c.published_at <= db.now - literal(kept_s),
        catalogs.c.published_at < latest,
        ~serving,
    )
    with db.read() as connection:
        has_old = connection.execute(select(catalogs.c.digest).where(old).limit(1)).first()
    removed = 0
    if has_old:
        removed = db.run_transaction(lambda c: int(c.execute(delete(catalogs).where(old)).rowcount))
    return removed + _expire_plugin_sets(db)


def _expire_plugin_sets(db: Database) -> int:
    """Nothing leads from a set to its jobs: all jobs are looked at once, while others write, and in
    the transaction that removes a set only those that may have come in since."""
    with db.read() as connection:
        looked_at = float(connection.execute(select(db.now)).scalar_one())
        used = set(connection.execute(select(jobs.c.plugin_set).distinct()).scalars())
        unused = [row for row in connection.execute(select(plugin_sets)) if row.digest not in used]

    def remove(row: Row[Any], connection: Connection) -> int:
        its = plugin_sets.c.digest == row.digest
        # who submits a job holds on to the row of its set
        lock = select(plugin_sets.c.digest).where(its).with_for_update(skip_locked=True)
        live = and_(jobs.c.stage == row.stage, jobs.c.state.in_(sorted(LIVE)))
        # the clock may have been set back meanwhile
        ended = jobs.c.finished_at >= looked_at - HOUR_S
        if connection.execute(lock).first() is None:
            return 0
        for since in (live, ended):
            newer = select(jobs.c.id).where(since, jobs.c.plugin_set == row.digest).limit(1)
            if connection.execute(newer).first() is not None:
                return 0
        return int(connection.execute(delete(plugin_sets).where(its)).rowcount)

    return sum(db.run_transaction(partial(remove, row)) for row in unused)


def _find(db: Database, rows: Collection[Row[Any]], condition: Any) -> list[str]:
    """Ids of the jobs of which a condition holds, without a lock."""
    with db.read() as connection:
        return [
            row.id
            for row in select_rows(
                connection, (jobs.c.id,), jobs.c.id, [row.id for row in rows], condition
            )
        ]


def _lock(
    db: Database, connection: Connection, job_ids: Collection[str], kept_s: float
) -> set[str]:
    """Those that have still ended so long ago, locked; a retry may have come first."""
    locked: set[str] = set()
    due = (jobs.c.state.in_(sorted(TERMINAL)), build_ended_filter(db, kept_s))
    for batch in slices(sorted(job_ids)):
        query = select(jobs.c.id).where(jobs.c.id.in_(batch), *due).order_by(jobs.c.id)
        locked |= set(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    return locked


def _find_needed(
    db: Database, connection: Connection, kept_s: float, job_ids: Collection[str]
) -> set[str]:
    """Those of these jobs that have not ended so long ago, or whose results a live job takes."""
    child = jobs.alias("child")
    takes = (
        select(child.c.id)
        .select_from(job_inputs.join(child, child.c.id == job_inputs.c.job))
        .where(job_inputs.c.parent == jobs.c.id, child.c.state.in_(sorted(LIVE)))
    )
    due = and_(jobs.c.state.in_(sorted(TERMINAL)), build_ended_filter(db, kept_s))
    needed = or_(~func.coalesce(due, False), takes.exists())
    return {row.id for row in select_rows(connection, (jobs.c.id,), jobs.c.id, job_ids, needed)}


def _group_by_tenant(rows: Collection[Row[Any]], job_ids: Collection[str]) -> dict[str, list[str]]:
    wanted, groups = set(job_ids), dict[str, list[str]]()
    for row in rows:
        if row.id in wanted:
            groups.setdefault(row.tenant, []).append(row.id)
    return groups
