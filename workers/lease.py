"""The lease process: a small process beside each pool child that talks to SQL while the child computes.

It renews the lease of the job that the child holds, carries progress out and orders in, and notes every
few seconds that the worker is alive. It ends when the child does (its standard input closes). It gives the
job up when the child has died, or has made no progress for longer than its stage said it might.

Commands, one JSON object a line: `{"hold": n, "job": id, "fence": f, "silence": s}` and `{"release": n}`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import structlog

from shared import logs
from shared.config import Settings
from shared.errors import FencedOut, TransientError
from shared.jobs import claims, fleet
from shared.jobs.database import Database
from shared.jobs.states import Failure, Stop
from workers.page import Order, Page

log = structlog.get_logger()


class LeaseProcess:
    """The child's handle on it: `hold` after a claim, `release` after the end."""

    def __init__(self, worker: str) -> None:
        self.page = Page.create()
        self._number = 0
        command = [sys.executable, "-m", "workers.lease", worker, str(self.page.fd), str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[self.page.fd])  # noqa: S603 - our own module

    def hold(self, job: str, fence: int, silence: float) -> int:
        """Keep the lease of this job; returns the hold's number, under which orders come."""
        self._number += 1
        self.page.clear()
        self.page.beat()
        self._say({"hold": self._number, "job": job, "fence": fence, "silence": silence})
        return self._number

    def release(self) -> None:
        """The attempt has ended, in whatever way."""
        self._say({"release": self._number})

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _say(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # without it the lease runs out; a new pool child starts a new one
            log.error("the lease process is gone; leaving the pool child")
            os._exit(70)


@dataclass
class Hold:
    """The job that the child holds now."""

    number: int
    job: str
    fence: int
    silence: float
    counter: int = 0
    moved: float = 0.0  # when the counter last moved, by this process's clock
    told: float | None = None  # when it was told to stop
    stop: str | None = None


class Keeper:
    """The loop inside the lease process."""

    def __init__(self, settings: Settings, db: Database, page: Page, worker: str, child: int) -> None:
        self.settings, self.db, self.page, self.worker, self.child = settings, db, page, worker, child
        self.hold: Hold | None = None

    def run(self, commands: int) -> None:
        """Serve until `commands` (a file descriptor) closes."""
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

    def obey(self, command: dict[str, Any]) -> None:
        """Take one command from the child."""
        if "hold" in command:
            self.hold = Hold(
                command["hold"], command["job"], command["fence"], command["silence"], -1, time.monotonic()
            )
        elif self.hold is not None and command["release"] == self.hold.number:
            self.hold = None

    def tick(self) -> None:
        """Renew, or give up, or only say that the worker is alive."""
        drain = fleet.seen(self.db, self.worker)
        hold = self.hold
        if hold is None:
            return
        now, counter = time.monotonic(), self.page.counter()
        if counter != hold.counter:
            hold.counter, hold.moved = counter, now
        if now - hold.moved > hold.silence:
            return self.give_up(hold, f"it made no progress for {hold.silence:g} s")
        if hold.told is not None and now - hold.told > self.settings.obey_within:
            return self.end_for_it(hold)
        orders = claims.renew(self.db, hold.job, hold.fence, self.settings.lease, self.page.progress())
        if orders is None:
            self.page.order(hold.number, Order.LOST)
            self.hold = None
            return
        if orders.stop is not None:
            hold.stop, hold.told = orders.stop, hold.told or now
            self.page.order(hold.number, Order.CANCEL if orders.stop == Stop.CANCEL else Order.TIMEOUT)
        elif drain:
            self.page.order(hold.number, Order.DRAIN)

    def give_up(self, hold: Hold, why: str) -> None:
        """Kill a child that stands still and put its job back, charged."""
        log.error("giving up an attempt", job=hold.job, why=why)
        self.kill()
        self.lose(hold, why)

    def end_for_it(self, hold: Hold) -> None:
        """Kill a child that does not obey, and say in its place what it should have said."""
        log.warning("an attempt did not stop when told; killing it", job=hold.job, stop=hold.stop)
        self.kill()
        self.hold = None
        try:
            if hold.stop == Stop.CANCEL:
                claims.cancelled(self.db, hold.job, hold.fence)
            else:
                claims.fail(
                    self.db, hold.job, hold.fence, Failure.TIMEOUT, "the time limit was reached: raise time_limit"
                )
        except FencedOut:
            pass

    def child_died(self) -> None:
        """The pipe has closed. A child that ends in good order has released its job before."""
        if self.hold is not None:
            self.lose(self.hold, "its worker process died")

    def lose(self, hold: Hold, why: str) -> None:
        """Put the job back at once, rather than when its lease runs out."""
        self.hold = None
        try:
            claims.lose(self.db, hold.job, hold.fence, why, self.settings.max_lost)
        except (FencedOut, TransientError) as error:
            log.info("nothing to give back", job=hold.job, error=str(error))

    def kill(self) -> None:
        """SIGKILL the pool child; Celery starts another."""
        if os.getppid() == self.child:  # still ours: the number was not given to another process
            os.kill(self.child, signal.SIGKILL)


def main(worker: str, page: str, child: str) -> None:
    """Entry of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the child decides; this process ends after it
    logs.setup()
    settings = Settings()
    Keeper(settings, Database(settings.database_url), Page(int(page)), worker, int(child)).run(sys.stdin.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
