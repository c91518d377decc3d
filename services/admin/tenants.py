"""`tenants create|list|disable|enable|quota|delete`: manage tenants and their quotas."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from services.admin._command import (
    Subparsers,
    add_json_option,
    has_token,
    log_act,
    open_store,
    print_json,
    print_line,
    print_table,
)
from services.gateway.access_schemas import serialize_tenant
from services.gateway.key_cache import CACHE_S
from shared.artifacts import ArtifactStore
from shared.config import Settings, load_settings
from shared.errors import NotFound
from shared.jobs import tenants
from shared.jobs.database import Database
from shared.jobs.quotas import QUOTA_NAMES, Quotas
from shared.jobs.tenant_erasure import erase_tenant
from shared.jobs.tenants import Tenant, check_tenant_name

PAGE_SIZE = 1000
# after which no gateway accepts a key of a tenant that was disabled
WAIT_S = CACHE_S + 1.0


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("tenants", help=__doc__.partition(": ")[2])
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    helps = {
        "create": "create a tenant",
        "list": "list all tenants",
        "disable": "make all keys of a tenant invalid; its jobs keep running",
        "enable": "make the keys of a tenant valid again",
        "quota": "change a tenant's quotas; without options, show them",
        "delete": "disable a tenant, cancel all its jobs, then permanently delete all its data",
    }
    for action, text in helps.items():
        one = actions.add_parser(action, help=text, description=text)
        one.set_defaults(run=run)
        add_json_option(one)
        if action != "list":
            one.add_argument("name", help="the tenant: lower-case letters, digits, . _ -")
        if action == "delete":
            one.add_argument("--yes", action="store_true", help="confirm: this cannot be undone")
        if action in ("create", "quota"):
            for quota in QUOTA_NAMES:
                one.add_argument(
                    f"--{quota.replace('_', '-')}",
                    type=_parse_quota,
                    default=argparse.SUPPRESS,
                    metavar="N",
                    help="a number, or `none` for no limit",
                )


def run(options: argparse.Namespace) -> int:
    settings = load_settings()
    quotas = {name: getattr(options, name) for name in QUOTA_NAMES if hasattr(options, name)}
    with open_store(settings) as db:
        if options.action == "list":
            shown, after = tenants.list_tenants(db, limit=PAGE_SIZE)
            while after is not None:
                more, after = tenants.list_tenants(db, after=after, limit=PAGE_SIZE)
                shown += more
            _print(shown, as_json=options.json)
            return 0
        name = options.name
        if options.action == "delete":
            return _delete(settings, db, options)
        if options.action == "create":
            check_tenant_name(name)  # before it is in the log
        else:
            tenants.get_tenant(db, name)
        if options.action == "quota" and not quotas:
            _print([tenants.get_tenant(db, name)], as_json=options.json)
            return 0
        with log_act(db, name, f"tenants {options.action}", name):
            if options.action == "create":
                changed = tenants.create_tenant(db, name, Quotas(**quotas))
            elif options.action == "disable":
                changed = tenants.disable_tenant(db, name, has_token=has_token(settings))
            elif options.action == "enable":
                changed = tenants.enable_tenant(db, name)
            else:
                changed = tenants.set_quotas(db, name, quotas)
    _print([changed], as_json=options.json)
    return 0


def _delete(settings: Settings, db: Database, options: argparse.Namespace) -> int:
    name = options.name
    if not options.yes:
        print_line(
            f"tenants delete: this deletes all data of {name}; confirm with --yes", sys.stderr
        )
        return 2
    with log_act(db, None, "tenants delete", ""):  # an entry with its name would be left of it
        with suppress(NotFound):  # older jobs may be in a name that is no tenant
            tenants.disable_tenant(db, name, has_token=has_token(settings))
            time.sleep(WAIT_S)
        erased = erase_tenant(db, name, ArtifactStore.from_url(settings.artifacts_url))
    if options.json:
        print_json(asdict(erased))
        return 0
    print_line(
        f"deleted tenant {name}: {erased.audits:,} audits, {erased.jobs:,} jobs, "
        f"{erased.artifacts:,} artifacts of {erased.size:,} bytes"
    )
    if not erased.finished:
        print_line(
            "the reconciler removes the bytes that are left, and rewrites the job store's files",
            sys.stderr,
        )
    return 0


def _parse_quota(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError("give a number from 0, or `none` for no limit")
    return int(text)


def _print(shown: list[Tenant], *, as_json: bool) -> None:
    views: list[dict[str, Any]] = [serialize_tenant(tenant) for tenant in shown]
    if as_json:
        print_json(views)
        return
    header = ["tenant", "created", "disabled", *QUOTA_NAMES]
    print_table(
        header,
        [[v["name"], v["created_at"], v["disabled_at"], *v["quotas"].values()] for v in views],
    )
