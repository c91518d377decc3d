"""Which devices a worker sees, and what it does for a job on one of them. The GPUs are none."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from shared.jobs.database import Database
from shared.jobs.device_leases import lease_device, list_device_leases
from tests.support.fake_cuda import GIB, make_cuda
from tests.support.migrated import open_in_memory
from workers.attempt_state import AttemptState
from workers.devices import WorkerDevices, list_devices
from workers.usage import UsageMeter

SLICE = "MIG-9dd2a1ab-4f2b-5c0e-8f5e-0a0e7a5b6c77"


@pytest.fixture
def db() -> Iterator[Database]:
    made = open_in_memory()
    yield made
    made.close()


def _choose(db: Database, state: AttemptState, worker: str = "w") -> tuple[torch.device, str]:
    return WorkerDevices(db, worker, state, 45.0, list_devices()).choose(lambda call: call())


def test_without_cuda_jobs_run_on_the_cpu_and_lease_nothing(db: Database) -> None:
    assert list_devices() == []
    state = AttemptState.create()
    assert _choose(db, state) == (torch.device("cpu"), "cpu")
    assert state.read_device_fence() is None
    assert list_device_leases(db, 45.0) == []


def test_no_visible_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch, db: Database) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    make_cuda(monkeypatch)  # as torch shows it then
    assert _choose(db, AttemptState.create()) == (torch.device("cpu"), "cpu")


@pytest.mark.parametrize("visible", [None, "0,1", "1,0", "GPU-8932f937,GPU-d0e1"])
def test_devices_are_known_by_their_uuid_however_they_are_called(
    monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cuda = make_cuda(monkeypatch, "NVIDIA H100", "NVIDIA T4")
    assert [(d.id, d.index, d.kind, d.memory_bytes) for d in list_devices()] == [
        (f"GPU-{cuda.uuids[0]}", 0, "NVIDIA H100", 80 * GIB),
        (f"GPU-{cuda.uuids[1]}", 1, "NVIDIA T4", 80 * GIB),
    ]


def test_two_slices_of_one_gpu_are_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the driver gives the UUID of the whole GPU for each."""
    make_cuda(monkeypatch, "NVIDIA H100 MIG 1g.10gb")
    ids = []
    for name in (SLICE, f"MIG-GPU-{uuid.UUID(int=1)}/7/0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
        ids += [device.id for device in list_devices()]
    assert ids == [SLICE, f"MIG-GPU-{uuid.UUID(int=1)}/7/0"]


def test_a_device_without_a_uuid_is_known_by_host_and_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = make_cuda(monkeypatch, "some GPU")
    cuda.uuids = [uuid.UUID(int=0)]
    assert list_devices()[0].id == f"{socket.gethostname()}/0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert list_devices()[0].id == f"{socket.gethostname()}/3"


def test_a_job_computes_on_the_leased_device_and_the_lease_is_renewed(
    monkeypatch: pytest.MonkeyPatch, db: Database
) -> None:
    cuda = make_cuda(monkeypatch, "NVIDIA H100", "NVIDIA H100")
    lease_device(db, "other", "here", list_devices()[:1], 45.0)
    state = AttemptState.create()
    assert _choose(db, state) == (torch.device("cuda", 1), "NVIDIA H100")
    assert cuda.current == 1
    assert cuda.emptied == [0]  # what it had kept on the other one
    assert state.read_device_fence() == 1
    _choose(db, state)
    assert (state.read_device_fence(), cuda.emptied) == (2, [0])
    assert cuda.shares == {1: 1.0}


def test_a_job_has_the_share_of_one_holder_also_of_those_that_have_no_job_yet(
    monkeypatch: pytest.MonkeyPatch, db: Database
) -> None:
    cuda, state = make_cuda(monkeypatch, "NVIDIA H100"), AttemptState.create()
    WorkerDevices(db, "other", state, 45.0, list_devices()).announce()
    assert [lease.in_use for lease in list_device_leases(db, 45.0)] == [False]
    assert state.read_device_fence() == 1
    _choose(db, AttemptState.create())
    assert cuda.shares == {0: 0.5}


def test_progress_leaves_room_for_the_fence() -> None:
    state = AttemptState.create()
    state.write_device_fence(7)
    state.write_device_memory(5)
    for size in range(16300, 16390):
        state.heartbeat({"x": "y" * size})
    assert (state.read_device_fence(), state.read_device_memory()) == (7, 5)


def test_what_a_job_has_taken_of_its_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    make_cuda(monkeypatch, "NVIDIA H100")
    cost: Any = UsageMeter().read()
    assert cost.device_memory_bytes == 3 * GIB
