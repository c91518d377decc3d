"""uploads: which deleted bytes are still to be removed from the store"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_artifacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_deleted_artifacts")),
    )
    op.create_index(
        "ix_artifacts_uploads",
        "artifacts",
        ["tenant", "created_at", "sha256"],
        unique=False,
        postgresql_where=sa.text("origin = 'upload'"),
        sqlite_where=sa.text("origin = 'upload'"),
    )
    op.create_index("ix_job_inputs_sha256", "job_inputs", ["sha256"], unique=False)
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy that was made before the migration")
