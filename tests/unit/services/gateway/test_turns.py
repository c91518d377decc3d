"""One plans at a time, few wait, others come again."""

from __future__ import annotations

import threading

import pytest

from services.gateway.turns import Turns
from shared.errors import TransientError
from tests.support.system import wait_for
from tests.support.waiting import PATIENCE


def test_one_at_a_time_and_all_who_wait_get_their_turn() -> None:
    turns, lock, inside, most = Turns("planning", waiting=8, patience_s=60), threading.Lock(), 0, 0
    refused: list[str] = []

    def take() -> None:
        nonlocal inside, most
        try:
            with turns.turn():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
        except TransientError as error:
            refused.append(str(error))

    with turns.turn():
        threads = [threading.Thread(target=take) for _ in range(9)]
        for thread in threads:
            thread.start()
        wait_for(lambda: refused, PATIENCE, "one of nine is sent away at once")
        assert (most, refused) == (0, ["this gateway is planning other requests, and as many wait as may"])
    for thread in threads:
        thread.join()
    assert (most, len(refused)) == (1, 1)


def test_nobody_waits_longer_than_his_patience() -> None:
    turns = Turns("planning", waiting=1, patience_s=0.01)
    with turns.turn():
        for _ in range(3):
            with pytest.raises(TransientError, match=r"for 0\.01 s"), turns.turn():
                pass
    with turns.turn():
        pass


def test_who_fails_gives_the_turn_on() -> None:
    turns = Turns("planning", waiting=0, patience_s=0.01)
    with pytest.raises(ZeroDivisionError), turns.turn():
        _ = 1 / 0
    with turns.turn():
        pass


def test_as_many_at_a_time_as_may() -> None:
    turns = Turns("reading for", 2, waiting=0, patience_s=0.01)
    with turns.turn():
        with turns.turn(), pytest.raises(TransientError, match="is reading for other requests"), turns.turn():
            pass
        with turns.turn():
            pass
