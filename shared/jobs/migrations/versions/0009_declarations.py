"""models and data sets that are declared once and named"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LIFETIME_S = 30 * 24 * 3600


def upgrade() -> None:
    op.create_table(
        "declarations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("job", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_declarations_job")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_declarations")),
        sa.UniqueConstraint(
            "tenant",
            "kind",
            "name",
            "version",
            name=op.f("uq_declarations_tenant_kind_name_version"),
        ),
    )
    op.create_index(
        "ix_declarations_tenant_kind_created_at_id",
        "declarations",
        ["tenant", "kind", "created_at", "id"],
    )
    op.create_index("ix_declarations_job", "declarations", ["job"])
    op.create_table(
        "declaration_labels",
        sa.Column("declaration", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.ForeignKeyConstraint(
            ["declaration"],
            ["declarations.id"],
            name=op.f("fk_declaration_labels_declaration"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("declaration", "key", name=op.f("pk_declaration_labels")),
    )
    op.create_table(
        "declared_uploads",
        sa.Column("declaration", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["declaration"],
            ["declarations.id"],
            name=op.f("fk_declared_uploads_declaration"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("declaration", "sha256", name=op.f("pk_declared_uploads")),
    )
    op.create_index("ix_declared_uploads_sha256", "declared_uploads", ["sha256"])


def downgrade() -> None:
    # without declarations nothing says that these stay: they expire as if they had come today
    op.execute(
        sa.text(
            "UPDATE artifacts SET expires_at = :expiry WHERE origin = 'upload' "
            "AND expires_at IS NULL AND sha256 IN (SELECT sha256 FROM declared_uploads)"
        ).bindparams(expiry=_read_clock() + LIFETIME_S)
    )
    for table in ("declared_uploads", "declaration_labels", "declarations"):
        op.drop_table(table)


def _read_clock() -> float:
    """Seconds since 1970, by the database's clock."""
    connection = op.get_bind()
    clock = (
        "SELECT (julianday('now') - 2440587.5) * 86400"
        if connection.dialect.name == "sqlite"
        else "SELECT extract(epoch FROM now())"
    )
    return float(connection.execute(sa.text(clock)).scalar_one())
