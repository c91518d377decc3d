"""Which queued job a worker takes next, and the taking of it: one statement, as quick in long
queues as in short.

Tenants take turns: the one with the fewest running jobs goes first, among equals the one that comes
next after the tenant that this worker served last. Within a tenant the lowest rank goes first
(`shared.jobs.ranking`). A tenant that has as many running jobs as its quota allows is passed over.

The statement never counts or sorts what is queued. It walks along the index of queued jobs
(`ix_jobs_queue`): from plugin set to plugin set, in each that this worker can run from tenant to
tenant, for at most `MAX_TENANTS` of them, and of each to its best job. With more tenants than that,
every claim considers the ones that follow the last it served. Only the winner is locked; a claim
that finds it locked takes the next.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, TextClause, func, select, text

from shared.jobs.database import NOW_SQL, Database
from shared.jobs.locks import lock_name
from shared.jobs.mapping import build_job, to_json
from shared.jobs.records import Claim, Input
from shared.jobs.states import TRANSITIONS, State
from shared.jobs.tables import jobs

MAX_TENANTS = 64  # in each plugin set that one claim considers
CANDIDATE_TENANTS = 4  # tenants among whose jobs it chooses
CANDIDATE_JOBS = 16  # of a tenant's jobs, for those that others are just taking
# Where others are just taking all of those, as when a thousand workers are woken at once.
MORE_CANDIDATE_JOBS = 1024

_TURNS_CTE = f"""
WITH RECURSIVE kinds(plugin_set) AS (
    SELECT (SELECT min(plugin_set) FROM jobs WHERE state = 'queued')
    UNION ALL
    SELECT (
        SELECT min(j.plugin_set) FROM jobs j
        WHERE j.state = 'queued' AND j.plugin_set > kinds.plugin_set
    )
    FROM kinds WHERE kinds.plugin_set IS NOT NULL
), runnable AS (
    SELECT s.digest AS plugin_set FROM kinds JOIN plugin_sets s ON s.digest = kinds.plugin_set
    WHERE s.stage IN ({{stages}}) AND s.stage NOT IN (SELECT p.stage FROM paused_stages p)
        AND NOT EXISTS (SELECT 1 FROM {{needed}} WHERE needed.value NOT IN ({{plugins}}))
), walk(plugin_set, round, tenant, n) AS (
    SELECT plugin_set, round, CASE WHEN round = 0 THEN :served ELSE '' END, 0
    FROM runnable CROSS JOIN (SELECT 0 AS round UNION ALL SELECT 1) AS rounds
    UNION ALL
    SELECT t.plugin_set, t.round, (
        SELECT min(j.tenant) FROM jobs j
        WHERE j.state = 'queued' AND j.plugin_set = t.plugin_set AND j.tenant > t.tenant
    ), t.n + 1
    FROM walk t WHERE t.tenant IS NOT NULL AND t.n < {MAX_TENANTS}
        AND (t.round = 0 OR t.tenant <= :served)
), heads AS (
    SELECT t.plugin_set, t.round, t.tenant, (
        SELECT j.rank FROM jobs j
        WHERE j.state = 'queued' AND j.plugin_set = t.plugin_set AND j.tenant = t.tenant
            AND (j.not_before IS NULL OR j.not_before <= {{now}})
        ORDER BY j.rank LIMIT 1
    ) AS rank
    FROM walk t WHERE t.n > 0 AND t.tenant IS NOT NULL AND (t.round = 0 OR t.tenant <= :served)
), shares AS (
    SELECT tenant, count(*) AS running FROM {{running}} WHERE state = 'running' GROUP BY tenant
), turns AS (
    SELECT h.plugin_set, h.round, h.tenant, h.rank, coalesce(shares.running, 0) AS running
    FROM heads h LEFT JOIN shares ON shares.tenant = h.tenant
    WHERE h.rank IS NOT NULL
        AND NOT EXISTS (
            SELECT 1 FROM tenants q
            WHERE q.name = h.tenant AND q.max_running_jobs <= coalesce(shares.running, 0)
        )
        AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = :worker AND w.drain)
    ORDER BY running, h.round, h.tenant, h.rank LIMIT {CANDIDATE_TENANTS}
)"""

_CLAIM_UPDATE = """
UPDATE jobs SET
    state = 'running', fence = fence + 1, attempt = attempt + 1, worker = :worker,
    claim_token = :token, stop = NULL, not_before = NULL, lease_until = {now} + :lease, started_at = {now},
    version = version + 1, event_seq = event_seq + 1,
    -- with a part of its inputs it is not equal to one that has them all
    dedup_key = CASE WHEN run_when = 'all_finished' AND EXISTS (
        SELECT 1 FROM job_inputs i
        LEFT JOIN job_artifacts a ON a.job = i.parent AND a.role = i.parent_role
        WHERE i.job = jobs.id AND coalesce(i.sha256, a.sha256) IS NULL
    ) THEN NULL ELSE dedup_key END
