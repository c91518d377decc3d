"""Secrets that all processes of a gateway share, on whatever machine, across restarts."""

from __future__ import annotations

import secrets

from sqlalchemy import select

from shared.jobs.database import Database
from shared.jobs.tables import server_secrets


def load_secret(db: Database, name: str) -> str:
    """The secret of this name, 64 hexadecimal digits; the first that asks makes it."""
    query = select(server_secrets.c.value).where(server_secrets.c.name == name)
    with db.read() as connection:
        value = connection.execute(query).scalar_one_or_none()
    if value is None:
        with db.write() as connection:
            new = db.insert(server_secrets).values(name=name, value=secrets.token_hex(32))
            connection.execute(new.on_conflict_do_nothing())
            value = connection.execute(query).scalar_one()
    return str(value)
