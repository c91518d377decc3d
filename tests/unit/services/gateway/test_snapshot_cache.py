"""Figures are new where reading them is quick, and old where it is not."""

from __future__ import annotations

import threading

import pytest

from services.gateway.queue_counts import Counts
from services.gateway.snapshot_cache import SnapshotCache
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


def make_slow(store: Store, max_age_s: float = TIMEOUT_S) -> SnapshotCache[Counts]:
    """A cache to which every count takes long, and for which a new one is due at once."""
    return SnapshotCache(
        "counts", store.count, 0.0, max_age_s=max_age_s, wait_s=0.0, max_share=1e9,
        first_wait_s=TIMEOUT_S,
    )  # fmt: skip


def test_a_quick_count_is_made_for_every_caller() -> None:
    store = Store()
    counts = SnapshotCache("counts", store.count, 0.0, wait_s=0.0, cheap_s=TIMEOUT_S)
    assert [counts.get_current().value["attack"]["queued"] for _ in range(3)] == [1, 2, 3]


def test_nobody_waits_for_a_slow_count() -> None:
    store = Store()
    counts = make_slow(store)
    assert counts.get_current().value == {"attack": {"queued": 1}}
    store.open.clear()
    for _ in range(5):  # while the second is under way
        assert counts.get_current().value == {"attack": {"queued": 1}}
    wait_for(lambda: store.asked == 2, TIMEOUT_S, "it is counted beside")
    store.open.set()
    wait_for(
        lambda: counts.get_current().value["attack"]["queued"] > 1,
        TIMEOUT_S,
        "the new count is answered",
    )


def test_an_old_count_is_nobodys_answer() -> None:
    store = Store()
    counts = make_slow(store, max_age_s=0.0)
    assert counts.find_current() is None  # it was old when it came
    store.open.clear()
    assert counts.find_current(wait_s=0.0) is None
    store.open.set()


def test_why_there_is_no_count_is_told() -> None:
    def away() -> Counts:
        raise TransientError("the job store did not answer")

    with pytest.raises(TransientError, match="the job store did not answer"):
        SnapshotCache("counts", away, 0.0).get_current()


def test_a_count_that_takes_too_long_is_no_answer() -> None:
    store = Store()
    store.open.clear()
    with pytest.raises(TransientError, match="counts could not be read in time"):
        SnapshotCache("counts", store.count, 0.0, first_wait_s=0.01).get_current()
    store.open.set()
