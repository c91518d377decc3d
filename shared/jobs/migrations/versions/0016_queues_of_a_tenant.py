"""an index that leads to how many jobs of a tenant's stage are in a state, and to the oldest"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_jobs_tenant_stage_state_queued_at"),
        "jobs",
        ["tenant", "stage", "state", "queued_at"],
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_jobs_tenant_stage_state_queued_at"), table_name="jobs")
