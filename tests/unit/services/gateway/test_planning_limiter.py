"""One request plans at a time, a few wait, others are refused."""

from __future__ import annotations

import threading

import pytest

from services.gateway.planning_limiter import PlanningLimiter
from shared.errors import TransientError
from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S


def test_one_request_runs_at_a_time_and_those_that_wait_follow() -> None:
    limiter, lock, inside, most = (
        PlanningLimiter("planning", max_waiting=8, max_wait_s=60),
        threading.Lock(),
        0,
        0,
    )
    refused: list[str] = []

    def take() -> None:
        nonlocal inside, most
        try:
            with limiter.acquire():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
        except TransientError as error:
            refused.append(str(error))

    with limiter.acquire():
        threads = [threading.Thread(target=take) for _ in range(9)]
        for thread in threads:
            thread.start()
        wait_for(lambda: refused, TIMEOUT_S, "one of nine is sent away at once")
        assert (most, refused) == (
            0,
            ["the gateway is busy planning other requests, and its queue is full"],
        )
    for thread in threads:
        thread.join()
    assert (most, len(refused)) == (1, 1)


def test_nobody_waits_longer_than_the_limit() -> None:
    limiter = PlanningLimiter("planning", max_waiting=1, max_wait_s=0.01)
    with limiter.acquire():
        for _ in range(3):
            with pytest.raises(TransientError, match=r"for 0\.01 s"), limiter.acquire():
                pass
    with limiter.acquire():
        pass


def test_a_failure_releases_the_limiter() -> None:
    limiter = PlanningLimiter("planning", max_waiting=0, max_wait_s=0.01)
    with pytest.raises(ZeroDivisionError), limiter.acquire():
        _ = 1 / 0
    with limiter.acquire():
        pass


def test_two_run_at_a_time_where_two_may() -> None:
    limiter = PlanningLimiter("reading files for", 2, max_waiting=0, max_wait_s=0.01)
    with limiter.acquire():
        with (
            limiter.acquire(),
            pytest.raises(TransientError, match="is busy reading files for other requests"),
            limiter.acquire(),
        ):
            pass
        with limiter.acquire():
            pass
