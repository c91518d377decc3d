"""Alembic's folder, and the calls that the rest of the project makes of it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from shared.errors import Conflict
from shared.jobs.database import Database


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
