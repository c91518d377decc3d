"""Keys for tests, and a client that sends one."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import update

from shared.jobs import keys, tenants
from shared.jobs.database import Database
from shared.jobs.keys import READ, SUBMIT
from shared.jobs.tables import keys as keys_table
from tests.support.gateway import AuthenticatedClient


def make_key(db: Database, tenant: str, *scopes: str, lifetime_s: float | None = None) -> str:
    """The secret of a new key, by default of the scopes read and submit; the tenant is made too."""
    tenants.ensure_tenant(db, tenant)
    return keys.create_key(db, tenant, f"of {tenant}", scopes or (READ, SUBMIT), lifetime_s)[1]


def find_id(db: Database, secret: str) -> str:
    """The id of a key."""
    key = keys.find_key(db, digest=keys.compute_digest(secret))
    assert key is not None
    return key.id


def end_key(db: Database, secret: str) -> str:
    """The same key, whose time is up now."""
    with db.write() as connection:
        its = update(keys_table).where(keys_table.c.id == find_id(db, secret))
        connection.execute(its.values(expires_at=db.now - 1))
    return secret


def make_client(app: Flask, secret: str) -> AuthenticatedClient:
    """A client without cookies that sends this key."""
    return AuthenticatedClient(app.test_client(use_cookies=False), secret)
