"""columns and states under the field's names: dedup_key, request_key, cache_key, no_cache, pinned,
run_when, paused"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RENAMED = {
    "live_key": "dedup_key",
    "plan_key": "request_key",
    "content_key": "cache_key",
    "fresh": "no_cache",
    "direct": "pinned",
}


def upgrade() -> None:
    # Not in a batch: RENAME keeps the table, its rows and whatever refers to them.
    for old, new in RENAMED.items():
        op.execute(f"ALTER TABLE jobs RENAME COLUMN {old} TO {new}")
    op.add_column(
        "jobs",
        sa.Column("run_when", sa.String(length=16), server_default="all_succeeded", nullable=False),
    )
    op.execute("UPDATE jobs SET run_when = 'all_finished' WHERE tolerant")
    op.drop_index(op.f("ix_jobs_tenant_content_key"), table_name="jobs")
    op.create_index(op.f("ix_jobs_tenant_cache_key"), "jobs", ["tenant", "cache_key"])
    if op.get_context().dialect.name == "postgresql":
        op.drop_column("jobs", "tolerant")
        op.execute(
            "ALTER TABLE jobs RENAME CONSTRAINT uq_jobs_tenant_live_key TO uq_jobs_tenant_dedup_key"
        )
    else:
        # SQLite cannot rename a constraint. `Database.change_schema` has switched references off.
        with op.batch_alter_table("jobs") as batch_op:
            batch_op.drop_column("tolerant")
            batch_op.drop_constraint("uq_jobs_tenant_live_key", type_="unique")
            batch_op.create_unique_constraint("uq_jobs_tenant_dedup_key", ["tenant", "dedup_key"])
    op.execute("UPDATE jobs SET state = 'paused' WHERE state = 'held'")
    op.execute("""UPDATE events SET data = replace(data, '"held"', '"paused"')
        WHERE kind = 'state' AND data LIKE '%"held"%'""")


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy that was made before the migration")
