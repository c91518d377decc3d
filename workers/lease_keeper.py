"""The loop of the lease process: renews the lease, reports progress, passes signals on, and watches
the pool child.

It ends the attempt when the child has died, has stalled, exceeds its memory limit, or does not stop
when asked. What it cannot write to SQL at once it retries for a day.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars

from shared.config import Settings
from shared.errors import FencedOut, TransientError
from shared.jobs import attempts, worker_registry
from shared.jobs.database import Database
from shared.jobs.device_leases import renew_device_lease
from shared.jobs.records import WorkerMemory
from shared.jobs.states import Failure, Stop
from workers.attempt_state import AttemptState, ControlSignal
from workers.memory import MemoryWatch, read_usage
from workers.stall import StallDetector
from workers.store_wait import RECORD_TIMEOUT_S

log = structlog.get_logger()


@dataclass
class HeldLease:
    """The lease of the job that the child runs now."""

    number: int
    job: str
    fence: int
    stall_detector: StallDetector
    time_limit: float | None  # seconds
    started_at: float  # by the monotonic clock, which all processes of a machine share
    signalled_at: float | None = None  # when the signal to stop was sent
    stop: str | None = None

    def is_overdue(self) -> bool:
        """Whether its time limit is over. By the monotonic clock: SQL's may step by an hour."""
        return self.time_limit is not None and time.monotonic() - self.started_at > self.time_limit


