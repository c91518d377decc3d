"""Alembic's folder, and the calls that the rest of the project makes of it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from shared.errors import Conflict
from shared.jobs.database import Database

# Claims walk past the entries of all jobs that have left the queue since the last VACUUM, and
# PostgreSQL would wait until a fifth of all jobs have changed, and leave the entries of few pages in
# the indexes (docs/scaling.md).
_VACUUM_OPTIONS = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "10000",
    "vacuum_index_cleanup": "on",
}


def _build_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def migrate(db: Database, revision: str = "head") -> None:
    """Bring the schema to the newest revision, or up to `revision`, in one transaction."""
    config = _build_config()
    with db.change_schema() as connection:
        # two that migrate at once take turns; a large table takes minutes
        if db.dialect == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7250117)")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if db.dialect == "postgresql" and revision == "head":
            _set_vacuum_options(connection)


def _set_vacuum_options(connection: Connection) -> None:
    """What an operator has set stays."""
    given = connection.exec_driver_sql(
        "SELECT unnest(reloptions) FROM pg_class WHERE oid = CAST('jobs' AS regclass)"
    ).scalars()
    names = {option.partition("=")[0] for option in given}
    if missing := {name: value for name, value in _VACUUM_OPTIONS.items() if name not in names}:
        options = ", ".join(f"{name} = {value}" for name, value in missing.items())
        connection.exec_driver_sql(f"ALTER TABLE jobs SET ({options})")


def downgrade(db: Database, revision: str) -> None:
    """Take the schema back to an older revision, where the newer ones can be given up.

    Raises:
        NotImplementedError: they cannot; restore the copy instead.
    """
    config = _build_config()
    with db.change_schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def copy_before_migrating(db: Database) -> Path | None:
    """Copy a SQLite file that is about to be migrated to `<file>.<its revision>.copy` beside it;
    where the copy is.

    None when there is nothing to copy: no schema yet, the newest already, or a server, which has
    backups of its own.
    """
    have, want = _get_revisions(db)
    if db.file is None or have in (None, want):
        return None
    copy = db.file.with_name(f"{db.file.name}.{have}.copy")
    db.copy_to(copy)
    return copy


def list_revisions() -> list[str]:
    """Every revision, oldest first."""
    return [
        script.revision for script in ScriptDirectory.from_config(_build_config()).walk_revisions()
    ][::-1]


def require_current_schema(db: Database) -> None:
    """Refuse to work on another schema.

    Raises:
        Conflict: the schema is missing, older or newer than this code.
    """
    have, want = _get_revisions(db)
    if have != want:
        raise Conflict(
            f"the job store has schema {have}, but this code needs {want}: run `python -m "
            "services.admin migrate`"
        )


def _get_revisions(db: Database) -> tuple[str | None, str | None]:
    """The one that the store has, and the one that this code needs."""
    with db.read() as connection:
        have = MigrationContext.configure(connection).get_current_revision()
    return have, ScriptDirectory.from_config(_build_config()).get_current_head()
