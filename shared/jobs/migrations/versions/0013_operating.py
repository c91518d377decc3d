"""drained workers, paused stages, labels and metadata of audits, and indexes that lists walk along"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_jobs_tenant_stage_created_at_id", ["tenant", "stage", "created_at", "id"]),
    ("ix_jobs_tenant_state_created_at_id", ["tenant", "state", "created_at", "id"]),
    (
        "ix_jobs_tenant_finished_at_created_at_id",
        ["tenant", "finished_at", "created_at", "id"],
    ),
)


def upgrade() -> None:
    op.add_column(
        "workers",
        sa.Column("leaving", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "drained_workers",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("drained_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drained_workers")),
    )
    op.create_table(
        "paused_stages",
        sa.Column("stage", sa.String(length=40), nullable=False),
        sa.Column("paused_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("stage", name=op.f("pk_paused_stages")),
    )
    op.add_column(
        "audits",
        sa.Column("metadata", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.create_table(
        "audit_labels",
        sa.Column("audit", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit"], ["audits.id"], name=op.f("fk_audit_labels_audit"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit", "key", name=op.f("pk_audit_labels")),
    )
    op.create_index("ix_audit_labels_key_value", "audit_labels", ["key", "value"])
    for name, columns in INDEXES:
        op.create_index(name, "jobs", columns)
    # the index of a state with the time begins with it
    op.drop_index("ix_jobs_tenant_state", "jobs")


def downgrade() -> None:
    op.create_index("ix_jobs_tenant_state", "jobs", ["tenant", "state"])
    for name, _ in INDEXES:
        op.drop_index(name, "jobs")
    op.drop_table("audit_labels")
    op.drop_column("audits", "metadata")
    op.drop_table("paused_stages")
    op.drop_table("drained_workers")
    op.drop_column("workers", "leaving")
