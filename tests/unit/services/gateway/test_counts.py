"""Counts of queues: new where counting is quick, a few seconds old where it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from services.gateway.counts import Counts, QueueCounts
from shared.errors import TransientError
from tests.support.system import wait_for
from tests.support.waiting import PATIENCE


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
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], QueueCounts]:
    """Counts to which every count takes long."""
    monkeypatch.setattr(QueueCounts, "QUICK", 0.0)
    monkeypatch.setattr(QueueCounts, "SHARE", 1e9)  # a new one is due at once
    return lambda store: QueueCounts(store.count)


def test_a_quick_count_is_made_for_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueCounts, "QUICK", 60.0)
    store = Store()
    counts = QueueCounts(store.count)
    assert [counts.current().counts["attack"]["queued"] for _ in range(3)] == [1, 2, 3]


def test_nobody_waits_for_a_slow_count(slow: Callable[[Store], QueueCounts]) -> None:
    store = Store()
    counts = slow(store)
    assert counts.current().counts == {"attack": {"queued": 1}}
    store.open.clear()
    for _ in range(5):  # while the second is under way
        assert counts.current().counts == {"attack": {"queued": 1}}
    wait_for(lambda: store.asked == 2, PATIENCE, "it is counted beside")
    store.open.set()
    wait_for(lambda: counts.current().counts["attack"]["queued"] > 1, PATIENCE, "the new count is answered")


def test_an_old_count_is_nobodys_answer(slow: Callable[[Store], QueueCounts], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    counts = slow(store)
    counts.current()
    monkeypatch.setattr(QueueCounts, "OLD", -1.0)
    assert counts.current().counts == {"attack": {"queued": 2}}


def test_a_store_that_is_away_is_told_to_who_has_no_count(slow: Callable[[Store], QueueCounts]) -> None:
    def away() -> Counts:
        raise TransientError("the job store did not answer")

    with pytest.raises(TransientError):
        QueueCounts(away).current()
