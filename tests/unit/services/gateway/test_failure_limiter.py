"""Wrong keys per address."""

from __future__ import annotations

import pytest

from services.gateway import failure_limiter
from services.gateway.failure_limiter import FailureLimiter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_address_waits_for_the_rest_of_its_minute() -> None:
    clock = Clock()
    limiter = FailureLimiter(2, clock)
    for _ in range(2):
        assert limiter.find_retry_after_s("192.0.2.1") is None
        limiter.record("192.0.2.1")
    clock.now += 20.5
    assert limiter.find_retry_after_s("192.0.2.1") == 40
    assert limiter.find_retry_after_s("192.0.2.2") is None
    clock.now += 39.5
    assert limiter.find_retry_after_s("192.0.2.1") is None
    limiter.record("192.0.2.1")
    assert limiter.find_retry_after_s("192.0.2.1") is None  # a new minute has begun


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "", True),
        ("unix:", "", False),
    ],
)
def test_which_addresses_count_as_one(first: str, second: str, is_one: bool) -> None:
    limiter = FailureLimiter(1)
    limiter.record(first)
    assert (limiter.find_retry_after_s(second) is not None) is is_one


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_limiter, "MAX_ADDRESSES", 3)
    limiter = FailureLimiter(1)
    for n in range(10):
        limiter.record(f"192.0.2.{n}")
    blocked = [n for n in range(10) if limiter.find_retry_after_s(f"192.0.2.{n}")]
    assert blocked == [7, 8, 9]
