"""The job succeeded: state, event and artifacts in one statement, then its children."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, select, text

from shared.errors import Conflict
from shared.jobs.database import NOW_SQL, Database
from shared.jobs.locks import lock_name
from shared.jobs.mapping import load_job, to_json
from shared.jobs.outbox import Kind, run_fenced_transaction
from shared.jobs.records import Artifact, JobCost
from shared.jobs.states import State
from shared.jobs.tables import artifacts as artifacts_table
from shared.jobs.tables import job_artifacts, jobs
from shared.jobs.transitions import lock_with_fence, release_children

_MARK_SUCCEEDED = """
UPDATE jobs SET
    state = 'succeeded', cache_key = :cache_key, code = CAST(:code AS varchar(64)),
    reused_from = :reused_from, checkpoint = NULL, checkpoint_key = NULL,
    progress = coalesce(:progress, progress), finished_at = {now}, ran_on = :ran_on,
    run_s = CAST(:run_s AS double precision), cpu_s = CAST(:cpu_s AS double precision),
    memory_bytes = CAST(:memory_bytes AS bigint),
    device_memory_bytes = CAST(:device_memory_bytes AS bigint),
    lease_until = NULL, stop = NULL, version = version + 1, event_seq = event_seq + 1,
    -- planned for other code: it must not be found by its request key
    dedup_key = CASE WHEN code = CAST(:code AS varchar(64)) THEN dedup_key END
