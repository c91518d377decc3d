"""which version of the data files a job reads"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Jobs from before name files whose version nobody knows. What has not run yet is refused by its
    # worker.
    op.add_column(
        "jobs", sa.Column("data", sa.Text(), server_default=sa.text("'{}'"), nullable=False)
    )


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("data")
