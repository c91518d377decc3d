"""Erasing uploads with everything that was made of them.

One transaction removes all rows, notes in `deleted_artifacts` which bytes must go, and in `erasures`
that traces are left. What follows can be repeated and is finished by whoever comes next, the caller
or a reconciler: the bytes go, their notes go, the database's own files are rewritten
(`shared.jobs.scrubbing`), and last the row in `erasures`.

On PostgreSQL the rows of the closure are locked before it is decided upon: who submits a job locks
the rows that the job refers to, so either the submission is seen here, or it finds them gone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Table,
    delete,
    func,
    or_,
    select,
    update,
)

from shared.artifacts import ArtifactStore
from shared.errors import Conflict, NotFound, TransientError
from shared.failpoints import failpoint
from shared.jobs.access_log import hide_subjects
from shared.jobs.bulk_delete import delete_rows, select_rows
from shared.jobs.database import Database
from shared.jobs.derivation import Derivation, find_derivation
from shared.jobs.locks import lock_name
from shared.jobs.mapping import slices
from shared.jobs.removal import compute_note_id, note_erasure, note_unneeded
from shared.jobs.scrubbing import scrub
from shared.jobs.states import LIVE
from shared.jobs.tables import (
    IS_DELETING,
    UPLOAD_ORIGIN,
    artifacts,
    audit_jobs,
    audit_labels,
    audits,
    declarations,
    erasures,
    events,
    idempotency,
    job_artifacts,
    job_inputs,
    jobs,
)
from shared.jobs.uploads import (
    KIND_NAMES,
    count_deleted_bytes,
    remove_deleted_bytes,
)
from shared.jobs.webhooks import forget_deleted

MAX_LOCK_ROUNDS = 5
SOON_S = 10.0  # seconds for the removal of bytes, while somebody waits for an answer
# a larger SQLite file is rewritten by the reconciler, not while somebody waits for an answer
MAX_FILE_BYTES = 64 << 20
DELETED_NAME = "deleted upload"  # stands for a digest in the name of an audit that stays


@dataclass(frozen=True)
class ErasedAudit:
    """An audit that goes with an upload."""

    id: str
    name: str


@dataclass(frozen=True)
class ErasurePlan:
    """What erasing some uploads would remove. `size` is in bytes, of all artifacts together."""

    audits: tuple[ErasedAudit, ...]  # oldest first
    jobs: int
    jobs_by_stage: dict[str, int]
    live_jobs: int  # of them and their audits, that have not ended
    artifacts: int  # the uploads included
    size: int
    shared_artifacts: int  # that stay, because something else of the tenant has the same bytes


@dataclass(frozen=True)
class Erasure:
    """What was removed. `size` is in bytes, of all artifacts together."""

    audits: int
    jobs: int
    artifacts: int
    size: int
    finished: bool  # False: a reconciler removes the traces that are left


def plan_erasure(db: Database, tenant: str, digests: Collection[str]) -> ErasurePlan:
    """What erasing these uploads would remove.

    Raises:
        NotFound: there is neither such an upload nor anything that was made of it.
    """
    with db.read() as connection:
        derivation = _find(connection, tenant, digests)
        named = select_rows(
            connection,
            (audits.c.id, audits.c.name, audits.c.created_at),
            audits.c.id,
            derivation.audits,
        )
        stages = select_rows(connection, (jobs.c.id, jobs.c.stage), jobs.c.id, derivation.jobs)
        by_stage: dict[str, int] = {}
        for row in stages:
            by_stage[row.stage] = by_stage.get(row.stage, 0) + 1
        size, count = _measure(connection, tenant, derivation)
        return ErasurePlan(
            tuple(
                ErasedAudit(r.id, r.name) for r in sorted(named, key=lambda r: (r.created_at, r.id))
            ),
            len(derivation.jobs),
            dict(sorted(by_stage.items())),
            len(_list_live_jobs(connection, derivation)),
            count,
            size,
            len(derivation.shared),
        )


def erase(
    db: Database,
    tenant: str,
    store: ArtifactStore,
    digests: Collection[str],
    *,
    also: Callable[[Connection], None] | None = None,
    wait_s: float = 2.0,
) -> Erasure:
    """Remove uploads with everything that was made of them: all or nothing.

    Args:
        also: removes further rows that name the uploads, in the same transaction.
        wait_s: seconds to wait for others' transactions before the reconciler is left to rewrite
            the database's files.

    Raises:
        NotFound: there is neither such an upload nor anything that was made of it.
        Conflict: jobs of it have not ended, or a declaration refers to it; nothing was removed.
        TransientError: the job store did not answer, or too much changed meanwhile.
    """

    def remove(connection: Connection) -> tuple[int, int, int, int]:
        derivation = _lock(db, connection, tenant, digests)
        _require_ended(connection, derivation)
        size, count = _measure(connection, tenant, derivation)
        if also is not None:
            also(connection)
        _require_undeclared(connection, derivation)
        _remove_rows(db, connection, tenant, derivation, digests)
        failpoint("erasure.before_commit")
        return len(derivation.audits), len(derivation.jobs), count, size

    n_audits, n_jobs, n_artifacts, size = db.run_transaction(remove)
    failpoint("erasure.after_commit")
    return Erasure(n_audits, n_jobs, n_artifacts, size, finish_soon(db, store, wait_s))


def finish_erasures(
    db: Database,
    store: ArtifactStore,
    wait_s: float = 2.0,
    *,
    ends_at: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Remove what erasures have left; whether nothing is left of those that were there.

    Args:
        wait_s: seconds to wait for others' transactions; nobody can write meanwhile.
        ends_at: by the clock, from when on no more bytes are removed from the store: the next call
            goes on with them.

    Raises:
        TransientError: a store did not answer; the next call goes on.
    """
    with db.read() as connection:
        pending = set(connection.execute(select(erasures.c.id)).scalars())
        deleting = connection.execute(select(audits.c.id).where(IS_DELETING)).scalars()
        # the traces of an audit are complete when all of it is gone
        unfinished = pending & {compute_note_id(audit_id) for audit_id in deleting}
    if not (finished := pending - unfinished):
        return not unfinished
    while count_deleted_bytes(db):
        if clock() >= ends_at:
            return False
        remove_deleted_bytes(db, store)
    failpoint("erasure.after_bytes")
    if not scrub(db, wait_s):
        return False
    failpoint("erasure.after_scrub")
    db.run_transaction(lambda c: delete_rows(c, erasures, erasures.c.id, finished))
    return not unfinished


