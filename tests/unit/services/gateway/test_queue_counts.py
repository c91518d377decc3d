"""Counts of queues: new where counting is quick, a few seconds old where it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from services.gateway.queue_counts import Counts, QueueCountsCache
from shared.errors import TransientError
from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S


class Store:
    """Counts how often it was asked; answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def count(self) -> Counts:
        self.asked += 1
        self.open.wait()
        return {"attack": {"queued": self.asked}}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], QueueCountsCache]:
    """Counts to which every count takes long."""
    monkeypatch.setattr(QueueCountsCache, "CHEAP_S", 0.0)
    monkeypatch.setattr(QueueCountsCache, "MAX_THREAD_SHARE", 1e9)  # a new one is due at once
    return lambda store: QueueCountsCache(store.count)


def test_a_quick_count_is_made_for_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueCountsCache, "CHEAP_S", 60.0)
    store = Store()
    counts = QueueCountsCache(store.count)
    assert [counts.current().counts["attack"]["queued"] for _ in range(3)] == [1, 2, 3]


def test_nobody_waits_for_a_slow_count(slow: Callable[[Store], QueueCountsCache]) -> None:
    store = Store()
    counts = slow(store)
    assert counts.current().counts == {"attack": {"queued": 1}}
    store.open.clear()
    for _ in range(5):  # while the second is under way
        assert counts.current().counts == {"attack": {"queued": 1}}
    wait_for(lambda: store.asked == 2, TIMEOUT_S, "it is counted beside")
    store.open.set()
    wait_for(
        lambda: counts.current().counts["attack"]["queued"] > 1,
        TIMEOUT_S,
        "the new count is answered",
    )


def test_an_old_count_is_nobodys_answer(
    slow: Callable[[Store], QueueCountsCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    counts = slow(store)
    counts.current()
    monkeypatch.setattr(QueueCountsCache, "MAX_AGE_S", -1.0)
    assert counts.current().counts == {"attack": {"queued": 2}}


def test_a_store_that_is_away_is_told_to_who_has_no_count(
    slow: Callable[[Store], QueueCountsCache],
) -> None:
    def away() -> Counts:
        raise TransientError("the job store did not answer")

    with pytest.raises(TransientError):
        QueueCountsCache(away).current()
