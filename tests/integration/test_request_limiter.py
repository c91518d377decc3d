"""Requests are counted in Redis by all processes together, and by each alone while it is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway import request_limiter
from services.gateway.request_limiter import RequestLimiter
from tests.support.servers import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


def test_processes_count_together(redis_server, monkeypatch):
    monkeypatch.setattr(request_limiter, "RETRY_REDIS_AFTER_S", 0.0)
    first, second = (RequestLimiter.from_url(redis_server.url) for _ in range(2))
    remaining = [one.count("alice", 3).remaining for one in (first, second, first)]
    assert remaining == [2, 1, 0]
    assert second.count("alice", 3).is_exceeded
    assert not second.count("bob", 3).is_exceeded
    redis_server.kill()
    alone = [second.count("alice", 3) for _ in range(4)]
    assert [one.is_exceeded for one in alone] == [False, False, False, True]
    assert first.count("alice", 3).remaining == 2  # each for itself
    redis_server.start()
    assert first.count("carol", 2).remaining == 1
    assert second.count("carol", 2).remaining == 0


def test_a_redis_that_is_away_is_not_asked_every_time(redis_server):
    now = [0.0]
    limiter = RequestLimiter.from_url(redis_server.url)
    limiter._clock = lambda: now[0]
    redis_server.kill()
    limiter.count("alice", 9)
    redis_server.start()
    other = RequestLimiter.from_url(redis_server.url)
    limiter.count("alice", 9)
    assert other.count("alice", 9).remaining == 8  # the limiter has not asked Redis again
    now[0] += request_limiter.RETRY_REDIS_AFTER_S
    assert limiter.count("alice", 9).remaining == 7
