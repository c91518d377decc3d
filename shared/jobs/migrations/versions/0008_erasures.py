"""erasures: which deletions still have traces to remove, and who needs a checkpoint"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_index(
        "ix_jobs_checkpoint",
        "jobs",
        ["checkpoint"],
        unique=False,
        postgresql_where=sa.text("checkpoint IS NOT NULL"),
        sqlite_where=sa.text("checkpoint IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy that was made before the migration")