"""

_INSERT_EVENT = (
    "INSERT INTO events (job, seq, at, kind, data) SELECT id, event_seq, {now}, 'state', :data FROM"
)

_SELECT_INPUTS = """
SELECT {group}({array}(i.role, i.parent, i.parent_role, i.sha256, coalesce(i.sha256, a.sha256)))
FROM job_inputs i LEFT JOIN job_artifacts a ON a.job = i.parent AND a.role = i.parent_role
"""

# Of a job that several audits share, one of them: for logs.
_SELECT_AUDIT = "SELECT min(audit) FROM audit_jobs WHERE NOT detached AND job"

# SQLite has one writer at a time and no LATERAL: whose turn it is, then the taking.
_SQLITE_TEMPLATES = (
    f"""{_TURNS_CTE}
SELECT (
    SELECT q.id FROM jobs q
    WHERE q.state = 'queued' AND q.plugin_set = turns.plugin_set AND q.tenant = turns.tenant
        AND (q.not_before IS NULL OR q.not_before <= {{now}})
    ORDER BY q.rank, q.id LIMIT 1
) FROM turns ORDER BY running, round, tenant, rank LIMIT 1
""",
    f"{_CLAIM_UPDATE} WHERE id = :id RETURNING *, ({_SELECT_INPUTS} WHERE i.job = jobs.id) AS "
    f"inputs, ({_SELECT_AUDIT} = jobs.id) AS audit",
    f"{_INSERT_EVENT} jobs WHERE id = :id",
)

# PostgreSQL: all at once. Several may walk to the same job, so each has some to spare.
_POSTGRESQL_TEMPLATE = f"""{_TURNS_CTE}, winner AS (
    SELECT j.id FROM turns CROSS JOIN LATERAL (
        SELECT q.id, q.rank FROM jobs q
        WHERE q.state = 'queued' AND q.plugin_set = turns.plugin_set AND q.tenant = turns.tenant
            AND (q.not_before IS NULL OR q.not_before <= {{now}})
        ORDER BY q.rank, q.id LIMIT {{candidates}}
    ) AS candidate JOIN jobs j ON j.id = candidate.id AND j.state = 'queued'
    ORDER BY turns.running, turns.round, turns.tenant, candidate.rank, candidate.id
    LIMIT 1 FOR UPDATE OF j SKIP LOCKED
), taken AS ({_CLAIM_UPDATE} FROM winner WHERE jobs.id = winner.id RETURNING jobs.*
), noted AS ({_INSERT_EVENT} taken)
SELECT taken.*, ({_SELECT_INPUTS} WHERE i.job = taken.id) AS inputs,
    (SELECT q.max_running_jobs FROM tenants q WHERE q.name = taken.tenant) AS max_running_jobs,
    ({_SELECT_AUDIT} = taken.id) AS audit
FROM taken
"""

_FIND_TEMPLATE = f"""SELECT jobs.*, ({_SELECT_INPUTS} WHERE i.job = jobs.id) AS inputs,
    ({_SELECT_AUDIT} = jobs.id) AS audit FROM jobs
