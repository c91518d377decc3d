"""tenants, keys to the gateway, and the log of who did what"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NOW_SQL = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from clock_timestamp())",
}


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("disabled_at", sa.Double()),
        sa.Column("max_queued_jobs", sa.Integer()),
        sa.Column("max_running_jobs", sa.Integer()),
        sa.Column("max_artifact_bytes", sa.BigInteger()),
        sa.Column("max_event_streams", sa.Integer()),
        sa.Column("max_requests_per_minute", sa.Integer()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("last_used_at", sa.Double()),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_keys_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_keys_digest")),
    )
    op.create_index(op.f("ix_keys_created_at_id"), "keys", ["created_at", "id"])
    op.create_index(op.f("ix_keys_tenant"), "keys", ["tenant"])
    op.create_table(
        "server_secrets",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server_secrets")),
    )
    op.create_table(
        "access_log",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("tenant", sa.String(length=64)),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_log")),
    )
    op.create_index(op.f("ix_access_log_at_id"), "access_log", ["at", "id"])
    op.create_index(op.f("ix_access_log_tenant_at"), "access_log", ["tenant", "at"])
    _keep_known_tenants()


def _keep_known_tenants() -> None:
    """Whoever owns anything is a tenant."""
    names = " UNION ".join(
        f"SELECT tenant FROM {table}" for table in ("jobs", "audits", "artifacts", "declarations")
    )
    now = NOW_SQL[op.get_bind().dialect.name]
    op.execute(
        f"INSERT INTO tenants (name, created_at) SELECT tenant, {now} FROM ({names}) AS known"
    )


def downgrade() -> None:
    for table in ("access_log", "server_secrets", "keys", "tenants"):
        op.drop_table(table)
