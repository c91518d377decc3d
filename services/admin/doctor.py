"""`doctor`: check settings, access, job store, schema, broker and artifacts, and suggest fixes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import redis
from sqlalchemy.exc import DBAPIError

from services import signing
from services.admin._command import Subparsers, has_token, print_line, summarize_error
from services.gateway.credentials import NO_ACCESS
from shared.artifacts import ArtifactStore
from shared.config import Settings, load_settings
from shared.errors import PalimpsestError
from shared.jobs import device_leases, keys, stage_pauses, worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import require_current_schema

BROKER_TIMEOUT_S = 3.0
NO_ADMIN = (
    "no valid key has the scope admin, so nothing can be administered over HTTP: create "
    "one with `python -m services.admin keys create --tenant TENANT --scope admin`"
)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `remedy` is how to fix it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("doctor", help=__doc__.partition(": ")[2])
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    findings = run_checks(load_settings())
    for finding in findings:
        print_line(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name:<10} {finding.detail}")
        if finding.remedy:
            print_line(f"     {'':<10} -> {finding.remedy}")
    return 0 if all(f.ok for f in findings) else 1


def run_checks(settings: Settings) -> list[CheckResult]:
    """Run all checks independently: one that fails does not hide the others."""
    checks: list[tuple[str, Callable[[Settings], CheckResult]]] = [
        ("access", _check_access),
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
                CheckResult(name, False, summarize_error(error), _REMEDIES.get(name, ""))
            )
    return results


_REMEDIES = {
    "store": "check PALIMPSEST_DATABASE_URL, and that the database is running and writable",
    "broker": "start Redis, or check PALIMPSEST_BROKER_URL; until then jobs start a few seconds "
    "late; none is lost",
    "artifacts": "check PALIMPSEST_ARTIFACTS_URL, and that this process may write there",
    "workers": "fix the job store first",
    "signing": "check PALIMPSEST_SIGNING_KEY, and that this process may read the file",
}


def _check_access(settings: Settings) -> CheckResult:
    parts = ["PALIMPSEST_TOKEN is set"] if has_token(settings) else ["no PALIMPSEST_TOKEN"]
    db = Database(settings.database_url)
    try:
        valid, admins = keys.count_valid(db)
        parts.append(f"valid keys: {valid}, of these with the scope admin: {admins}")
    except (PalimpsestError, DBAPIError):  # the check of the store says why
        valid = admins = 0
    finally:
        db.close()
    detail = ", ".join(parts)
    if has_token(settings) or admins:
        return CheckResult("access", True, detail)
    return CheckResult("access", bool(valid), detail, NO_ADMIN if valid else NO_ACCESS)


def _check_signing(settings: Settings) -> CheckResult:
    key = signing.load_configured_key(settings)
    if key is None:
        return CheckResult(
            "signing",
            True,
            "no key: manifests of reports are not signed",
            "make one with `python -m services.admin signing-key create FILE`, and set "
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
        leases = device_leases.list_device_leases(db, settings.lease_s)
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
            f"all workers are drained: {', '.join(drained)}"
            if drained
            else "no worker is live: jobs are accepted but wait",
            "palimpsest undrain WORKER" if drained else "start a worker: python -m workers",
        )
    parts = [", ".join(f"{stage} {n}" for stage, n in sorted(live.items()))]
    parts += [f"drained: {', '.join(drained)}"] if drained else []
    parts += [f"paused stages: {', '.join(paused)}"] if paused else []
    parts += [
        f"{kind} {device} on {host}: {', '.join(one.worker for one in holders)}"
        for (host, device, kind), holders in groupby(leases, lambda o: (o.host, o.id, o.kind))
    ]
    return CheckResult("workers", True, "; ".join(parts))
