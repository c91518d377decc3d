"""what expires: ended jobs by their end, bytes that are gone while their job stays, audits that are
being deleted"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# name, table, columns, of which rows
INDEXES = (
    ("ix_jobs_ended", "jobs", ["finished_at", "id"], "finished_at IS NOT NULL"),
    ("ix_jobs_reused_from", "jobs", ["reused_from"], "reused_from IS NOT NULL"),
    ("ix_artifacts_origin", "artifacts", ["origin"], None),
    ("ix_artifacts_expires_at", "artifacts", ["expires_at"], "expires_at IS NOT NULL"),
    ("ix_audits_created_at_id", "audits", ["created_at", "id"], None),
    ("ix_audits_deleting", "audits", ["id"], "deleting"),
    ("ix_idempotency_created_at", "idempotency", ["created_at"], None),
)


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("expired_at", sa.Double()))
    op.add_column(
        "audits",
        sa.Column("deleting", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for name, table, columns, where in INDEXES:
        options = {} if where is None else {
            "postgresql_where": sa.text(where), "sqlite_where": sa.text(where),
        }  # fmt: skip
        op.create_index(name, table, columns, unique=False, **options)


def downgrade() -> None:
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table)
    op.drop_column("audits", "deleting")
    op.drop_column("artifacts", "expired_at")
