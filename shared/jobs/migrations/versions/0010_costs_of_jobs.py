"""what jobs cost: seconds, memory and machine, and by which keys jobs of one kind are found"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("equal_cost_key", sa.String(length=32)),
        sa.Column("similar_cost_key", sa.String(length=32)),
        sa.Column("ran_on", sa.String(length=120)),
        sa.Column("run_s", sa.Double()),
        sa.Column("cpu_s", sa.Double()),
        sa.Column("memory_bytes", sa.BigInteger()),
        sa.Column("device_memory_bytes", sa.BigInteger()),
    ):
        op.add_column("jobs", column)
    for name, columns in (
        ("ix_jobs_equal_costs", ["tenant", "equal_cost_key", "ran_on", "finished_at"]),
        ("ix_jobs_similar_costs", ["tenant", "similar_cost_key", "ran_on", "finished_at"]),
        ("ix_jobs_method_costs", ["tenant", "stage", "method", "ran_on", "finished_at"]),
    ):
        op.create_index(
            name,
            "jobs",
            columns,
            unique=False,
            postgresql_where=sa.text("run_s IS NOT NULL"),
            sqlite_where=sa.text("run_s IS NOT NULL"),
        )


def downgrade() -> None:
    for name in ("ix_jobs_equal_costs", "ix_jobs_similar_costs", "ix_jobs_method_costs"):
        op.drop_index(name, "jobs")
    for column in (
        "equal_cost_key", "similar_cost_key", "ran_on", "run_s", "cpu_s", "memory_bytes",
        "device_memory_bytes",
    ):  # fmt: skip
        op.drop_column("jobs", column)
