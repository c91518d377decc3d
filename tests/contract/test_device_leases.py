"""Workers spread over the accelerators of their host, and give up what they do not use."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from shared.jobs import worker_registry
from shared.jobs.device_leases import (
    Device,
    DeviceLease,
    lease_device,
    list_device_leases,
    renew_device_lease,
)
from shared.jobs.tables import device_leases
from tests.support.job_store import STAGE, JobStore, run_together

LEASE_S = 45.0
GPUS = [Device(f"GPU-{n}", n, "NVIDIA H100", 80 << 30) for n in range(4)]


def _register(store: JobStore, *names: str, device: str = "NVIDIA H100") -> None:
    for name in names:
        worker_registry.register_worker(
            store.db, name, host="here", pid=7, stages=(STAGE,), device=device, threads=2,
            versions={}, catalog="c",
        )  # fmt: skip


def _lease(store: JobStore, worker: str, devices: list[Device] = GPUS[:2]) -> DeviceLease:
    return lease_device(store.db, worker, "here", devices, LEASE_S)


def _index(store: JobStore, worker: str, devices: list[Device] = GPUS[:2]) -> int:
    return _lease(store, worker, devices).device.index


def _renew(store: JobStore, worker: str, fence: int, in_use: bool) -> None:
    renew_device_lease(store.db, worker, fence, in_use, LEASE_S)


def _holders(store: JobStore) -> dict[str, tuple[str, bool]]:
    return {one.worker: (one.id, one.in_use) for one in list_device_leases(store.db, LEASE_S)}


def _move_end(store: JobStore, worker: str, seconds: float) -> None:
    with store.db.write() as connection:
        connection.execute(
            update(device_leases)
            .where(device_leases.c.worker == worker)
            .values(lease_until=store.db.now + seconds)
        )


def test_each_worker_has_a_device_of_its_own_while_there_are_enough(store: JobStore) -> None:
    assert [_index(store, worker) for worker in ("a", "b")] == [0, 1]


def test_more_workers_than_devices_share_them_evenly(store: JobStore) -> None:
    assert [_index(store, worker) for worker in "abcde"] == [0, 1, 0, 1, 0]


def test_workers_that_ask_at_the_same_moment_get_different_devices(store: JobStore) -> None:
    leases = run_together(*[lambda w=w: _index(store, w, GPUS) for w in "abcd"])
    assert sorted(leases) == [0, 1, 2, 3]


def test_a_worker_stays_on_its_device_and_has_another_fence_for_each_job(store: JobStore) -> None:
    _lease(store, "a")
    first, second = _lease(store, "b"), _lease(store, "b")
    assert (first.device.index, second.device.index) == (1, 1)
    assert second.fence == first.fence + 1


def test_a_worker_leaves_a_shared_device_for_a_free_one(store: JobStore) -> None:
    _register(store, *"abc")
    assert [_index(store, worker) for worker in "abc"] == [0, 1, 0]
    worker_registry.unregister_worker(store.db, "b")
    assert _index(store, "c") == 1
    assert [_index(store, worker) for worker in "ac"] == [0, 1]  # and there they stay


def test_those_who_compute_count_before_those_who_wait(store: JobStore) -> None:
    _register(store, *"abcd")
    fences = {worker: _lease(store, worker).fence for worker in "abc"}
    _renew(store, "a", fences["a"], in_use=False)
    _renew(store, "c", fences["c"], in_use=False)
    # two wait on device 0, one computes on device 1
    assert _holders(store) == {"a": ("GPU-0", False), "b": ("GPU-1", True), "c": ("GPU-0", False)}
    assert _index(store, "d") == 0


def test_larger_memory_decides_between_devices_that_nobody_uses(store: JobStore) -> None:
    devices = [Device("GPU-a", 0, "T4", 16 << 30), Device("GPU-b", 1, "A100", 80 << 30)]
    _register(store, "a", device="T4")
    assert _index(store, "a", devices) == 1
    (worker,) = worker_registry.list_workers(store.db)
    assert worker.device == "A100"  # what its jobs' costs are recorded for


def test_a_container_sees_the_leases_of_another_on_the_same_device(store: JobStore) -> None:
    lease_device(store.db, "a", "container-1", GPUS[:2], LEASE_S)
    assert lease_device(store.db, "b", "container-2", GPUS[:2], LEASE_S).device.index == 1
    # where each sees one slice there is nothing to choose
    slices = [Device(f"MIG-{n}", 0, "H100 MIG 1g.10gb", 10 << 30) for n in range(2)]
    assert [_lease(store, f"m{n}", [one]).device.id for n, one in enumerate(slices)] == [
        "MIG-0",
        "MIG-1",
    ]


def test_the_device_of_a_killed_worker_is_free_once_its_lease_has_run_out(store: JobStore) -> None:
    for worker in "ab":
        _lease(store, worker)
    _move_end(store, "a", -0.5)  # nobody renews it
    assert _index(store, "c") == 0
    assert set(_holders(store)) == {"b", "c"}


def test_a_lease_from_before_the_clock_was_set_back_is_none(store: JobStore) -> None:
    _lease(store, "a")
    _move_end(store, "a", 3600)
    assert _index(store, "b") == 0


def test_a_machine_that_slept_goes_on_and_shares_what_others_have_taken(store: JobStore) -> None:
    _register(store, "a", "b")
    fence = _lease(store, "a").fence
    _move_end(store, "a", -1000)
    assert _index(store, "b", GPUS[:1]) == 0
    assert set(_holders(store)) == {"b"}
    _renew(store, "a", fence, in_use=True)
    assert _holders(store) == {"a": ("GPU-0", True), "b": ("GPU-0", True)}
    assert _index(store, "a") == 1  # but not for its next job


def test_an_old_fence_renews_nothing(store: JobStore) -> None:
    """The lease process of a child that was killed may wake up after its successor has begun."""
    _register(store, "a")
    old = _lease(store, "a").fence
    assert _lease(store, "a").fence > old
    _move_end(store, "a", -1)
    _renew(store, "a", old, in_use=True)
    assert _holders(store) == {}


def test_who_has_no_device_renews_none(store: JobStore) -> None:
    _register(store, "a")
    _renew(store, "a", 1, in_use=True)
    assert _holders(store) == {}


@pytest.mark.parametrize("forgotten", ["unregistered", "unseen"])
def test_a_lease_goes_with_its_worker(store: JobStore, forgotten: str) -> None:
    _register(store, "a")
    _lease(store, "a")
    if forgotten == "unregistered":
        worker_registry.unregister_worker(store.db, "a")
    else:
        with store.db.write() as connection:
            connection.exec_driver_sql("UPDATE workers SET seen_at = 1")
        _register(store, "b")
    with store.db.read() as connection:
        assert connection.execute(select(device_leases)).all() == []
