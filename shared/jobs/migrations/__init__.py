"""Alembic's folder, and the two calls that the rest of the project makes of it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from shared.errors import Conflict
from shared.jobs.database import Database


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def migrate(db: Database) -> None:
    """Bring the schema to the newest revision."""
    config = _config()
    with db.write() as connection:
        if db.dialect == "postgresql":  # two that migrate at once take turns
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7250117)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(db: Database) -> None:
    """Refuse to work on another schema.

    Raises:
        Conflict: the schema is missing, older or newer than this code.
    """
    with db.read() as connection:
        have = MigrationContext.configure(connection).get_current_revision()
    want = ScriptDirectory.from_config(_config()).get_current_head()
    if have != want:
        raise Conflict(
            f"the job store has schema {have}, this code needs {want}: run `python -m services.admin migrate`"
        )
