"""Cookies of browsers: which gateway accepts which, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.gateway.sessions import SESSION_S, KeySessions
from shared.jobs.database import Database
from tests.support.migrated import open_in_memory

KEY = "key_" + "0" * 20
NOW = 1_800_000_000.0


@pytest.fixture
def db() -> Iterator[Database]:
    db = open_in_memory()
    yield db
    db.close()


@pytest.mark.parametrize("ahead_s", [-90.0, 0.0, 90.0])
def test_gateways_whose_clocks_differ_accept_each_others_cookies(
    db: Database, ahead_s: float
) -> None:
    value = KeySessions(db, lambda: NOW + ahead_s).sign(KEY)
    assert KeySessions(db, lambda: NOW).read(value) == KEY


def test_a_cookie_ends(db: Database) -> None:
    value = KeySessions(db, lambda: NOW).sign(KEY)
    assert KeySessions(db, lambda: NOW + SESSION_S - 1).read(value) == KEY
    assert KeySessions(db, lambda: NOW + SESSION_S).read(value) is None


def test_no_other_value_is_accepted(db: Database) -> None:
    sessions = KeySessions(db)
    value = sessions.sign(KEY)
    wrong = ("", "x", "a.b", value[:-1], value + "A", "A" + value, value.replace(".", ".."))
    for one in (*wrong, sessions.sign("somebody"), "x." * 300):
        assert sessions.read(one) is None, one
