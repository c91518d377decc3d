"""artifacts that have an owner and an identity apart from the jobs that made them"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(length=80), nullable=False),
        sa.Column("origin", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "sha256", name=op.f("pk_artifacts")),
    )
    # Of several jobs that made the same bytes, the first.
    op.execute("""
        INSERT INTO artifacts (tenant, sha256, size, media_type, origin, created_at)
        SELECT tenant, sha256, size, media_type, job, at FROM (
            SELECT made.tenant, made.sha256, made.size, made.media_type, made.job,
                coalesce(jobs.finished_at, jobs.created_at) AS at,
                row_number() OVER (
                    PARTITION BY made.tenant, made.sha256
                    ORDER BY coalesce(jobs.finished_at, jobs.created_at), made.job, made.role
                ) AS place
            FROM job_artifacts AS made JOIN jobs ON jobs.id = made.job
        ) AS placed WHERE place = 1
    """)
    # No table refers to this one: it may be made anew.
    with op.batch_alter_table("job_artifacts", schema=None) as batch_op:
        batch_op.drop_column("size")
        batch_op.drop_column("media_type")
        batch_op.create_foreign_key(
            op.f("fk_job_artifacts_tenant_sha256"),
            "artifacts",
            ["tenant", "sha256"],
            ["tenant", "sha256"],
        )


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy that was made before the migration")
