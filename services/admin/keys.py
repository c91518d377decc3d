"""`keys create|list|revoke`: manage the keys of the gateway. A new key is printed once, alone on
standard output."""

from __future__ import annotations

import argparse
import re
import sys

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
from services.gateway.access_schemas import serialize_key
from shared.config import load_settings
from shared.errors import NotFound
from shared.jobs import keys, tenants
from shared.jobs.database import Database
from shared.jobs.keys import KEY_ID, READ, SCOPES, SUBMIT, Key

PAGE_SIZE = 200
_UNITS_S = {"m": 60, "h": 3600, "d": 24 * 3600}


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("keys", help=__doc__.partition(": ")[2])
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="create a key, and print it")
    create.add_argument("--tenant", required=True, help="the tenant that the key belongs to")
    create.add_argument("--label", default="", help="what it is for, up to 100 characters")
    create.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        help="what it may do; may be repeated; default: read and submit",
    )
    create.add_argument(
        "--expires",
        type=parse_lifetime,
        metavar="TIME",
        help="how long it is valid, such as 30m, 12h or 90d; default: forever",
    )
    listing = actions.add_parser("list", help="list keys, newest first, without their secrets")
    listing.add_argument("--tenant", help="only keys of this tenant")
    revoke = actions.add_parser("revoke", help="revoke a key permanently")
    revoke.add_argument("key", metavar="KEY_ID", help="key_...")
    for one in (create, listing, revoke):
        one.set_defaults(run=run)
        add_json_option(one)


def run(options: argparse.Namespace) -> int:
    settings = load_settings()
    with open_store(settings) as db:
        if options.action == "create":
            _create(db, options)
        elif options.action == "list":
            _print(_list_all(db, options.tenant), as_json=options.json)
        else:
            if not KEY_ID.fullmatch(options.key):
                raise NotFound(
                    "a key's id is key_ and 20 hexadecimal digits: see `python -m services.admin keys list`"
                )
            key = keys.get_key(db, options.key)
            with log_act(db, key.tenant, "keys revoke", key.id):
                key = keys.revoke_key(db, key.id, has_token=has_token(settings))
            _print([key], as_json=options.json)
    return 0


def _create(db: Database, options: argparse.Namespace) -> None:
    tenant = tenants.get_tenant(db, options.tenant).name
    scopes = options.scope or [READ, SUBMIT]
    with log_act(db, tenant, "keys create") as subjects:
        key, secret = keys.create_key(db, tenant, options.label, scopes, options.expires)
        subjects.append(key.id)
    if options.json:
        print_json({**serialize_key(key), "key": secret})
        return
    print_line(secret)
    until = f"until {serialize_key(key)['expires_at']}" if key.expires_at else "without expiry"
    print_line(
        f"{key.id} of tenant {tenant}, scopes {' '.join(sorted(key.scopes))}, {until}: keep it, it "
        "is not shown again. Clients read it from PALIMPSEST_TOKEN.",
        sys.stderr,
    )


def parse_lifetime(text: str) -> float:
    """Seconds of `30m`, `12h` or `90d`.

    Raises:
        argparse.ArgumentTypeError: the text has another form.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if not match:
        raise argparse.ArgumentTypeError("give a number of minutes, hours or days: 30m, 12h, 90d")
    return float(int(match[1]) * _UNITS_S[match[2]])


def _list_all(db: Database, tenant: str | None) -> list[Key]:
    page = keys.list_keys(db, tenant=tenant, limit=PAGE_SIZE)
    listed = page.items
    while page.next is not None:
        page = keys.list_keys(db, tenant=tenant, limit=PAGE_SIZE, page=page.next)
        listed += page.items
    return listed


def _print(shown: list[Key], *, as_json: bool) -> None:
    views = [serialize_key(key) for key in shown]
    if as_json:
        print_json(views)
        return
    header = ["key", "tenant", "label", "scopes", "state", "created", "expires", "last used"]
    print_table(
        header,
        [
            [
                v["id"], v["tenant"], v["label"], " ".join(v["scopes"]), v["state"],
                v["created_at"], v["expires_at"], v["last_used_at"],
            ]
            for v in views
        ],
    )  # fmt: skip
