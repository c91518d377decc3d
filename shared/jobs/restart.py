"""Failed and cancelled jobs go again: which of them can, and how they do.

Everything here runs inside the caller's write transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from shared.jobs.database import Database
from shared.jobs.mapping import slices, to_json
from shared.jobs.ranking import compute_rank
from shared.jobs.states import LIVE, UNSUCCESSFUL, State
from shared.jobs.tables import events, job_inputs, jobs
from shared.jobs.transitions import dead_end_reason
from shared.wiring import RunWhen


@dataclass(frozen=True)
class Members:
    """Some jobs by id, the ids of the jobs that each takes inputs from, and those of them that are
    none of these."""

    rows: Mapping[str, Row[Any]]
    inputs: Mapping[str, Set[str]]
    outside: Mapping[str, Row[Any]]

    def find(self, job_id: str) -> Row[Any]:
        return self.rows.get(job_id) or self.outside[job_id]


def lock_with_inputs(connection: Connection, members: Set[str]) -> Members:
    """Lock jobs, and those that they take inputs from: one that ends meanwhile then sees what waits
    for it."""
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
    return Members(
        {i: row for i, row in rows.items() if i in members},
        inputs,
        {i: row for i, row in rows.items() if i not in members},
    )


def list_dead_ends(job_id: str, members: Members, retried: Collection[str]) -> list[Row[Any]]:
    """Inputs of a job that will never be there."""
    rows = (members.find(i) for i in members.inputs[job_id] if i not in retried)
    return [row for row in rows if dead_end_reason(row)]


def can_start(row: Row[Any], members: Members, dead_ends: Sequence[Row[Any]]) -> bool:
    """Whether a job can go again that these inputs will never be there for."""
    if row.run_when == RunWhen.ALL_FINISHED:
        return not dead_ends or len(dead_ends) < len(members.inputs[row.id])
    return not dead_ends


def is_blocked(job_id: str, members: Members, again: Collection[str]) -> bool:
    """Whether the job has to wait for an input, when these jobs go again."""
    is_tolerant = members.rows[job_id].run_when == RunWhen.ALL_FINISHED
    blocking = LIVE if is_tolerant else LIVE | UNSUCCESSFUL
    inputs = members.inputs[job_id]
    return any(i in again or members.find(i).state in blocking for i in inputs)


def restart(db: Database, connection: Connection, rows: Sequence[Row[Any]], to: State) -> None:
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


def answer_for_equals(connection: Connection, rows: Iterable[Row[Any]], tenant: str) -> set[str]:
    """Have jobs that go again shared with equal submissions, unless an equal one is there already;
    returns the ids of those of which there is one. If both run, the later one reuses what the other
    has made."""
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
    return {shareable[key] for key in shareable.keys() - free}
