"""`python -m services.admin`: migrate or back up the job store, check the installation, clean the
artifact store, or make the key that signs reports.

migrate           create or upgrade the schema; a SQLite file is copied first
backup FILE       copy a SQLite job store, even while it is in use (PostgreSQL: pg_dump)
doctor            check settings, job store, schema, broker and artifacts, and suggest fixes
orphans           list artifacts older than a day that the job store does not refer to: attempts
                  were killed after storing them. --remove removes them; not for an artifact store
                  that several job stores share
keys create FILE  make an Ed25519 key: the private one in FILE, the public one in FILE.pub
keys show FILE    print the public key and the id of the private key in FILE
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

from services import signing
from shared.artifacts import ArtifactStore
from shared.config import Settings, load_settings
from shared.errors import InvalidRequest, PalimpsestError
from shared.jobs import stage_pauses, worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import copy_before_migrating, migrate, require_current_schema
from shared.jobs.orphans import list_orphans, remove_orphans

BROKER_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `remedy` is how to fix it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if all is well, 1 if something failed, 2 for usage errors or invalid settings."""
    parser = argparse.ArgumentParser(
        prog="python -m services.admin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("migrate")
    backup = commands.add_parser("backup")
    backup.add_argument("file", type=Path, help="where to write the copy")
    commands.add_parser("doctor")
    orphans = commands.add_parser("orphans")
    orphans.add_argument("--remove", action="store_true", help="remove them for good")
    keys = commands.add_parser("keys")
    keys.add_argument("action", choices=["create", "show"])
    keys.add_argument("file", type=Path, help="the private key")
    options = parser.parse_args(arguments)
    if options.command == "keys":
        return _run_keys(options.action, options.file)
    try:
        settings = load_settings()
    except InvalidRequest as error:
        _print_line(f"{error}", sys.stderr)
        return 2
    if options.command == "backup":
        return _run_backup(settings, options.file)
    if options.command == "orphans":
        return _run_orphans(settings, remove=options.remove)
    return _run_migrate(settings) if options.command == "migrate" else _run_doctor(settings)


def _run_backup(settings: Settings, target: Path) -> int:
    db = Database(settings.database_url)
    try:
        require_current_schema(db)
        db.copy_to(target)
    except (PalimpsestError, OSError, sqlite3.Error) as error:
        _print_line(f"backup: {_summarize_error(error)}", sys.stderr)
        return 1
    finally:
        db.close()
    _print_line(f"the job store was copied to {target.name}; now copy the artifacts")
    return 0


def _run_orphans(settings: Settings, *, remove: bool) -> int:
    db = Database(settings.database_url)
    try:
        require_current_schema(db)
        store = ArtifactStore.from_url(settings.artifacts_url)
        orphans = list(list_orphans(db, store))
        for one in orphans:
            _print_line(f"{one.sha256} {one.size}")
        if remove:
            remove_orphans(db, store, [one.sha256 for one in orphans])
    except PalimpsestError as error:
        _print_line(f"orphans: {_summarize_error(error)}", sys.stderr)
        return 1
    finally:
        db.close()
    size = sum(one.size for one in orphans)
    what = "removed" if remove else "found; --remove removes them"
    _print_line(f"{len(orphans):,} artifacts of {size:,} bytes {what}", sys.stderr)
    return 0


def _run_migrate(settings: Settings) -> int:
    try:
        db = Database(settings.database_url)
        if copied_to := copy_before_migrating(db):
            _print_line(
                f"the job store was copied to {copied_to.name} in the same folder "
                "before the migration"
            )
        migrate(db)
        db.close()
    except Exception as error:
        # whatever the driver or the URL parser says, the user needs one line of it
        _print_line(
            f"migrate: {_summarize_error(error)}; check PALIMPSEST_DATABASE_URL", sys.stderr
        )
        return 1
    _print_line("the job store's schema is up to date")
    return 0


def _run_doctor(settings: Settings) -> int:
    findings = run_checks(settings)
    for finding in findings:
        _print_line(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name:<10} {finding.detail}")
        if finding.remedy:
            _print_line(f"     {'':<10} -> {finding.remedy}")
    return 0 if all(f.ok for f in findings) else 1


def _run_keys(action: str, path: Path) -> int:
    """Keys need no settings: the machine that makes one need not run anything else."""
    try:
        key = signing.create_key(path) if action == "create" else signing.load_key(path)
    except (PalimpsestError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else _summarize_error(error)
        _print_line(f"keys {action}: {reason}", sys.stderr)
        return 1
    _print_line(key.public_pem.strip())
    _print_line(f"key id {key.key_id}", sys.stderr)
    if action == "create":
        _print_line(
            f"the private key is in {path.name}: set PALIMPSEST_SIGNING_KEY to it for the gateway "
            f"only, and keep a copy; the public key is in {path.name}{signing.PUBLIC_SUFFIX}: hand "
            "it to everyone who verifies reports",
            sys.stderr,
        )
    return 0


def run_checks(settings: Settings) -> list[CheckResult]:
    """Run all checks independently: one that fails does not hide the others."""
    checks: list[tuple[str, Callable[[Settings], CheckResult]]] = [
        ("token", _check_token),
        ("signing", _check_signing),
        ("store", _check_store),
        ("broker", _check_broker),
        ("artifacts", _check_artifacts),
        ("workers", _check_workers),
    ]
    results = []
    for name, check in checks:
        try:
            results.append(check(settings))
        except Exception as error:  # whatever a check raises is its result
            results.append(
                CheckResult(name, False, _summarize_error(error), _REMEDIES.get(name, ""))
            )
    return results


_REMEDIES = {
    "store": "check PALIMPSEST_DATABASE_URL, and that the database is running and writable",
    "broker": "start Redis, or check PALIMPSEST_BROKER_URL; until then jobs start a few seconds "
    "late, none is lost",
    "artifacts": "check PALIMPSEST_ARTIFACTS_URL, and that this process may write there",
    "workers": "fix the job store first",
    "signing": "check PALIMPSEST_SIGNING_KEY, and that this process may read the file",
}


def _check_token(settings: Settings) -> CheckResult:
    if settings.token and settings.token.get_secret_value().strip():
        return CheckResult("token", True, "set")
    return CheckResult(
        "token", False, "not set", "set PALIMPSEST_TOKEN: the gateway does not start without it"
    )


def _check_signing(settings: Settings) -> CheckResult:
    key = signing.load_configured_key(settings)
    if key is None:
        return CheckResult(
            "signing",
            True,
            "no key: manifests of reports are not signed",
            "make one with `python -m services.admin keys create FILE`, and set "
            "PALIMPSEST_SIGNING_KEY for the gateway",
        )
    detail = f"key {key.key_id}"
    if signing.is_private_to_owner(settings.signing_key or Path()):
        return CheckResult("signing", True, detail)
    return CheckResult(
        "signing",
        True,
        f"{detail}, which others on this machine can read",
        "chmod 600 the private key",
    )


def _check_store(settings: Settings) -> CheckResult:
    db = Database(settings.database_url)
    try:
        require_current_schema(db)
        with db.write():
            pass
    finally:
        db.close()
    return CheckResult(
        "store", True, f"{db.url.render_as_string(hide_password=True)}, schema is current"
    )


def _check_broker(settings: Settings) -> CheckResult:
    url = settings.broker_url.get_secret_value()
    with redis.from_url(
        url, socket_connect_timeout=BROKER_TIMEOUT_S, socket_timeout=BROKER_TIMEOUT_S
    ) as connection:
        info = connection.info("server")
        policy = connection.config_get("maxmemory-policy").get("maxmemory-policy")
    version = str(info.get("redis_version", "?"))
    if policy != "noeviction":
        remedy = "set maxmemory-policy noeviction, or wake-ups are dropped when memory runs out"
        return CheckResult("broker", True, f"version {version}, maxmemory-policy {policy}", remedy)
    return CheckResult("broker", True, f"version {version}")


def _check_artifacts(settings: Settings) -> CheckResult:
    store = ArtifactStore.from_url(settings.artifacts_url)
    sha256 = store.put(b"palimpsest doctor\n")
    store.get(sha256)
    return CheckResult("artifacts", True, f"{settings.artifacts_url}, written and read back")


def _check_workers(settings: Settings) -> CheckResult:
    db = Database(settings.database_url)
    try:
        live = worker_registry.count_live_by_stage(db)
        digest = worker_registry.get_catalog_digest(db)
        drained = [w.id for w in worker_registry.list_workers(db) if w.live and w.drained_at]
        paused = sorted(stage_pauses.list_paused_stages(db))
    finally:
        db.close()
    if digest is None:
        return CheckResult(
            "workers", False, "no catalog has been published", "start a worker: python -m workers"
        )
    if not live:
        return CheckResult(
            "workers",
            False,
            f"all are drained: {', '.join(drained)}"
            if drained
            else "none is live: jobs are accepted but wait",
            "palimpsest undrain WORKER" if drained else "start a worker: python -m workers",
        )
    parts = [", ".join(f"{stage} {n}" for stage, n in sorted(live.items()))]
    parts += [f"drained: {', '.join(drained)}"] if drained else []
    parts += [f"paused stages: {', '.join(paused)}"] if paused else []
    return CheckResult("workers", True, "; ".join(parts))


def _summarize_error(error: Exception) -> str:
    text = str(error) if isinstance(error, PalimpsestError) else f"{type(error).__name__}: {error}"
    return text.strip().partition("\n")[0]


def _print_line(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
