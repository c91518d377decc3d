"""How long a key is remembered, and which are forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.gateway import key_cache
from services.gateway.key_cache import CACHE_S, KeyCache
from shared.jobs import keys
from tests.support.keys import end_key, find_id, make_key
from tests.support.migrated import open_migrated


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_revoked_key_is_remembered_for_seconds_only(tmp_path: Path) -> None:
    db, clock = open_migrated(tmp_path / "p.db"), Clock()
    cache, secret = KeyCache(db, clock), make_key(db, "acme")
    assert not cache.is_known(secret)
    by_secret, by_id = cache.find_by_secret(secret), cache.find_by_id(find_id(db, secret))
    assert by_secret is not None
    assert by_id is not None
    assert by_secret.is_valid
    assert by_id.is_valid
    keys.revoke_key(db, by_id.id, has_token=True)
    clock.now = CACHE_S - 0.01
    assert cache.find_by_secret(secret) == by_secret
    clock.now = CACHE_S + 0.01
    for found_key in (cache.find_by_secret(secret), cache.find_by_id(by_id.id)):
        assert found_key is not None
        assert found_key.state == "revoked"
    assert not cache.is_known(secret)
    db.close()


def test_a_key_is_not_remembered_longer_than_it_lives(tmp_path: Path) -> None:
    db, clock = open_migrated(tmp_path / "p.db"), Clock()
    cache, secret = KeyCache(db, clock), make_key(db, "acme", lifetime_s=60)
    assert cache.find_by_secret(secret)
    clock.now = CACHE_S + 1
    end_key(db, secret)
    found_key = cache.find_by_secret(secret)
    assert found_key is not None
    assert found_key.state == "expired"
    db.close()


def test_what_is_not_valid_is_not_remembered_and_the_rest_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "MAX_KEYS", 2)
    db = open_migrated(tmp_path / "p.db")
    cache = KeyCache(db)
    assert cache.find_by_secret(f"pal_{'x' * 43}") is None
    secrets = [make_key(db, "acme") for _ in range(3)]
    for secret in secrets:
        cache.find_by_secret(secret)
    assert [cache.is_known(secret) for secret in secrets] == [False, True, True]
    assert not cache.is_known(f"pal_{'x' * 43}")
    db.close()