def finish_soon(db: Database, store: ArtifactStore, wait_s: float) -> bool:
    """Remove what erasures have left, if that takes no longer than somebody waits for an answer;
    whether all of it is gone."""
    try:
        if db.dialect == "sqlite" and _measure_file(db) <= MAX_FILE_BYTES:
            return finish_erasures(db, store, wait_s, ends_at=time.monotonic() + SOON_S)
        remove_deleted_bytes(db, store)
    except TransientError:
        pass  # the deletion is committed: a reconciler goes on
    return False


def _measure_file(db: Database) -> int:
    return db.file.stat().st_size if db.file is not None else 0


def _find(connection: Connection, tenant: str, digests: Collection[str]) -> Derivation:
    """The closure of uploads.

    Raises:
        NotFound: one is an artifact of a job rather than an upload, or nothing is known of it.
    """
    rows = {
        row.sha256: row
        for row in select_rows(connection, artifacts.c, artifacts.c.sha256, digests)
        if row.tenant == tenant
    }
    for sha256 in digests:
        if sha256 in rows and rows[sha256].origin != UPLOAD_ORIGIN:
            raise NotFound(f"{sha256} is not an upload: jobs have produced these bytes")
    derivation = find_derivation(connection, tenant, digests)
    if not rows and not derivation.jobs and not derivation.audits:
        raise NotFound(
            f"there is no upload {', '.join(sorted(digests))}, and nothing derived from it"
        )
    return derivation