WHERE state = 'running' AND worker = :worker AND claim_token = :token"""

_DIALECT_SQL = {
    "sqlite": {
        "group": "json_group_array",
        "array": "json_array",
        "stages": "SELECT value FROM json_each(:stages)",
        "plugins": "SELECT value FROM json_each(:plugins)",
        "needed": "json_each(s.plugins) AS needed",
        # without statistics SQLite takes an index of all jobs
        "running": "jobs INDEXED BY ix_jobs_running",
    },
    "postgresql": {
        "group": "json_agg",
        "array": "json_build_array",
        "stages": "SELECT json_array_elements_text(CAST(:stages AS json))",
        "plugins": "SELECT json_array_elements_text(CAST(:plugins AS json))",
        "needed": "json_array_elements_text(CAST(s.plugins AS json)) AS needed(value)",
        "running": "jobs",
    },
}


def _build_statement(dialect: str, template: str, candidates: int = CANDIDATE_JOBS) -> TextClause:
    names = {"now": NOW_SQL[dialect], "candidates": candidates, **_DIALECT_SQL[dialect]}
    return text(template.format(**names))


_SQLITE_STATEMENTS = tuple(_build_statement("sqlite", one) for one in _SQLITE_TEMPLATES)
_POSTGRESQL_STATEMENTS = tuple(
    _build_statement("postgresql", _POSTGRESQL_TEMPLATE, candidates)
    for candidates in (CANDIDATE_JOBS, MORE_CANDIDATE_JOBS)
)
_FIND_STATEMENTS = {dialect: _build_statement(dialect, _FIND_TEMPLATE) for dialect in _DIALECT_SQL}


class _QuotaReached(Exception):
    """The tenant of the claimed job may not run another: the claim is taken back."""


class Dispatcher:
    """Claims for one worker. Knows whose turn it is next, so keep it as long as the worker lives.

    Args:
        stages: that the worker serves.
        plugins: every `kind:name` in the worker's own catalog.
    """

    def __init__(
        self, db: Database, worker: str, stages: Collection[str], plugins: Collection[str]
    ) -> None:
        self._db, self._worker = db, worker
        event_data = {
            "from": State.QUEUED,
            "to": State.RUNNING,
            "because": TRANSITIONS[State.QUEUED, State.RUNNING],
        }
        self._bind_params = {
            "worker": worker,
            "stages": to_json(sorted(stages)),
            "plugins": to_json(sorted(plugins)),
            "data": to_json({**event_data, "worker": worker}),
        }
        self._last_tenant = ""  # the tenant of the last claim

    def claim(self, lease_s: float, token: str) -> Claim | None:
        """Take the best queued job that this worker can run; None when there is none (of a stage
        that is not paused), or when it is to drain.

        Args:
            lease_s: seconds for which the claim holds.
            token: new and random for each call: by it `find` finds the job if the answer is lost.
        """
        bind_params = {
            **self._bind_params,
            "served": self._last_tenant,
            "lease": lease_s,
            "token": token,
        }
        try:
            row = self._db.run_transaction(
                lambda connection: _claim_row(self._db, connection, bind_params)
            )
        except _QuotaReached:  # by claims at the same moment; the next claim sees them
            return None
        if row is None:
            return None
        self._last_tenant = row.tenant
        return _build_claim(row)

    def find_claim(self, token: str) -> Claim | None:
        """The job that a claim with this token took, if it did and nobody has taken it away
        since."""
        with self._db.read() as connection:
            bind_params = {"worker": self._worker, "token": token}
            row = connection.execute(_FIND_STATEMENTS[self._db.dialect], bind_params).one_or_none()
        return None if row is None else _build_claim(row)


def _claim_row(
    db: Database, connection: Connection, bind_params: dict[str, Any]
) -> Row[Any] | None:
    """The row of the job that is taken."""
    if db.dialect == "sqlite":
        find, *more = _SQLITE_STATEMENTS
        job_id = connection.execute(find, bind_params).scalar_one_or_none()
        if job_id is None:
            return None
        taken, _noted = (
            connection.execute(statement, {**bind_params, "id": job_id}) for statement in more
        )
        return taken.one()
    for statement in _POSTGRESQL_STATEMENTS:
        row = connection.execute(statement, bind_params).one_or_none()
        if row is not None:
            if row.max_running_jobs is not None:
                _require_running_quota(db, connection, row.tenant, row.max_running_jobs)
            return row
    return None


def _require_running_quota(
    db: Database, connection: Connection, tenant: str, max_running_jobs: int
) -> None:
    """Claims of one tenant at the same moment do not see each other: wait for them, and count.

    Raises:
        _QuotaReached: with this one there are too many.
    """
    lock_name(db, connection, f"running jobs of {tenant}")
    running = select(func.count()).where(jobs.c.tenant == tenant, jobs.c.state == State.RUNNING)
    if connection.execute(running).scalar_one() > max_running_jobs:
        raise _QuotaReached


def _build_claim(row: Row[Any]) -> Claim:
    input_rows = json.loads(row.inputs) if isinstance(row.inputs, str) else row.inputs or []
    inputs = [
        Input(role, parent, parent_role, sha256)
        for role, parent, parent_role, sha256, _ in sorted(input_rows)
    ]
    return Claim(
        build_job(row, inputs),
        row.fence,
        {role: digest for role, *_, digest in input_rows if digest is not None},
        row.audit,
    )