WHERE id = :id AND fence = :fence AND state = 'running'
RETURNING id, tenant, stage, event_seq, queued_at, started_at, finished_at
"""
_INSERT_EVENT = """INSERT INTO events (job, seq, at, kind, data)
    SELECT id, event_seq, {now}, 'state', :data FROM {done}"""
_APPEND_TO_OUTBOX = f"""
    INSERT INTO outbox (kind, subject, seq, tenant, stage, state, wait_s, run_s, at)
    SELECT '{Kind.JOB_ENDED}', id, event_seq, tenant, stage, 'succeeded', started_at - queued_at,
        finished_at - started_at, finished_at
    FROM {{done}}"""
# In one order: two jobs that end with the same artifacts do not wait for each other in a circle. A
# row that is there is of the same bytes ...
_INSERT_ARTIFACTS = "INSERT INTO artifacts (tenant, sha256, size, media_type, origin, created_at)"
# ... unless its bytes had expired: now they are there again.
_ON_CONFLICT_RESTORE = """ON CONFLICT (tenant, sha256) DO UPDATE SET expired_at = NULL
    WHERE artifacts.expired_at IS NOT NULL"""
_INSERT_JOB_ARTIFACTS = "INSERT INTO job_artifacts (job, tenant, role, sha256)"
# A job that makes its artifacts again, because one was damaged, has rows already.
_ON_CONFLICT_REPLACE = """ON CONFLICT (job, role) DO UPDATE
    SET sha256 = excluded.sha256"""

_TEMPLATES = {
    "sqlite": (
        _MARK_SUCCEEDED,
        f"{_INSERT_EVENT} WHERE id = :id",
        f"{_APPEND_TO_OUTBOX} WHERE id = :id",
        f"""{_INSERT_ARTIFACTS}
        SELECT jobs.tenant, json_extract(a.value, '$[1]'), json_extract(a.value, '$[2]'),
            json_extract(a.value, '$[3]'), coalesce(jobs.reused_from, jobs.id), {{now}}
        FROM jobs CROSS JOIN json_each(:artifacts) AS a
        WHERE jobs.id = :id ORDER BY 2 {_ON_CONFLICT_RESTORE}""",
        f"""{_INSERT_JOB_ARTIFACTS}
        SELECT jobs.id, jobs.tenant, json_extract(a.value, '$[0]'), json_extract(a.value, '$[1]')
        FROM jobs CROSS JOIN json_each(:artifacts) AS a
        WHERE jobs.id = :id {_ON_CONFLICT_REPLACE}""",
    ),
    "postgresql": (
        f"""WITH done AS ({_MARK_SUCCEEDED}), noted AS ({_INSERT_EVENT}),
        appended AS ({_APPEND_TO_OUTBOX}), owned AS (
            {_INSERT_ARTIFACTS} SELECT done.tenant, a ->> 1, CAST(a ->> 2 AS bigint), a ->> 3,
                coalesce(:reused_from, done.id), {{now}}
            FROM done CROSS JOIN json_array_elements(CAST(:artifacts AS json)) AS a
            ORDER BY 2 {_ON_CONFLICT_RESTORE}
        ), kept AS (
            {_INSERT_JOB_ARTIFACTS} SELECT done.id, done.tenant, a ->> 0, a ->> 1
            FROM done CROSS JOIN json_array_elements(CAST(:artifacts AS json)) AS a
            {_ON_CONFLICT_REPLACE}
        ) SELECT id FROM done""",
    ),
}


def _build_statements(dialect: str) -> tuple[TextClause, ...]:
    table = {"sqlite": "jobs", "postgresql": "done"}[dialect]
    return tuple(text(t.format(now=NOW_SQL[dialect], done=table)) for t in _TEMPLATES[dialect])


_FINISH_STATEMENTS = {dialect: _build_statements(dialect) for dialect in _TEMPLATES}


def finish_job(
    db: Database,
    job_id: str,
    fence: int,
    artifacts: Sequence[Artifact],
    *,
    cache_key: str,
    code: str,
    reused_from: str | None = None,
    progress: Mapping[str, Any] | None = None,
    cost: JobCost | None = None,
    ran_on: str | None = None,
    put_missing: Callable[[], None] | None = None,
) -> set[str]:
    """The job succeeded: artifact rows, terminal state and released children in one transaction.

    Args:
        put_missing: stores the bytes again that are not in the store any more: they were there
            already when the job stored them, and a deletion of another's has taken them since. No
            deletion takes them from this call on. May be called more than once.
        cost: None if this attempt did not do all of the work.
        ran_on: the kind of machine, as `shared.jobs.cost_history.describe_machine` says it.

    Returns the stages that got something to do.

    Raises:
        FencedOut: nothing was written.
        Conflict: what was to be reused is gone; nothing was written.
        TransientError: a store did not answer.
    """
    because = "reused an earlier result" if reused_from else "done"
    bind_params = {
        "id": job_id,
        "fence": fence,
        "artifacts": to_json([[a.role, a.sha256, a.size, a.media_type] for a in artifacts]),
        "cache_key": cache_key,
        "code": code,
        "reused_from": reused_from,
        "progress": None if progress is None else to_json(progress),
        "run_s": cost and cost.run_s,
        "cpu_s": cost and cost.cpu_s,
        "memory_bytes": cost and cost.memory_bytes,
        "device_memory_bytes": cost and cost.device_memory_bytes,
        "ran_on": ran_on,
        "data": to_json({"from": State.RUNNING, "to": State.SUCCEEDED, "because": because}),
    }

    def write_end(connection: Connection) -> set[str]:
        if put_missing is not None:
            for sha256 in sorted({a.sha256 for a in artifacts}):
                lock_name(db, connection, sha256)  # as who takes bytes out of the store does
        if reused_from is not None:
            _lock_reused(connection, reused_from, [a.sha256 for a in artifacts])
        first, *more = _FINISH_STATEMENTS[db.dialect]
        if connection.execute(first, bind_params).first() is None:
            lock_with_fence(connection, job_id, fence)  # says why not
        for statement in more:
            connection.execute(statement, bind_params)
        if put_missing is not None:
            put_missing()
        # A statement of its own: it sees a child that was stored while the first one waited for the
        # job's row.
        return release_children(db, connection, job_id)

    return run_fenced_transaction(db, job_id, write_end)


def _lock_reused(connection: Connection, job_id: str, digests: Sequence[str]) -> None:
    """What is taken over stays until the transaction ends: the collector waits for it, and then
    sees who took it."""
    source = select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(read=True)
    expired = select(artifacts_table.c.sha256).where(
        artifacts_table.c.tenant == jobs.c.tenant,
        jobs.c.id == job_id,
        artifacts_table.c.sha256.in_(digests),
        artifacts_table.c.expired_at.is_not(None),
    )
    if connection.execute(source).first() is None or connection.execute(expired).first():
        raise Conflict(f"the result of job {job_id} is gone: it cannot be reused")


def find_cached_artifacts(
    db: Database, tenant: str, cache_key: str
) -> tuple[str, tuple[Artifact, ...]] | None:
    """The tenant's earliest successful job with the same cache key, and its artifacts. What has
    expired is not taken over."""
    links = job_artifacts.join(artifacts_table)
    expired = (
        select(job_artifacts.c.job)
        .select_from(links)
        .where(job_artifacts.c.job == jobs.c.id, artifacts_table.c.expired_at.is_not(None))
    )
    query = select(jobs.c.id).where(
        jobs.c.tenant == tenant,
        jobs.c.cache_key == cache_key,
        jobs.c.state == State.SUCCEEDED,
        ~expired.exists(),
    )
    with db.read() as connection:
        job_id = connection.execute(
            query.order_by(jobs.c.finished_at).limit(1)
        ).scalar_one_or_none()
        return None if job_id is None else (job_id, load_job(connection, job_id).artifacts)