class LeaseKeeper:
    """Serves one pool child.

    Args:
        registration: what the child registered its worker with, to register it again should its
            row be gone.
        on_turn: called after every turn; a process that hangs does not call it.
    """

    def __init__(
        self, settings: Settings, db: Database, state: AttemptState, worker: str, child_pid: int, *,
        registration: Mapping[str, Any] | None = None, on_turn: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.settings, self.db, self.state, self.worker, self.child_pid = (
            settings,
            db,
            state,
            worker,
            child_pid,
        )
        self.registration, self.on_turn = registration, on_turn
        self.held_lease: HeldLease | None = None
        self.memory_watch = MemoryWatch(
            child_pid, settings.memory_limit_bytes, self._get_lease_number, self.kill_child
        )

    def _get_lease_number(self) -> int | None:
        lease = self.held_lease
        return lease.number if lease else None

    def serve(self, command_fd: int) -> None:
        """Serve until `command_fd` closes."""
        self.memory_watch.start()
        buffer, next_tick_at = b"", time.monotonic()
        while True:
            ready, _, _ = select.select(
                [command_fd], [], [], max(0.0, next_tick_at - time.monotonic())
            )
            if ready:
                data = os.read(command_fd, 65536)
                if not data:
                    return self.handle_child_exit()
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self.handle_command(json.loads(line))
            if time.monotonic() >= next_tick_at:
                next_tick_at = time.monotonic() + self.settings.lease_renew_s
                try:
                    self.tick()
                except TransientError as error:
                    log.warning(
                        "lease not renewed; trying again", error=str(error), worker=self.worker
                    )
                self.on_turn()

    def handle_command(self, command: dict[str, Any]) -> None:
        """Take one command from the child."""
        clear_contextvars()
        if "lease" in command:
            bind_contextvars(worker=self.worker, **command.get("log_fields", {}))
            stall_detector = StallDetector(
                self.child_pid,
                command["stall_timeout_s"],
                max_gap_s=4 * self.settings.lease_renew_s,
            )
            self.held_lease = HeldLease(
                command["lease"],
                command["job"],
                command["fence"],
                stall_detector,
                command["time_limit"],
                command["started_at"],
            )
        elif self.held_lease is not None and command["release"] == self.held_lease.number:
            self.held_lease = None

    def tick(self) -> None:
        """One round: look after the attempt, and renew the lease of the device, if any."""
        self.look_after_attempt()
        fence = self.state.read_device_fence()
        if fence is not None:
            in_use = self.held_lease is not None
            renew_device_lease(self.db, self.worker, fence, in_use, self.settings.lease_s)

    def look_after_attempt(self) -> None:
        """Renew the lease, or end the attempt; without one, only record that the worker lives."""
        if self.held_lease is not None:
            self.held_lease.stall_detector.update(
                self.state.heartbeat_count(), self.state.is_waiting()
            )
        lease = self.held_lease
        if lease is None:
            self.register_again_unless(self.record_heartbeat())
            return
        if (
            reason := lease.stall_detector.stall_reason()
            or lease.stall_detector.wait_timeout_reason()
        ):
            self.record_heartbeat()
            return self.kill_stalled(
                lease, reason, charged=lease.stall_detector.stall_reason() is not None
            )
        if (
            lease.signalled_at is not None
            and time.monotonic() - lease.signalled_at > self.settings.stop_grace_s
        ):
            self.record_heartbeat()
            return self.kill_unresponsive(lease)
        # the heartbeat goes with the renewal: a fleet of busy workers sends half as much
        flags = attempts.renew_lease(
            self.db,
            lease.job,
            lease.fence,
            self.settings.lease_s,
            self.state.read_progress(),
            self.read_memory(),
        )
        if flags is None:
            self.state.send_signal(lease.number, ControlSignal.LOST)
            self.held_lease = None
            return
        self.register_again_unless(flags.drain is not None)
        stop = (
            Stop.CANCEL
            if flags.stop == Stop.CANCEL
            else Stop.TIMEOUT
            if lease.is_overdue()
            else None
        )
        if stop is not None:
            lease.stop, lease.signalled_at = stop, lease.signalled_at or time.monotonic()
            self.state.send_signal(
                lease.number, ControlSignal.CANCEL if stop == Stop.CANCEL else ControlSignal.TIMEOUT
            )
        elif flags.drain:
            self.state.send_signal(lease.number, ControlSignal.DRAIN)

    def read_memory(self) -> WorkerMemory:
        """What memory the worker has."""
        usage = read_usage(self.child_pid)
        return WorkerMemory(
            None if usage is None else usage.used_bytes, self.state.read_device_memory()
        )

    def record_heartbeat(self) -> bool:
        """Record that the worker is alive; returns whether it is registered."""
        memory = self.read_memory()
        drain = worker_registry.record_heartbeat(
            self.db,
            self.worker,
            memory_bytes=memory.used_bytes,
            device_memory_bytes=memory.device_bytes,
        )
        return drain is not None

    def register_again_unless(self, is_registered: bool) -> None:
        """A worker whose machine slept for an hour was forgotten, and would get no wake-ups."""
        if not is_registered and self.registration is not None and self.is_child_alive():
            worker_registry.register_worker(self.db, self.worker, **self.registration)

    def kill_stalled(self, lease: HeldLease, reason: str, *, charged: bool) -> None:
        """Kill a stalled child and queue its job again; not counted as lost (`charged`) if it
        waited for a store."""
        log.error("killing a stalled attempt", job=lease.job, why=reason)
        self.kill_child()
        self.held_lease = None
        if charged:
            self.report_lost(lease, reason)
        else:
            pause_s = self.settings.retry_backoff_s
            self.record_end(
                lease,
                lambda: attempts.requeue_attempt(self.db, lease.job, lease.fence, reason, pause_s),
            )

    def kill_unresponsive(self, lease: HeldLease) -> None:
        """Kill a child that does not stop, and record the end that it should have recorded."""
        log.warning("an attempt did not stop in time; killing it", job=lease.job, stop=lease.stop)
        self.kill_child()
        self.held_lease = None
        if lease.stop == Stop.CANCEL:
            self.record_end(lease, lambda: attempts.cancel_attempt(self.db, lease.job, lease.fence))
        else:
            self.report_failed(
                lease, Failure.TIMEOUT, "the time limit was reached: raise time_limit"
            )

    def handle_child_exit(self) -> None:
        """The pipe has closed. A child that ends normally has released its lease before."""
        lease, self.held_lease = self.held_lease, None
        if lease is None:
            return
        if reason := self.memory_watch.explain_death():
            log.error("an attempt ran out of memory", job=lease.job, why=reason)
            self.report_failed(lease, Failure.OUT_OF_MEMORY, reason)
        else:
            self.report_lost(lease, "its worker process died")

    def report_lost(self, lease: HeldLease, reason: str) -> None:
        """Put the job back at once, rather than when its lease runs out."""
        max_lost_attempts, backoff_s = (
            self.settings.max_lost_attempts,
            self.settings.retry_backoff_s,
        )
        self.record_end(
            lease,
            lambda: attempts.lose_attempt(
                self.db, lease.job, lease.fence, reason, max_lost_attempts, backoff_s
            ),
        )

    def report_failed(self, lease: HeldLease, failure: Failure, message: str) -> None:
        """The job will not run again: what ended it would end it again."""
        self.record_end(
            lease, lambda: attempts.fail_attempt(self.db, lease.job, lease.fence, failure, message)
        )

    def record_end(self, lease: HeldLease, write: Callable[[], Any]) -> None:
        """Say how the attempt ended, again while SQL is away."""
        deadline = time.monotonic() + RECORD_TIMEOUT_S
        while True:
            try:
                write()
                return
            except FencedOut as error:
                log.info("the attempt is already over", job=lease.job, error=str(error))
                return
            except TransientError as error:
                if time.monotonic() > deadline:
                    log.warning(
                        "could not record the end of an attempt", job=lease.job, error=str(error)
                    )
                    return
                time.sleep(min(1.0, self.settings.lease_renew_s))

    def is_child_alive(self) -> bool:
        """Whether the child is there still, and its number was not given to another process."""
        return os.getppid() == self.child_pid

    def kill_child(self) -> None:
        """SIGKILL the pool child; Celery starts another."""
        if self.is_child_alive():
            os.kill(self.child_pid, signal.SIGKILL)
