"""`python -m services.admin`: bring the job store's schema up to date, back it up, or find out what is wrong.

migrate      make or upgrade the schema; a SQLite file is copied first
backup FILE  copy a SQLite job store, also while it is in use (PostgreSQL: pg_dump)
doctor       check settings, job store, schema, broker and artifacts, and say what to do
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import redis

from shared.artifacts import ArtifactStore
from shared.config import Settings, load_settings
from shared.errors import InvalidRequest, PalimpsestError
from shared.jobs import fleet
from shared.jobs.database import Database
from shared.jobs.migrations import copy_before_migrating, migrate, require_current

BROKER_TIMEOUT = 3.0  # seconds


@dataclass(frozen=True)
class Finding:
    """What one check found; `todo` says what to do about it."""

    what: str
    ok: bool
    detail: str
    todo: str = ""


def main(arguments: list[str] | None = None) -> int:
    """0 when all is well, 1 when something is not, 2 for wrong use or settings."""
    parser = argparse.ArgumentParser(
        prog="python -m services.admin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["migrate", "backup", "doctor"])
    parser.add_argument("file", nargs="?", type=Path, help="where the backup goes")
    given = parser.parse_args(arguments)
    if (given.command == "backup") != (given.file is not None):
        parser.error("backup needs a FILE, the other commands take none")
    try:
        settings = load_settings()
    except InvalidRequest as error:
        _say(f"{error}", sys.stderr)
        return 2
    if given.command == "backup":
        return _backup(settings, given.file)
    return _migrate(settings) if given.command == "migrate" else _doctor(settings)


def _backup(settings: Settings, file: Path) -> int:
    db = Database(settings.database_url)
    try:
        require_current(db)
        db.copy_to(file)
    except (PalimpsestError, OSError, sqlite3.Error) as error:
        _say(f"backup: {_first_line(error)}", sys.stderr)
        return 1
    finally:
        db.close()
    _say(f"the job store was copied to {file.name}: now copy the artifacts")
    return 0


def _migrate(settings: Settings) -> int:
    try:
        db = Database(settings.database_url)
        if copy := copy_before_migrating(db):
            _say(f"the job store was copied to {copy.name}, beside it, before its schema is changed")
        migrate(db)
        db.close()
    except Exception as error:  # whatever the driver or the URL parser says, the user needs one line of it
        _say(f"migrate: {_first_line(error)}; look at PALIMPSEST_DATABASE_URL", sys.stderr)
        return 1
    _say("the job store's schema is up to date")
    return 0


def _doctor(settings: Settings) -> int:
    findings = examine(settings)
    for finding in findings:
        _say(f"{'ok  ' if finding.ok else 'BAD '} {finding.what:<10} {finding.detail}")
        if finding.todo:
            _say(f"     {'':<10} -> {finding.todo}")
    return 0 if all(f.ok for f in findings) else 1


def examine(settings: Settings) -> list[Finding]:
    """All checks, each on its own: one that fails does not hide the others."""
    checks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("token", _token),
        ("store", _store),
        ("broker", _broker),
        ("artifacts", _artifacts),
        ("workers", _workers),
    ]
    found = []
    for what, check in checks:
        try:
            found.append(check(settings))
        except Exception as error:  # a doctor that dies of what it looks for helps nobody
            found.append(Finding(what, False, _first_line(error), _REMEDIES.get(what, "")))
    return found


_REMEDIES = {
    "store": "look at PALIMPSEST_DATABASE_URL; is the database up and may you write there?",
    "broker": "start Redis, or look at PALIMPSEST_BROKER_URL; until then jobs start seconds later, none is lost",
    "artifacts": "look at PALIMPSEST_ARTIFACTS_URL; may this process write there?",
    "workers": "the job store has to be well first",
}


def _token(settings: Settings) -> Finding:
    if settings.token and settings.token.get_secret_value().strip():
        return Finding("token", True, "set")
    return Finding("token", False, "not set", "set PALIMPSEST_TOKEN: the gateway does not start without it")


def _store(settings: Settings) -> Finding:
    db = Database(settings.database_url)
    try:
        require_current(db)
        with db.write():
            pass
    finally:
        db.close()
    return Finding("store", True, f"{db.url.render_as_string(hide_password=True)}, schema is current")


def _broker(settings: Settings) -> Finding:
    url = settings.broker_url.get_secret_value()
    with redis.from_url(url, socket_connect_timeout=BROKER_TIMEOUT, socket_timeout=BROKER_TIMEOUT) as connection:
        info = connection.info("server")
        policy = connection.config_get("maxmemory-policy").get("maxmemory-policy")
    version = str(info.get("redis_version", "?"))
    if policy != "noeviction":
        todo = "set maxmemory-policy noeviction, or bells are thrown away when memory runs out"
        return Finding("broker", True, f"version {version}, maxmemory-policy {policy}", todo)
    return Finding("broker", True, f"version {version}")


def _artifacts(settings: Settings) -> Finding:
    store = ArtifactStore.from_url(settings.artifacts_url)
    written = store.put(b"palimpsest doctor\n")
    store.get(written)
    return Finding("artifacts", True, f"{settings.artifacts_url}, written and read back")


def _workers(settings: Settings) -> Finding:
    db = Database(settings.database_url)
    try:
        live = fleet.live_by_stage(db)
        digest = fleet.latest_digest(db)
    finally:
        db.close()
    if digest is None:
        return Finding("workers", False, "no catalog was published", "start a worker: python -m workers")
    if not live:
        return Finding(
            "workers", False, "none is live: jobs are accepted and wait", "start a worker: python -m workers"
        )
    return Finding("workers", True, ", ".join(f"{stage} {n}" for stage, n in sorted(live.items())))


def _first_line(error: Exception) -> str:
    text = str(error) if isinstance(error, PalimpsestError) else f"{type(error).__name__}: {error}"
    return text.strip().partition("\n")[0]


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
