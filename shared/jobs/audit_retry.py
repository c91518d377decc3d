"""Retry of an audit: all of its jobs that failed or were cancelled go again, in one transaction.

Those that failed because an input did go after it, as at first. Jobs that have succeeded stay, but
for a report that was made without the results of jobs that go again, and what was made of it: they
are made again after them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import IntegrityError

from shared.errors import Conflict, NotFound
from shared.jobs.database import Database
from shared.jobs.mapping import slices
from shared.jobs.restart import (
    Members,
    answer_for_equals,
    can_start,
    is_blocked,
    list_dead_ends,
    lock_with_inputs,
    restart,
)
from shared.jobs.states import LIVE, UNSUCCESSFUL, State
from shared.jobs.tables import audit_jobs, audits
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
    own = (audit_jobs.c.audit == audit_id, ~audit_jobs.c.detached)
    ids = set(connection.execute(select(audit_jobs.c.job).where(*own)).scalars())
    members = lock_with_inputs(connection, ids)
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
        to = State.WAITING if is_blocked(i, members, again) else State.QUEUED
        by_state[to].append(members.rows[i])
    for to, rows in by_state.items():
        for batch in slices(rows):
            restart(db, connection, batch, to)
            # of two equal ones both run: each audit gets its results
            complete = [r for r in batch if not list_dead_ends(r.id, members, again)]
            answer_for_equals(connection, complete, tenant)
    stages = frozenset(row.stage for row in by_state[State.QUEUED])
    return AuditRetry(len(again), len(failed) - len(retried), stages)


def _find_incomplete(members: Members, retried: Collection[str]) -> set[str]:
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


def _select_retried(failed: Mapping[str, Row[Any]], members: Members) -> set[str]:
    """Those of the failed jobs whose inputs can be had once all of these go again."""
    retried = set(failed)
    while True:
        blocked = {
            i
            for i in retried
            if not can_start(failed[i], members, list_dead_ends(i, members, retried))
        }
        if not blocked:
            return retried
        retried -= blocked


def _explain_blocked(failed: Mapping[str, Row[Any]], members: Members) -> str:
    for i in sorted(failed):
        for parent in list_dead_ends(i, members, failed):
            why = dead_end_reason(parent)
            return f"job {i} needs job {parent.id} ({parent.stage}), which {why}: retry that first"
    return "none of the failed jobs can run again"
