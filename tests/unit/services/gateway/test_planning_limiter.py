"""One plans at a time, few wait, others come again."""

from __future__ import annotations

import threading

import pytest

from services.gateway.planning_limiter import PlanningLimiter
from shared.errors import TransientError
from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S


def test_one_at_a_time_and_all_who_wait_get_their_turn() -> None:
    turns, lock, inside, most = (
        PlanningLimiter("planning", max_waiting=8, max_wait_s=60),
        threading.Lock(),
        0,
        0,
    )
    refused: list[str] = []

    def take() -> None:
        nonlocal inside, most
        try:
            with turns.acquire():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
        except TransientError as error:
            refused.append(str(error))

    with turns.acquire():
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


def test_nobody_waits_longer_than_his_patience() -> None:
    turns = PlanningLimiter("planning", max_waiting=1, max_wait_s=0.01)
    with turns.acquire():
        for _ in range(3):
            with pytest.raises(TransientError, match=r"for 0\.01 s"), turns.acquire():
                pass
    with turns.acquire():
        pass


def test_who_fails_gives_the_turn_on() -> None:
    turns = PlanningLimiter("planning", max_waiting=0, max_wait_s=0.01)
    with pytest.raises(ZeroDivisionError), turns.acquire():
        _ = 1 / 0
    with turns.acquire():
        pass


def test_as_many_at_a_time_as_may() -> None:
    turns = PlanningLimiter("reading for", 2, max_waiting=0, max_wait_s=0.01)
    with turns.acquire():
        with (
            turns.acquire(),
            pytest.raises(TransientError, match="is reading for other requests"),
            turns.acquire(),
        ):
            pass
        with turns.acquire():
            pass
