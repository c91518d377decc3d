"""services.client.retry: what is sent again, when, and for how long."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from tenacity import AsyncRetrying, Retrying

from services.client import calls, errors, retry
from services.client.retry import RetryPolicy, may_send_again, network_errors

ONCE = calls.change_job("job_1", "retry")
REPEATABLE = calls.get_job("job_1")
FAILURES = (
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("cut"),
)


class Attempts:
    """Fails as given, one failure per attempt, then answers; the pauses in between pass at
    once."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.pauses_s: list[float] = []

    def attempt(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    async def attempt_async(self) -> str:
        return self.attempt()

    async def sleep_async(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)

    def retry(self, call: calls.Call[Any], retry_for_s: float = 60) -> str:
        options = RetryPolicy(retry_for_s).build_options(call)
        return Retrying(**options, sleep=self.pauses_s.append)(self.attempt)


def busy(status: int, retry_after_s: float = 0.0) -> errors.ApiError:
    return errors.ApiError(status, {}, retry_after_s)


def test_what_may_be_sent_twice_is_sent_again_with_growing_pauses():
    attempts = Attempts(*FAILURES, *FAILURES)
    assert attempts.retry(REPEATABLE) == "answer"
    assert attempts.pauses_s == pytest.approx([0.2, 0.4, 0.8, 1.6, 2, 2])


def test_asyncio_does_the_same():
    attempts = Attempts(*FAILURES)
    retrying = AsyncRetrying(
        **RetryPolicy(60).build_options(REPEATABLE), sleep=attempts.sleep_async
    )
    assert asyncio.run(retrying(attempts.attempt_async)) == "answer"
    assert attempts.pauses_s == pytest.approx([0.2, 0.4, 0.8])


def test_what_may_not_is_sent_again_only_if_it_never_left():
    assert Attempts(httpx.ConnectError("refused"), httpx.PoolTimeout("")).retry(ONCE) == "answer"
    attempts = Attempts(httpx.ReadError("cut"))
    with (
        pytest.raises(errors.Unreachable, match="http://x does not answer: cut"),
        network_errors("http://x"),
    ):
        attempts.retry(ONCE)
    assert attempts.pauses_s == []


@pytest.mark.parametrize("retry_for_s", [0, -1])
def test_the_policy_ends(retry_for_s):
    for failure, kind in (
        (httpx.ConnectError("refused"), httpx.ConnectError),
        (busy(503), errors.ApiError),
    ):
        attempts = Attempts(failure)
        with pytest.raises(kind):
            attempts.retry(REPEATABLE, retry_for_s)
        assert attempts.pauses_s == []


def test_a_busy_gateway_is_given_the_time_it_asks_for():
    attempts = Attempts(busy(503, 3), busy(503, 3000), busy(502), busy(504))
    assert attempts.retry(REPEATABLE) == "answer"
    assert attempts.pauses_s == pytest.approx([3, 5, 0.8, 1.6])


def test_a_quota_is_given_the_time_it_asks_for_however_short_the_policy():
    attempts = Attempts(busy(429, 42), busy(429, 60))
    assert attempts.retry(ONCE, retry_for_s=0.001) == "answer"
    assert attempts.pauses_s == [42, 60]


@pytest.mark.parametrize(("retry_for_s", "retry_after_s"), [(0, 42), (60, 61), (60, 0)])
def test_a_quota_is_not_waited_for(retry_for_s, retry_after_s):
    """By who does not wait, if it takes longer than a minute, and if time does not help."""
    attempts = Attempts(busy(429, retry_after_s))
    with pytest.raises(errors.ApiError):
        attempts.retry(REPEATABLE, retry_for_s)
    assert attempts.pauses_s == []


def test_a_quota_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(retry, "MAX_QUOTA_PAUSE_S", 0.02)

    def refuse() -> None:
        raise busy(429, 0.02)

    began = time.monotonic()
    with pytest.raises(errors.ApiError):
        Retrying(**RetryPolicy(0.001).build_options(REPEATABLE))(refuse)
    assert time.monotonic() - began < 10


def test_only_what_may_pass_is_tried_again():
    assert may_send_again(ONCE, busy(503))
    assert not may_send_again(ONCE, busy(502))  # who knows what happened behind the proxy
    for failure in (
        busy(409),
        busy(500),
        errors.AnswerTooLarge(),
        ValueError(),
        KeyboardInterrupt(),
    ):
        assert not may_send_again(REPEATABLE, failure)


def test_an_interrupt_is_not_held_up():
    attempts = Attempts(KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        attempts.retry(REPEATABLE)
