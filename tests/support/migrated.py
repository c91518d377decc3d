"""SQLite job stores of the newest schema, copied: migrating each takes longer than many tests."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.tables import metadata


@cache
def _migrate_first() -> bytes:
    """A store that was migrated in this process."""
    folder = Path(tempfile.mkdtemp(prefix="palimpsest-migrated-"))
    try:
        db = Database(f"sqlite:///{folder}/palimpsest.db")
        migrate(db)
        db.close()
        return (folder / "palimpsest.db").read_bytes()
    finally:
        shutil.rmtree(folder)


def open_migrated(file: Path) -> Database:
    """A job store in `file`, with no job yet; what is there already stays."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_migrate_first())
    return Database(f"sqlite:///{file}")


def open_in_memory() -> Database:
    """A job store that ends with its connection; it has the tables without the migrations."""
    db = Database("sqlite://")
    with db.write() as connection:
        metadata.create_all(connection)
    return db
