"""Retry of an audit: all of its jobs that failed or were cancelled go again, in one transaction.

Those that failed because an input did go after it, as at first. Jobs that have succeeded stay, but
for a report that was made without the results of jobs that go again, and what was made of it: they
are made again after them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from shared.errors import Conflict, NotFound
from shared.jobs.database import Database
from shared.jobs.mapping import slices, to_json
from shared.jobs.ranking import compute_rank
from shared.jobs.states import LIVE, UNSUCCESSFUL, State
from shared.jobs.tables import audit_jobs, audits, events, job_inputs, jobs
from shared.jobs.transitions import dead_end_reason
from shared.wiring import RunWhen

MAX_RACES = 5  # retries after an equal job was submitted at the same moment


@dataclass(frozen=True)
class AuditRetry:
    """What a retry came to.

    retried: how many jobs go again, a report that is made again included.
    skipped: how many failed ones do not, as an input outside the audit cannot be had.
    stages: to wake.
    """

    retried: int
    skipped: int
    stages: frozenset[str]


def retry_audit(db: Database, tenant: str, audit_id: str) -> AuditRetry:
    """Run the failed and cancelled jobs of an audit again, each from its checkpoint if it has one.

    Raises:
        NotFound: no such audit of this tenant.
        Conflict: it was cancelled, none of its jobs has failed, or none can go again; or equal jobs
            are submitted again and again at the same moment.
    """
    for _ in range(MAX_RACES):
        try:
            return db.run_transaction(lambda c: _requeue_failed(db, c, tenant, audit_id))
        except IntegrityError:
            continue
    raise Conflict("identical jobs are being submitted at the same time: try again")


def _requeue_failed(db: Database, connection: Connection, tenant: str, audit_id: str) -> AuditRetry:
    mine = (audits.c.id == audit_id) & (audits.c.tenant == tenant) & ~audits.c.deleting
    audit = connection.execute(select(audits).where(mine).with_for_update()).one_or_none()
    if audit is None:
        raise NotFound(f"there is no audit {audit_id}")
    if audit.cancelled_at is not None:
        raise Conflict(f"audit {audit_id} was cancelled: submit it again")
    members = _lock_with_inputs(connection, audit_id)
    failed = {i: row for i, row in members.rows.items() if row.state in UNSUCCESSFUL}
    if not failed:
        live = sum(row.state in LIVE for row in members.rows.values())
        how = f"{live:,} have not ended yet" if live else "all have succeeded"
        raise Conflict(f"no job of audit {audit_id} has failed: {how}")
    retried = _select_retried(failed, members)
    if not retried:
        raise Conflict(_explain_blocked(failed, members))
    again = retried | _find_incomplete(members, retried)
    by_state: dict[State, list[Row[Any]]] = defaultdict(list)
    for i in sorted(again):
        blocked = any(
            parent in again or members.find(parent).state in _blocking(members.rows[i])
            for parent in members.inputs[i]
        )
        by_state[State.WAITING if blocked else State.QUEUED].append(members.rows[i])
    for to, rows in by_state.items():
        for batch in slices(rows):
            _restart(db, connection, batch, to)
            complete = [r for r in batch if not _list_dead_ends(r.id, members, again)]
            _answer_for_equals(connection, complete, tenant)
    stages = frozenset(row.stage for row in by_state[State.QUEUED])
    return AuditRetry(len(again), len(failed) - len(retried), stages)


def _find_incomplete(members: _Members, retried: Collection[str]) -> set[str]:
    """Jobs that have run, or are about to, without results that will be there, and those that were
    made of theirs.

    Raises:
        Conflict: one is running.
    """
    has_started = (State.SUCCEEDED, State.QUEUED, State.PAUSED, State.RUNNING)
    remade = set[str]()
    while True:
        again = remade | {
            i
            for i, row in members.rows.items()
            if row.state in has_started
            and (
                not members.inputs[i].isdisjoint(remade)
                or (
                    row.run_when == RunWhen.ALL_FINISHED
                    and not members.inputs[i].isdisjoint(retried)
                )
            )
        }
        if again == remade:
            break
        remade = again
    for i in sorted(remade):
        if members.rows[i].state == State.RUNNING:
            raise Conflict(
                f"job {i} ({members.rows[i].stage}) is running, without the results of the failed "
                "jobs: retry when it has ended"
            )
    return remade


@dataclass(frozen=True)
class _Members:
    """The jobs of an audit by id, the ids of the jobs that each takes inputs from, and those of
    them that are not of the audit."""

    rows: Mapping[str, Row[Any]]
    inputs: Mapping[str, Set[str]]
    outside: Mapping[str, Row[Any]]

    def find(self, job_id: str) -> Row[Any]:
        return self.rows.get(job_id) or self.outside[job_id]


def _lock_with_inputs(connection: Connection, audit_id: str) -> _Members:
    """Lock all jobs of an audit, and those that they take inputs from: one that ends meanwhile then
    sees what waits for it."""
    members = set(
        connection.execute(
            select(audit_jobs.c.job).where(audit_jobs.c.audit == audit_id, ~audit_jobs.c.detached)
        ).scalars()
    )
    inputs: dict[str, set[str]] = {one: set() for one in members}
    for batch in slices(sorted(members)):
        query = select(job_inputs.c.job, job_inputs.c.parent).where(
            job_inputs.c.job.in_(batch), job_inputs.c.parent.is_not(None)
        )
        for job, parent in connection.execute(query):
            inputs[job].add(parent)
    parents = {parent for its in inputs.values() for parent in its}
    rows: dict[str, Row[Any]] = {}
    for batch in slices(sorted(members | parents)):
        query = select(jobs).where(jobs.c.id.in_(batch)).order_by(jobs.c.id).with_for_update()
        rows |= {row.id: row for row in connection.execute(query)}
    return _Members(
        {i: row for i, row in rows.items() if i in members},
        inputs,
        {i: row for i, row in rows.items() if i not in members},
    )


def _select_retried(failed: Mapping[str, Row[Any]], members: _Members) -> set[str]:
    """Those of the failed jobs whose inputs can be had once all of these go again."""
    retried = set(failed)
    while True:
        blocked = {
            i
            for i in retried
            if not _can_start(failed[i], members, _list_dead_ends(i, members, retried))
        }
        if not blocked:
            return retried
        retried -= blocked


def _list_dead_ends(job_id: str, members: _Members, retried: Collection[str]) -> list[Row[Any]]:
    """Inputs of a job that will never be there."""
    rows = (members.find(i) for i in members.inputs[job_id] if i not in retried)
    return [row for row in rows if dead_end_reason(row)]


def _can_start(row: Row[Any], members: _Members, dead_ends: Sequence[Row[Any]]) -> bool:
    if row.run_when == RunWhen.ALL_FINISHED:
        return not dead_ends or len(dead_ends) < len(members.inputs[row.id])
    return not dead_ends


def _explain_blocked(failed: Mapping[str, Row[Any]], members: _Members) -> str:
    for i in sorted(failed):
        for parent in _list_dead_ends(i, members, failed):
            why = dead_end_reason(parent)
            return f"job {i} needs job {parent.id} ({parent.stage}), which {why}: retry that first"
    return "none of the failed jobs can run again"


def _blocking(row: Row[Any]) -> Collection[State]:
    """States of an input in which it keeps the job waiting."""
    return LIVE if row.run_when == RunWhen.ALL_FINISHED else LIVE | UNSUCCESSFUL


def _restart(db: Database, connection: Connection, rows: Sequence[Row[Any]], to: State) -> None:
    """Bring locked jobs that do not run to `to`, with an event for each."""
    queue: dict[str, Any] = {"queued_at": None, "rank": None}
    if to is State.QUEUED:
        queue = {"queued_at": db.now, "rank": compute_rank(db.now, jobs.c.priority)}
    values: dict[str, Any] = {
        **queue,
        "state": to,
        "dedup_key": None,
        "event_seq": jobs.c.event_seq + 1,
        "version": jobs.c.version + 1,
        "lost_count": 0,
        "progress": to_json({}),
    }
    values |= dict.fromkeys(
        ("failure", "message", "finished_at", "started_at", "not_before", "lease_until", "stop",
         "reused_from")
    )  # fmt: skip
    connection.execute(update(jobs).where(jobs.c.id.in_([r.id for r in rows])).values(**values))
    event_rows = [
        {
            "job": row.id,
            "seq": row.event_seq + 1,
            "kind": "state",
            "data": to_json({"from": row.state, "to": to, "because": "retry"}),
        }
        for row in rows
    ]
    connection.execute(insert(events).values(at=db.now), event_rows)


def _answer_for_equals(connection: Connection, rows: Iterable[Row[Any]], tenant: str) -> None:
    """Jobs that go again are shared with equal submissions, unless an equal one is there already:
    then both run, and the later one reuses what the other has made."""
    shareable = {row.request_key: row.id for row in rows if not row.no_cache}
    others = jobs.alias("others")
    taken = select(others.c.dedup_key).where(
        others.c.tenant == tenant, others.c.dedup_key.in_(list(shareable))
    )
    free = set(shareable) - set(connection.execute(taken).scalars())
    ids = [shareable[key] for key in sorted(free)]
    if ids:
        renamed = update(jobs).where(jobs.c.id.in_(ids)).values(dedup_key=jobs.c.request_key)
        connection.execute(renamed)
