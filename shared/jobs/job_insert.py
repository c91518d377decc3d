"""Inserts planned jobs: rows are prepared before the transaction, inputs and duplicates looked up
inside it.

One statement per table, however many jobs there are: on SQLite nobody else can write meanwhile.
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
from shared.jobs.bulk_insert import insert_rows
from shared.jobs.cost_keys import CostKeys
from shared.jobs.inheritance import merge_data
from shared.jobs.mapping import build_ownership_filter, slices, to_json
from shared.jobs.ranking import compute_rank
from shared.jobs.records import Input, Job, PlannedJob
from shared.jobs.states import State
from shared.jobs.tables import artifacts, events, job_inputs, jobs
from shared.jobs.tables import plugin_sets as plugin_sets_table
from shared.jobs.transitions import dead_end_reason
from shared.uploaded_files import PREFIX

TICK_S = 1e-6  # seconds between the jobs of one submission: they keep the order of the plan


class ConcurrentDuplicate(Exception):
    """An identical job was inserted concurrently: look again."""


def generate_id(prefix: str) -> str:
    """`job_` or `aud_` and 80 random bits."""
    return f"{prefix}_{secrets.token_hex(10)}"


@dataclass(frozen=True)
class NewJob:
    """A planned job with all of its row that does not depend on what else is stored."""

    planned: PlannedJob
    id: str
    dedup_key: str | None
    row: Mapping[str, Any]
    plugin_set: Mapping[str, str]

    @classmethod
    def build(
        cls,
        tenant: str,
        job: PlannedJob,
        cost_keys: CostKeys,
        *,
        pinned: bool,
        priority: int,
        time_limit: float | None,
    ) -> NewJob:
        """Draw an id and write the row."""
        job_id, dedup_key = generate_id("job"), None if job.no_cache else job.request_key
        plugin_set = plugin_sets.compute_digest(job.stage, job.plugins)
        row = {
            "id": job_id,
            "tenant": tenant,
            "stage": job.stage,
            "method": job.method,
            "params": to_json(job.params),
            "seed": job.seed,
            "produces": to_json(list(job.produces)),
            "priority": priority,
            "request_key": job.request_key,
            "dedup_key": dedup_key,
            "code": job.code,
            "no_cache": job.no_cache,
            "pinned": pinned,
            "run_when": job.run_when,
            "plugin_set": plugin_set,
            "fence": 0,
            "attempt": 0,
            "lost_count": 0,
            "progress": "{}",
            "time_limit": time_limit,
            "version": 1,
            "event_seq": 1,
            "equal_cost_key": cost_keys.equal,
            "similar_cost_key": cost_keys.similar,
        }
        plugins = {
            "digest": plugin_set,
            "stage": job.stage,
            "plugins": plugin_sets.to_canonical_json(job.plugins),
        }
        return cls(job, job_id, dedup_key, row, plugins)


def insert_jobs(
    connection: Connection, tenant: str, candidates: Mapping[str, NewJob], now: float
) -> tuple[dict[str, str], list[Job]]:
    """Store those that have no live equal. Returns the id of each by request key, and the records
    of the new ones.

    Parents and equals are locked until the commit: one that finishes meanwhile then sees its new
    children.

    Raises:
        ConcurrentDuplicate: an equal one was stored since this looked; nothing may be committed.
        Conflict, NotFound, InvalidRequest: see `shared.jobs.submit.submit`.
    """
    duplicates = _lock_duplicates(
        connection, tenant, [d.dedup_key for d in candidates.values() if d.dedup_key]
    )
    ids = {
        key: duplicates[key].id if key in duplicates and d.dedup_key else d.id
        for key, d in candidates.items()
    }
    new = [d for d in candidates.values() if ids[d.planned.request_key] == d.id]
    foreign_ids = {
        i.parent for d in new for i in d.planned.inputs if i.parent and i.parent not in ids
    }
    parents = {row.id: row for row in duplicates.values()} | _lock_jobs(
        connection, tenant, foreign_ids
    )
    _require_artifacts(connection, tenant, new, now)
    data_digests: dict[str, Mapping[str, str]] = {
        row.id: json.loads(row.data) for row in parents.values()
    }

    records = []
    new_ids: set[str] = set()
    for n, draft in enumerate(new):
        inputs = tuple(_resolve_input(i, ids) for i in draft.planned.inputs)
        ready = all(_is_ready(i, parents, new_ids) for i in inputs)
        at = now + n * TICK_S
        # what is behind an input that is named by its digest is part of the plan
        behind = ((i.role, data_digests[i.parent]) for i in inputs if i.parent)
        data_digests[draft.id] = data = merge_data(draft.planned.data_digests, behind)
        records.append(
            _build_job(draft, inputs, State.QUEUED if ready else State.WAITING, at, data)
        )
        new_ids.add(draft.id)
    if any(d.row["pinned"] for d in candidates.values()):
        unpinned_ids = [row.id for row in duplicates.values() if not row.pinned]
        for batch in slices(unpinned_ids):
            connection.execute(update(jobs).where(jobs.c.id.in_(batch)).values(pinned=True))
    if new:
        _insert_rows(connection, new, records)
    return ids, records


def _insert_rows(connection: Connection, new: Sequence[NewJob], records: Sequence[Job]) -> None:
    sets = {d.plugin_set["digest"]: dict(d.plugin_set) for d in new}
    insert_rows(
        connection,
        plugin_sets_table,
        sorted(sets.values(), key=lambda s: s["digest"]),
        ignore_conflicts=True,
    )
    # The collector removes sets that no job has; so it waits for this one, or has come first.
    kept = select(plugin_sets_table.c.digest).where(plugin_sets_table.c.digest.in_(sorted(sets)))
    locked = connection.execute(kept.with_for_update(read=True, key_share=True)).all()
    if len(locked) < len(sets):
        raise ConcurrentDuplicate
    rows = [
        {
            **d.row,
            "state": r.state,
            "data": to_json(r.data_digests),
            "created_at": r.created_at,
            "queued_at": r.queued_at,
            "rank": compute_rank(r.created_at, r.priority) if r.state is State.QUEUED else None,
        }
        for d, r in zip(new, records, strict=True)
    ]
    # In the order of their keys: of two grids that overlap neither waits for the other in a circle.
    rows.sort(key=lambda row: str(row["dedup_key"]))
    if insert_rows(connection, jobs, rows, ignore_conflicts=True) < len(rows):
        raise ConcurrentDuplicate
    inputs = [
        {
            "job": r.id,
            "role": i.role,
            "parent": i.parent,
            "parent_role": i.parent_role,
            "sha256": i.sha256,
        }
        for r in records
        for i in r.inputs
    ]
    insert_rows(connection, job_inputs, inputs)
    first = [
        {
            "job": r.id,
            "seq": 1,
            "at": r.created_at,
            "kind": "state",
            "data": _SUBMITTED_EVENTS[r.state],
        }
        for r in records
    ]
    insert_rows(connection, events, first)


_SUBMITTED_EVENTS = {
    state: to_json({"from": None, "to": state, "because": "submitted"})
    for state in (State.QUEUED, State.WAITING)
}


def _build_job(
    new_job: NewJob, inputs: tuple[Input, ...], state: State, at: float, data: Mapping[str, str]
) -> Job:
    job, row = new_job.planned, new_job.row
    return Job(
        id=new_job.id,
        tenant=row["tenant"],
        stage=job.stage,
        method=job.method,
        params=job.params,
        seed=job.seed,
        inputs=tuple(sorted(inputs, key=lambda i: i.role)),
        produces=job.produces,
        state=state,
        priority=row["priority"],
        request_key=job.request_key,
        cache_key=None,
        data_digests=data,
        code=job.code,
        no_cache=job.no_cache,
        fence=0,
        attempt=0,
        lost_count=0,
        lease_until=None,
        worker=None,
        stop=None,
        checkpoint=None,
        progress={},
        failure=None,
        message=None,
        reused_from=None,
        time_limit=row["time_limit"],
        created_at=at,
        queued_at=at if state is State.QUEUED else None,
        started_at=None,
        finished_at=None,
        version=1,
    )


def _resolve_input(i: Input, ids: Mapping[str, str]) -> Input:
    """The input as it is stored: a parent by its id."""
    if i.parent is None:
        return Input(i.role, None, i.parent_role or i.role, i.sha256)
    return Input(i.role, ids.get(i.parent, i.parent), i.parent_role or i.role)


def _is_ready(i: Input, parents: Mapping[str, Row[Any]], new_ids: set[str]) -> bool:
    """Whether the input is there already.

    Raises:
        Conflict: nothing will come of the job that it is from.
    """
    if i.parent is None:
        return True
    if i.parent in new_ids:
        return False
    parent = parents[i.parent]
    if why := dead_end_reason(parent):
        raise Conflict(f"input {i.role}: job {parent.id} {why}; retry it first")
    return bool(parent.state == State.SUCCEEDED)


def _lock_duplicates(
    connection: Connection, tenant: str, keys: Sequence[str]
) -> dict[str, Row[Any]]:
    """By dedup key, the jobs that answer for equal ones."""
    by_key: dict[str, Row[Any]] = {}
    for batch in slices(sorted(keys)):
        query = select(jobs).where(jobs.c.tenant == tenant, jobs.c.dedup_key.in_(batch))
        by_key |= {
            r.dedup_key: r
            for r in connection.execute(query.order_by(jobs.c.dedup_key).with_for_update())
        }
    return by_key


def _lock_jobs(connection: Connection, tenant: str, ids: Iterable[str]) -> dict[str, Row[Any]]:
    by_id: dict[str, Row[Any]] = {}
    for batch in slices(wanted := sorted(ids)):
        query = select(jobs).where(jobs.c.id.in_(batch)).order_by(jobs.c.id).with_for_update()
        by_id |= {r.id: r for r in connection.execute(query) if r.tenant == tenant}
    for job_id in wanted:
        if job_id not in by_id:
            raise NotFound(f"there is no job {job_id}")
    return by_id


def _require_artifacts(
    connection: Connection, tenant: str, new: Sequence[NewJob], now: float
) -> None:
    """Refuse jobs whose inputs, or whose own data sets, are artifacts that the tenant has not (any
    more). Those that are there stay until the transaction ends: a deletion waits for it, and then
    sees the jobs.

    Raises:
        InvalidRequest: names the first.
    """
    inputs = [i for d in new for i in d.planned.inputs if not i.parent]
    files = {sha256 for d in new for sha256 in _list_own_uploads(d)}
    known: set[str] = set()
    for batch in slices(sorted({str(i.sha256) for i in inputs} | files)):
        query = select(artifacts.c.sha256).where(
            build_ownership_filter(tenant, now), artifacts.c.sha256.in_(batch)
        )
        kept = query.with_for_update(read=True, key_share=True, of=artifacts)
        known |= set(connection.execute(kept).scalars())
    for i in inputs:
        if i.sha256 not in known:
            raise InvalidRequest(f"there is no artifact {i.sha256}", f"inputs.{i.role}")
    for sha256 in sorted(files - known):
        raise InvalidRequest(f"there is no upload {sha256}: push the file again")


def _list_own_uploads(new_job: NewJob) -> list[str]:
    """Uploads that the job reads as files; those behind its inputs may be gone."""
    return [
        path.removeprefix(PREFIX)
        for path in new_job.planned.data_digests
        if path.startswith(PREFIX) and path in new_job.row["params"]
    ]
