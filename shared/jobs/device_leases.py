"""Which worker computes on which accelerator: workers of one host spread over its devices.

A worker leases a device for each job, in one transaction that sees what the others have: the device
on which the fewest others compute; of those the one that the fewest others hold; of those its own.
With more workers than devices several share one. A lease is renewed with the worker's heartbeat,
goes with the worker's row, and runs out when neither happens.

The fence of a lease is that of one job. Who holds an older one renews nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from shared.jobs.database import Database
from shared.jobs.locks import lock_name
from shared.jobs.tables import device_leases, workers


@dataclass(frozen=True)
class Device:
    """An accelerator as a process sees it.

    `id` is the same in every process and container that sees it, `index` only counts within this
    process. `kind` is its name, which results depend on.
    """

    id: str
    index: int
    kind: str
    memory_bytes: int


@dataclass(frozen=True)
class DeviceLease:
    """The device that a worker computes on, and how many workers hold it, this one too."""

    device: Device
    fence: int
    holders: int


@dataclass(frozen=True)
class LeasedDevice:
    """A lease as others see it."""

    id: str
    host: str
    kind: str
    memory_bytes: int
    worker: str
    in_use: bool  # its worker has a job; otherwise it only keeps the device warm


def lease_device(
    db: Database,
    worker: str,
    host: str,
    devices: Sequence[Device],
    lease_s: float,
    *,
    in_use: bool = True,
) -> DeviceLease:
    """Lease one of `devices` for the worker's next job, in the place of the lease that it has.

    Args:
        devices: those that the worker can see, at least one.
        lease_s: how long the lease holds without a renewal.
        in_use: the worker has a job; one that starts has none yet.

    Raises:
        TransientError: the job store is unavailable; the worker has no lease for this job.
    """

    def lease(connection: Connection) -> DeviceLease:
        # two that look at the same moment would take the same device
        lock_name(db, connection, "device leases")
        own = connection.execute(
            select(device_leases).where(device_leases.c.worker == worker)
        ).one_or_none()
        query = select(device_leases.c.device, device_leases.c.in_use).where(
            device_leases.c.worker != worker,
            device_leases.c.device.in_([device.id for device in devices]),
            _holds(db, lease_s),
        )
        others = [(row.device, row.in_use) for row in connection.execute(query)]
        device = _choose(devices, others, None if own is None else own.device)
        fence = 1 if own is None else own.fence + 1
        row: dict[str, Any] = {
            "host": host,
            "device": device.id,
            "kind": device.kind,
            "memory_bytes": device.memory_bytes,
            "in_use": in_use,
            "fence": fence,
            "lease_until": db.now + lease_s,
        }
        statement = db.insert(device_leases).values(worker=worker, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=["worker"], set_=row))
        # what its jobs will cost is estimated from past jobs on this kind of device
        connection.execute(
            update(workers)
            .where(workers.c.id == worker, workers.c.device != device.kind)
            .values(device=device.kind)
        )
        holders = 1 + sum(device_id == device.id for device_id, _ in others)
        return DeviceLease(device, fence, holders)

    return db.run_transaction(lease)


def _choose(
    devices: Sequence[Device], others: Sequence[tuple[str, bool]], own: str | None
) -> Device:
    """The least used device. What is equal is decided by memory and by number, so that all workers
    of a host decide alike.

    Args:
        others: the device of each other worker, and whether it has a job.
        own: the device that the worker has.
    """

    def rate(device: Device) -> tuple[int, int, bool, int, int]:
        uses = [in_use for device_id, in_use in others if device_id == device.id]
        return sum(uses), len(uses), device.id != own, -device.memory_bytes, device.index

    return min(devices, key=rate)


def renew_device_lease(db: Database, worker: str, fence: int, in_use: bool, lease_s: float) -> bool:
    """Renew the lease that this fence holds. False if it holds none any more, or a newer fence does.

    One that has run out is renewed too: its worker slept, or the job store was away, and it still
    computes there. Others that came to the device meanwhile share it.
    """
    query = (
        update(device_leases)
        .where(device_leases.c.worker == worker, device_leases.c.fence == fence)
        .values(lease_until=db.now + lease_s, in_use=in_use)
    )
    return bool(db.run_transaction(lambda connection: connection.execute(query).rowcount))


def list_device_leases(db: Database, lease_s: float) -> list[LeasedDevice]:
    """Every lease that holds, by host and device."""
    query = (
        select(device_leases)
        .where(_holds(db, lease_s))
        .order_by(device_leases.c.host, device_leases.c.device, device_leases.c.worker)
    )
    with db.read() as connection:
        return [
            LeasedDevice(r.device, r.host, r.kind, r.memory_bytes, r.worker, r.in_use)
            for r in connection.execute(query)
        ]


def _holds(db: Database, lease_s: float) -> ColumnElement[bool]:
    """Not run out. One that ends later than a lease can is from before the clock was set back."""
    return device_leases.c.lease_until.between(db.now, db.now + 2 * lease_s)
