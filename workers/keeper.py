"""The loop inside the lease process: renew, carry progress out and orders in, and look after the child.

It gives the job up when the child has died, stands still for longer than its stage said it might, takes more memory
than it may, or does not obey. What it cannot tell SQL at once it tells again for a day.
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

from shared.config import Settings
from shared.errors import FencedOut, TransientError
from shared.jobs import claims, fleet
from shared.jobs.database import Database
from shared.jobs.states import Failure, Stop
from workers.memory import MemoryWatch
from workers.page import Order, Page
from workers.patience import TELL_WITHIN
from workers.stall import StallClock

log = structlog.get_logger()


@dataclass
class Hold:
    """The job that the child holds now."""

    number: int
    job: str
    fence: int
    stall: StallClock
    time_limit: float | None  # seconds
    began: float  # by the monotonic clock, which all processes of a machine share
    told: float | None = None  # when it was told to stop
    stop: str | None = None

    def late(self) -> bool:
        """Whether its time limit is over. No clock that can be set is asked: SQL's may step by an hour."""
        return self.time_limit is not None and time.monotonic() - self.began > self.time_limit


class Keeper:
    """Serves one pool child.

    Args:
        about: what the child registered its worker with, to register it again should its row be gone.
        turned: called after every turn; what hangs does not call it.
    """

    def __init__(
        self, settings: Settings, db: Database, page: Page, worker: str, child: int, *,
        about: Mapping[str, Any] | None = None, turned: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.settings, self.db, self.page, self.worker, self.child = settings, db, page, worker, child
        self.about, self.turned = about, turned
        self.hold: Hold | None = None
        self.memory = MemoryWatch(child, settings.memory_limit_bytes, self._number, self.kill)

    def _number(self) -> int | None:
        hold = self.hold
        return hold.number if hold else None

    def run(self, commands: int) -> None:
        """Serve until `commands` (a file descriptor) closes."""
        self.memory.start()
        buffer, due = b"", time.monotonic()
        while True:
            ready, _, _ = select.select([commands], [], [], max(0.0, due - time.monotonic()))
            if ready:
                data = os.read(commands, 65536)
                if not data:
                    return self.child_died()
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
            if time.monotonic() >= due:
                due = time.monotonic() + self.settings.renew_every
                try:
                    self.tick()
                except TransientError as error:
                    log.warning("lease not renewed; trying again", error=str(error), worker=self.worker)
                self.turned()

    def obey(self, command: dict[str, Any]) -> None:
        """Take one command from the child."""
        if "hold" in command:
            stall = StallClock(self.child, command["silence"], gap=4 * self.settings.renew_every)
            self.hold = Hold(
                command["hold"], command["job"], command["fence"], stall, command["time_limit"], command["began"]
            )
        elif self.hold is not None and command["release"] == self.hold.number:
            self.hold = None

    def tick(self) -> None:
        """Renew, or give up, or only say that the worker is alive."""
        if self.hold is not None:
            self.hold.stall.look(self.page.counter(), self.page.waits())
        drain = self.say_alive()
        hold = self.hold
        if hold is None:
            return
        if why := hold.stall.stalled() or hold.stall.waits_in_vain():
            return self.give_up(hold, why, charged=hold.stall.stalled() is not None)
        if hold.told is not None and time.monotonic() - hold.told > self.settings.obey_within:
            return self.end_for_it(hold)
        orders = claims.renew(self.db, hold.job, hold.fence, self.settings.lease, self.page.progress())
        if orders is None:
            self.page.order(hold.number, Order.LOST)
            self.hold = None
            return
        stop = Stop.CANCEL if orders.stop == Stop.CANCEL else Stop.TIMEOUT if hold.late() else None
        if stop is not None:
            hold.stop, hold.told = stop, hold.told or time.monotonic()
            self.page.order(hold.number, Order.CANCEL if stop == Stop.CANCEL else Order.TIMEOUT)
        elif drain:
            self.page.order(hold.number, Order.DRAIN)

    def say_alive(self) -> bool:
        """Note that the worker is alive; says whether it is to drain."""
        drain = fleet.seen(self.db, self.worker)
        if drain is None and self.about is not None and self.child_lives():
            # A worker that slept for an hour with its machine was forgotten: nobody would ring for it any more.
            fleet.register(self.db, self.worker, **self.about)
        return bool(drain)

    def give_up(self, hold: Hold, why: str, *, charged: bool) -> None:
        """Kill a child that goes nowhere and put its job back; free of charge when it waited for a store."""
        log.error("giving up an attempt", job=hold.job, why=why)
        self.kill()
        self.hold = None
        if charged:
            self.lose(hold, why)
        else:
            pause = self.settings.retry_backoff_s
            self.record(hold, lambda: claims.give_back(self.db, hold.job, hold.fence, why, pause))

    def end_for_it(self, hold: Hold) -> None:
        """Kill a child that does not obey, and say in its place what it should have said."""
        log.warning("an attempt did not stop when told; killing it", job=hold.job, stop=hold.stop)
        self.kill()
        self.hold = None
        if hold.stop == Stop.CANCEL:
            self.record(hold, lambda: claims.cancelled(self.db, hold.job, hold.fence))
        else:
            self.fail(hold, Failure.TIMEOUT, "the time limit was reached: raise time_limit")

    def child_died(self) -> None:
        """The pipe has closed. A child that ends in good order has released its job before."""
        hold, self.hold = self.hold, None
        if hold is None:
            return
        if why := self.memory.why_it_died():
            log.error("an attempt ran out of memory", job=hold.job, why=why)
            self.fail(hold, Failure.OUT_OF_MEMORY, why)
        else:
            self.lose(hold, "its worker process died")

    def lose(self, hold: Hold, why: str) -> None:
        """Put the job back at once, rather than when its lease runs out."""
        most, backoff = self.settings.max_lost, self.settings.retry_backoff_s
        self.record(hold, lambda: claims.lose(self.db, hold.job, hold.fence, why, most, backoff))

    def fail(self, hold: Hold, failure: Failure, message: str) -> None:
        """The job will not run again: what ended it would end it again."""
        self.record(hold, lambda: claims.fail(self.db, hold.job, hold.fence, failure, message))

    def record(self, hold: Hold, write: Callable[[], Any]) -> None:
        """Say how the attempt ended, again while SQL is away."""
        until = time.monotonic() + TELL_WITHIN
        while True:
            try:
                write()
                return
            except FencedOut as error:
                log.info("nothing to give back", job=hold.job, error=str(error))
                return
            except TransientError as error:
                if time.monotonic() > until:
                    log.warning("the end of an attempt was not recorded", job=hold.job, error=str(error))
                    return
                time.sleep(min(1.0, self.settings.renew_every))

    def child_lives(self) -> bool:
        """Whether the child is there still, and its number was not given to another process."""
        return os.getppid() == self.child

    def kill(self) -> None:
        """SIGKILL the pool child; Celery starts another."""
        if self.child_lives():
            os.kill(self.child, signal.SIGKILL)
