"""Planned jobs become rows: what can be made beforehand, and what needs a look at the store.

A statement a table, however many jobs there are: on SQLite nobody else can write in the meantime.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs import plugin_sets
from shared.jobs.inheritance import merge_data
from shared.jobs.inserting import insert_rows
from shared.jobs.moves import hopeless
from shared.jobs.ranking import rank
from shared.jobs.records import Input, Job, PlannedJob
from shared.jobs.rows import owns, slices, to_json
from shared.jobs.states import State
from shared.jobs.tables import artifacts, events, job_inputs, jobs
from shared.jobs.tables import plugin_sets as plugin_sets_table

TICK = 1e-6  # seconds between the jobs of one submission: they keep the order of the plan


class Overtaken(Exception):
    """An equal job came in since we looked: look again."""


def new_id(prefix: str) -> str:
    """`job_` or `aud_` and 80 random bits."""
    return f"{prefix}_{secrets.token_hex(10)}"


@dataclass(frozen=True)
class Draft:
    """A planned job with all of its row that does not depend on what else is stored."""

    planned: PlannedJob
    id: str
    live_key: str | None
    row: Mapping[str, Any]
    plugin_set: Mapping[str, str]

    @classmethod
    def of(cls, tenant: str, job: PlannedJob, *, direct: bool, priority: int, time_limit: float | None) -> Draft:
        """Draw an id and write the row."""
        job_id, live_key = new_id("job"), None if job.fresh else job.plan_key
        needed = plugin_sets.digest(job.stage, job.plugins)
        row = {
            "id": job_id, "tenant": tenant, "stage": job.stage, "method": job.method, "params": to_json(job.params),
            "seed": job.seed, "produces": to_json(list(job.produces)), "priority": priority, "plan_key": job.plan_key,
            "live_key": live_key, "code": job.code, "fresh": job.fresh, "direct": direct, "tolerant": job.tolerant,
            "plugin_set": needed, "fence": 0, "attempt": 0, "lost_count": 0, "progress": "{}",
            "time_limit": time_limit, "version": 1, "event_seq": 1,
        }  # fmt: skip
        plugins = {"digest": needed, "stage": job.stage, "plugins": plugin_sets.canonical(job.plugins)}
        return cls(job, job_id, live_key, row, plugins)


def store(
    connection: Connection, tenant: str, drafts: Mapping[str, Draft], now: float
) -> tuple[dict[str, str], list[Job]]:
    """Store those that have no live equal. Returns the id of each by plan key, and the records of the new ones.

    Parents and equals are locked until the commit: one that finishes meanwhile then sees its new children.

    Raises:
        Overtaken: an equal one was stored since this looked; nothing may be committed.
        Conflict, NotFound, InvalidRequest: see `shared.jobs.submit.submit`.
    """
    equals = _lock_equals(connection, tenant, [d.live_key for d in drafts.values() if d.live_key])
    ids = {key: equals[key].id if key in equals and d.live_key else d.id for key, d in drafts.items()}
    new = [d for d in drafts.values() if ids[d.planned.plan_key] == d.id]
    foreign = {i.parent for d in new for i in d.planned.inputs if i.parent and i.parent not in ids}
    parents = {row.id: row for row in equals.values()} | _lock_jobs(connection, tenant, foreign)
    _require_artifacts(connection, tenant, [i for d in new for i in d.planned.inputs if not i.parent], now)
    read: dict[str, Mapping[str, str]] = {row.id: json.loads(row.data) for row in parents.values()}

    records = []
    made: set[str] = set()
    for n, draft in enumerate(new):
        inputs = tuple(_resolved(i, ids) for i in draft.planned.inputs)
        ready = all(_is_ready(i, parents, made) for i in inputs)
        at = now + n * TICK
        # what is behind an input that is named by its digest is part of the plan
        behind = ((i.role, read[i.parent]) for i in inputs if i.parent)
        read[draft.id] = data = merge_data(draft.planned.data, behind)
        records.append(_record(draft, inputs, State.QUEUED if ready else State.WAITING, at, data))
        made.add(draft.id)
    if any(d.row["direct"] for d in drafts.values()):
        by_hand = [row.id for row in equals.values() if not row.direct]
        for some in slices(by_hand):
            connection.execute(update(jobs).where(jobs.c.id.in_(some)).values(direct=True))
    if new:
        _insert(connection, new, records)
    return ids, records


def _insert(connection: Connection, new: Sequence[Draft], records: Sequence[Job]) -> None:
    sets = {d.plugin_set["digest"]: dict(d.plugin_set) for d in new}
    insert_rows(connection, plugin_sets_table, sorted(sets.values(), key=lambda s: s["digest"]), or_nothing=True)
    rows = [
        {
            **d.row,
            "state": r.state,
            "data": to_json(r.data),
            "created_at": r.created_at,
            "queued_at": r.queued_at,
            "rank": rank(r.created_at, r.priority) if r.state is State.QUEUED else None,
        }
        for d, r in zip(new, records, strict=True)
    ]
    # In the order of their keys: of two grids that overlap neither waits for the other in a circle.
    rows.sort(key=lambda row: str(row["live_key"]))
    if insert_rows(connection, jobs, rows, or_nothing=True) < len(rows):
        raise Overtaken
    inputs = [
        {"job": r.id, "role": i.role, "parent": i.parent, "parent_role": i.parent_role, "sha256": i.sha256}
        for r in records
        for i in r.inputs
    ]
    insert_rows(connection, job_inputs, inputs)
    first = [{"job": r.id, "seq": 1, "at": r.created_at, "kind": "state", "data": _SUBMITTED[r.state]} for r in records]
    insert_rows(connection, events, first)


_SUBMITTED = {
    state: to_json({"from": None, "to": state, "because": "submitted"}) for state in (State.QUEUED, State.WAITING)
}


def _record(draft: Draft, inputs: tuple[Input, ...], state: State, at: float, data: Mapping[str, str]) -> Job:
    job, row = draft.planned, draft.row
    return Job(
        id=draft.id, tenant=row["tenant"], stage=job.stage, method=job.method, params=job.params, seed=job.seed,
        inputs=tuple(sorted(inputs, key=lambda i: i.role)), produces=job.produces, state=state,
        priority=row["priority"], plan_key=job.plan_key, content_key=None, data=data, code=job.code, fresh=job.fresh,
        fence=0, attempt=0, lost_count=0, lease_until=None, worker=None, stop=None, checkpoint=None, progress={},
        failure=None, message=None, reused_from=None, time_limit=row["time_limit"], created_at=at,
        queued_at=at if state is State.QUEUED else None, started_at=None, finished_at=None, version=1,
    )  # fmt: skip


def _resolved(i: Input, ids: Mapping[str, str]) -> Input:
    """The input as it is stored: a parent by its id."""
    if i.parent is None:
        return Input(i.role, None, i.parent_role or i.role, i.sha256)
    return Input(i.role, ids.get(i.parent, i.parent), i.parent_role or i.role)


def _is_ready(i: Input, parents: Mapping[str, Row[Any]], made: set[str]) -> bool:
    """Whether the input is there already.

    Raises:
        Conflict: nothing will come of the job that it is from.
    """
    if i.parent is None:
        return True
    if i.parent in made:
        return False
    parent = parents[i.parent]
    if why := hopeless(parent):
        raise Conflict(f"input {i.role}: job {parent.id} {why}; retry it first")
    return bool(parent.state == State.SUCCEEDED)


def _lock_equals(connection: Connection, tenant: str, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """By live key, the jobs that answer for equal ones."""
    found: dict[str, Row[Any]] = {}
    for some in slices(sorted(keys)):
        query = select(jobs).where(jobs.c.tenant == tenant, jobs.c.live_key.in_(some))
        found |= {r.live_key: r for r in connection.execute(query.order_by(jobs.c.live_key).with_for_update())}
    return found


def _lock_jobs(connection: Connection, tenant: str, ids: Iterable[str]) -> dict[str, Row[Any]]:
    found: dict[str, Row[Any]] = {}
    for some in slices(wanted := sorted(ids)):
        query = select(jobs).where(jobs.c.id.in_(some)).order_by(jobs.c.id).with_for_update()
        found |= {r.id: r for r in connection.execute(query) if r.tenant == tenant}
    for job_id in wanted:
        if job_id not in found:
            raise NotFound(f"there is no job {job_id}")
    return found


def _require_artifacts(connection: Connection, tenant: str, inputs: Sequence[Input], now: float) -> None:
    known: set[str] = set()
    for some in slices(sorted({str(i.sha256) for i in inputs})):
        query = select(artifacts.c.sha256).where(owns(tenant, now), artifacts.c.sha256.in_(some))
        known |= set(connection.execute(query).scalars())
    for i in inputs:
        if i.sha256 not in known:
            raise InvalidRequest(f"there is no artifact {i.sha256}", f"inputs.{i.role}")