def _lock(
    db: Database, connection: Connection, tenant: str, digests: Collection[str]
) -> Derivation:
    """The closure, of which no row can change before the transaction ends."""
    for sha256 in sorted(digests):
        lock_name(db, connection, sha256)
    derivation = _find(connection, tenant, digests)
    if db.dialect == "sqlite":  # nobody else can write
        return derivation
    for _ in range(MAX_LOCK_ROUNDS):
        mine = artifacts.c.tenant == tenant
        _lock_rows(connection, jobs, jobs.c.id, derivation.jobs)
        _lock_rows(connection, artifacts, artifacts.c.sha256, derivation.artifacts, mine)
        _lock_rows(connection, audits, audits.c.id, derivation.audits)
        again = _find(connection, tenant, digests)
        if again == derivation:
            return derivation
        derivation = again
    raise TransientError("new jobs keep being made from these uploads: try again")


def _lock_rows(
    connection: Connection, table: Table, by: Column[Any], values: Iterable[str], *where: Any
) -> None:
    for batch in slices(sorted(values)):
        query = select(by).where(by.in_(batch), *where).order_by(by).with_for_update(of=table)
        connection.execute(query).all()


def _require_ended(connection: Connection, derivation: Derivation) -> None:
    if live := _list_live_jobs(connection, derivation):
        count = len(live)
        what = "job derived from it has" if count == 1 else "jobs derived from it have"
        raise Conflict(
            f"{count:,} {what} not ended (such as {live[0]}): cancel the audits and jobs first, or "
            "wait until they have ended"
        )


def _require_undeclared(connection: Connection, derivation: Derivation) -> None:
    """What is declared is deleted by its name: nobody should find a name gone who deleted a file."""
    columns = (declarations.c.kind, declarations.c.name, declarations.c.version)
    for row in select_rows(connection, columns, declarations.c.job, derivation.jobs):
        raise Conflict(
            f"the {KIND_NAMES[row.kind]} {row.name}@{row.version} was declared from it: "
            "delete the declaration with everything derived from it (palimpsest "
            f"{row.kind}s delete {row.name} --with-derived)"
        )


def _list_live_jobs(connection: Connection, derivation: Derivation) -> list[str]:
    """Jobs of the closure that have not ended, and those of its audits: an audit that still runs
    is not removed from under them."""
    live = set()
    for row in select_rows(connection, (jobs.c.id, jobs.c.state), jobs.c.id, derivation.jobs):
        live |= {row.id} if row.state in LIVE else set()
    for batch in slices(sorted(derivation.audits)):
        joined = select(jobs.c.id).select_from(
            audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job).join(
                audits, audits.c.id == audit_jobs.c.audit
            )
        )
        # what a cancelled audit has left to others is not its own any more
        wanted = or_(~audit_jobs.c.detached, audits.c.cancelling)
        query = joined.where(audits.c.id.in_(batch), jobs.c.state.in_(sorted(LIVE)), wanted)
        live |= set(connection.execute(query).scalars())
    return sorted(live)


def _measure(connection: Connection, tenant: str, derivation: Derivation) -> tuple[int, int]:
    """Bytes and number of the artifacts that go."""
    size = count = 0
    for batch in slices(sorted(derivation.artifacts)):
        query = select(func.coalesce(func.sum(artifacts.c.size), 0), func.count()).where(
            artifacts.c.tenant == tenant, artifacts.c.sha256.in_(batch)
        )
        more_bytes, more = connection.execute(query).one()
        size, count = size + int(more_bytes), count + int(more)
    return size, count


