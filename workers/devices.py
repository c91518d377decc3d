"""The accelerators that this process can see, and the one that each of its jobs computes on.

A device is chosen in the pool child, for one job at a time (`shared.jobs.device_leases` has the
rule). A worker that sees none computes on the CPU, and asks nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

import torch

from shared.jobs.database import Database
from shared.jobs.device_leases import Device, DeviceLease, lease_device
from workers.attempt_state import AttemptState

CPU = "cpu"
MIG_PREFIX = "MIG-"  # of a slice of a GPU in CUDA_VISIBLE_DEVICES

Wait = Callable[[Callable[[], DeviceLease]], DeviceLease]


def list_devices() -> list[Device]:
    """What CUDA shows to this process: it follows CUDA_VISIBLE_DEVICES, be it indexes, UUIDs, a MIG
    slice or nothing. Empty without CUDA."""
    if not torch.cuda.is_available():
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [
        _describe_device(index, named[index] if index < len(named) else "")
        for index in range(torch.cuda.device_count())
    ]


def _describe_device(index: int, name: str) -> Device:
    """`name`: how CUDA_VISIBLE_DEVICES calls it."""
    properties = torch.cuda.get_device_properties(index)
    uuid = str(getattr(properties, "uuid", "")).removeprefix("GPU-")
    if name.startswith(MIG_PREFIX):
        # of a slice some drivers give the UUID of the whole GPU, which its neighbours have too
        device_id = name
    elif uuid.strip("0-"):
        device_id = uuid if uuid.startswith(MIG_PREFIX) else f"GPU-{uuid}"
    else:
        device_id = f"{socket.gethostname()}/{name if name.isdecimal() else index}"
    return Device(device_id, index, properties.name, properties.total_memory)


class WorkerDevices:
    """The devices of one worker.

    Args:
        state: through which the lease process learns what to renew.
        lease_s: how long a lease holds without a renewal.
    """

    def __init__(
        self,
        db: Database,
        worker: str,
        state: AttemptState,
        lease_s: float,
        devices: Sequence[Device],
    ) -> None:
        self._db, self._worker, self._state, self._lease_s = db, worker, state, lease_s
        self._devices = devices

    def announce(self) -> None:
        """Take a device before there is a job, so that others leave their share of its memory."""
        if self._devices:
            self._state.write_device_fence(self._lease(in_use=False).fence)

    def choose(self, wait: Wait) -> tuple[torch.device, str]:
        """The device for the next job, and its kind; what has no index of its own goes there too.

        The job may take as much of its memory as each of those who hold it.

        Args:
            wait: calls what it is given until the job store answers.
        """
        if not self._devices:
            return torch.device(CPU), CPU
        lease = wait(lambda: self._lease(in_use=True))
        self._state.write_device_fence(lease.fence)
        index = lease.device.index
        if index != torch.cuda.current_device():
            # what this process keeps there for its next job is in the way of those who stay
            torch.cuda.empty_cache()
            torch.cuda.set_device(index)
        torch.cuda.set_per_process_memory_fraction(1 / lease.holders, index)
        return torch.device("cuda", index), lease.device.kind

    def _lease(self, *, in_use: bool) -> DeviceLease:
        return lease_device(
            self._db,
            self._worker,
            socket.gethostname(),
            self._devices,
            self._lease_s,
            in_use=in_use,
        )
