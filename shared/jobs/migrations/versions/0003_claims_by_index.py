"""claims that an index answers: plugin sets, ranks, pauses, claim tokens; cancels that go in
slices"""

import hashlib
import json
from itertools import groupby

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STEP_S = 60.0
ROWS = 5000


def upgrade() -> None:
    op.create_table(
        "plugin_sets",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("stage", sa.String(length=40), nullable=False),
        sa.Column("plugins", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_plugin_sets")),
    )
    op.add_column(
        "jobs",
        sa.Column("plugin_set", sa.String(length=64), server_default=sa.text("''"), nullable=False),
    )
    op.add_column("jobs", sa.Column("claim_token", sa.String(length=32), nullable=True))
    op.add_column("jobs", sa.Column("rank", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("not_before", sa.Double(), nullable=True))
    op.add_column(
        "audits", sa.Column("cancelling", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    _fill_plugin_sets(op.get_bind())
    op.execute(
        f"UPDATE jobs SET rank = queued_at - priority * {STEP_S} WHERE queued_at IS NOT NULL"
    )
    op.drop_table("job_plugins")
    for index in ("stage_state_priority_queued_at", "state_lease_until", "worker"):
        op.drop_index(op.f(f"ix_jobs_{index}"), table_name="jobs")
    op.create_index(op.f("ix_jobs_stage_state"), "jobs", ["stage", "state"])
    _create_index_where(
        "ix_jobs_queue", "jobs", ["plugin_set", "tenant", "rank", "id"], "state = 'queued'"
    )
    _create_index_where(
        "ix_jobs_pausing", "jobs", ["id"], "state = 'queued' AND not_before IS NOT NULL"
    )
    _create_index_where("ix_jobs_running", "jobs", ["tenant", "worker"], "state = 'running'")
    _create_index_where("ix_audits_cancelling", "audits", ["id"], "cancelling")


def _create_index_where(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where)
    )


def _fill_plugin_sets(connection: sa.Connection) -> None:
    """Gather what `job_plugins` says of each job into sets, a bounded number of rows at a time."""
    query = sa.text(
        "SELECT jobs.id AS job, jobs.stage, job_plugins.plugin FROM jobs "
        "LEFT JOIN job_plugins ON job_plugins.job = jobs.id WHERE jobs.id > :last "
        "ORDER BY jobs.id, job_plugins.plugin LIMIT :rows"
    )
    known: set[str] = set()
    last = ""
    while rows := connection.execute(query, {"last": last, "rows": ROWS}).all():
        by_job = [
            (key, [r.plugin for r in group if r.plugin])
            for key, group in groupby(rows, lambda r: (r.job, r.stage))
        ]
        if len(rows) == ROWS and len(by_job) > 1:
            by_job.pop()  # the last one's plugins may go on in the next rows
        changed = []
        for (job, stage), plugins in by_job:
            text = json.dumps(sorted(set(plugins)), separators=(",", ":"))
            digest = hashlib.sha256(f"{stage}\n{text}".encode()).hexdigest()
            if digest not in known:
                connection.execute(
                    sa.text(
                        "INSERT INTO plugin_sets (digest, stage, plugins) VALUES (:digest, :stage, :plugins)"
                    ),
                    {"digest": digest, "stage": stage, "plugins": text},
                )
                known.add(digest)
            changed.append({"job": job, "digest": digest})
        connection.execute(sa.text("UPDATE jobs SET plugin_set = :digest WHERE id = :job"), changed)
        last = by_job[-1][0][0]


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy that was made before the migration")