def _remove_rows(
    db: Database,
    connection: Connection,
    tenant: str,
    derivation: Derivation,
    digests: Collection[str],
) -> None:
    _remove_answers(connection, tenant, derivation, digests)
    delete_rows(connection, audits, audits.c.id, derivation.audits)
    _hide_names(connection, tenant, digests)
    gone_ids = derivation.jobs | derivation.audits | derivation.artifacts | frozenset(digests)
    hide_subjects(connection, tenant, gone_ids)
    for table in (job_inputs, job_artifacts, events):
        delete_rows(connection, table, table.c.job, derivation.jobs)
    _hand_over(connection, tenant, derivation, digests)
    delete_rows(connection, jobs, jobs.c.id, derivation.jobs)
    forget_deleted(connection, tenant)
    mine = artifacts.c.tenant == tenant
    delete_rows(connection, artifacts, artifacts.c.sha256, derivation.artifacts, mine)
    note_erasure(db, connection)
    note_unneeded(db, connection, derivation.artifacts | derivation.checkpoints)


def _remove_answers(
    connection: Connection, tenant: str, derivation: Derivation, digests: Collection[str]
) -> None:
    """Remove the answers under Idempotency-Keys that name what goes: they would be given again."""
    ids = derivation.jobs | derivation.audits
    mine = idempotency.c.tenant == tenant
    named = []
    for row in connection.execute(select(idempotency.c.key, idempotency.c.answer).where(mine)):
        answer = json.loads(row.answer) if row.answer else {}
        answered = {answer.get("audit"), *answer.get("jobs", {}).values()}
        if not ids.isdisjoint(answered) or any(sha256 in row.key for sha256 in digests):
            named.append(row.key)
    delete_rows(connection, idempotency, idempotency.c.key, named, mine)


def _hide_names(connection: Connection, tenant: str, digests: Collection[str]) -> None:
    """An audit that was not made of an upload may still name it in its title, a label or its
    metadata, and stays."""
    mine = select(audits.c.id).where(audits.c.tenant == tenant)
    for sha256 in digests:
        for column, audit in (
            (audits.c.name, audits.c.id),
            (audits.c.metadata, audits.c.id),
            (audit_labels.c.value, audit_labels.c.audit),
        ):
            named = audit.in_(mine) & column.contains(sha256)
            hidden = func.replace(column, sha256, DELETED_NAME)
            connection.execute(update(column.table).where(named).values({column.name: hidden}))
        labelled = audit_labels.c.audit.in_(mine) & audit_labels.c["key"].contains(sha256)
        connection.execute(delete(audit_labels).where(labelled))


def _hand_over(
    connection: Connection, tenant: str, derivation: Derivation, digests: Collection[str]
) -> None:
    """Artifacts that stay belong to the jobs that have made the same bytes."""
    mine = job_artifacts.c.tenant == tenant
    makers: dict[str, list[str]] = {}
    columns = (job_artifacts.c.sha256, job_artifacts.c.job)
    for row in select_rows(connection, columns, job_artifacts.c.sha256, derivation.shared, mine):
        makers.setdefault(row.sha256, []).append(row.job)
    mine = artifacts.c.tenant == tenant
    for row in select_rows(connection, artifacts.c, artifacts.c.sha256, makers, mine):
        if row.origin in derivation.jobs or row.sha256 in digests:
            owned = update(artifacts).where(mine, artifacts.c.sha256 == row.sha256)
            connection.execute(owned.values(origin=min(makers[row.sha256]), expires_at=None))
    columns, left = (jobs.c.id, jobs.c.reused_from), {job for ids in makers.values() for job in ids}
    rows = select_rows(connection, columns, jobs.c.id, left)
    for batch in slices([row.id for row in rows if row.reused_from in derivation.jobs]):
        taken = update(jobs).where(jobs.c.id.in_(batch))
        connection.execute(taken.values(reused_from=None, version=jobs.c.version + 1))
