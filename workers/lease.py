"""The lease process: a small process beside each pool child that talks to SQL while the child computes.

It renews the lease of the job that the child holds, carries progress out and orders in, and notes every few seconds
that the worker is alive (`workers.keeper`). It ends when the child does: its standard input closes. The child has
another one started in the place of one that has died or hangs, which goes on with the job at hand.

Commands on its standard input, one JSON object a line: `{"hold": n, "job": id, "fence": f, "silence": s,
"time_limit": s or null, "began": monotonic s}` and `{"release": n}`. On its standard output a byte when it has come up,
and one after every turn.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from shared import logs
from shared.config import Settings
from shared.jobs.database import Database
from workers.keeper import Keeper
from workers.page import Page

log = structlog.get_logger()

QUIET = 15  # looks without a turn after which a lease process is taken to hang; they take a third of a lease
SLOW_START = 10  # times as many until it has come up, which takes longest when the machine is busy
START_WITHIN = 600.0  # seconds in which a lease process must come up before the pool child gives in

UP, TURN = b"u", b"."
DEAD = "it has ended"


class LeaseProcess:
    """The child's handle on it: `hold` after a claim, `release` after the end.

    A thread waits for its end, and starts another at once: also while the attempt says nothing for minutes. One that is
    there and does not turn (frozen, or stuck in SQL) is killed and replaced well before the lease runs out. Looks are
    counted rather than seconds: what freezes all of a worker freezes them too.

    Args:
        about: what the worker was registered with.
        lease: seconds for which a renewal holds.
    """

    def __init__(self, worker: str, about: Mapping[str, Any] | None = None, lease: float = 45.0) -> None:
        self.page = Page.create()
        self._about = json.dumps({"worker": worker, "page": self.page.fd, "child": os.getpid(), "about": about})
        self._look = lease / 3 / QUIET
        self._lock = threading.RLock()
        self._number = 0
        self._held: dict[str, Any] | None = None
        self._ended = False
        self._serves = threading.Event()
        self._process = self._start()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def require(self) -> None:
        """Wait until a lease process is there that serves: without one no job may be claimed."""
        with self._lock:
            if self._process.poll() is not None:
                self._replace(self._process, DEAD)
        if not self._serves.wait(START_WITHIN):
            log.error("no lease process comes up; leaving the pool child")
            os._exit(70)

    def hold(self, job: str, fence: int, silence: float, time_limit: float | None = None) -> int:
        """Keep the lease of this job; returns the hold's number, under which orders come.

        Args:
            silence: CPU seconds that it may compute without a beat; ten times as many by the clock.
            time_limit: seconds that the attempt may take from now on.
        """
        with self._lock:
            self._number += 1
            self.page.clear()
            self.page.beat()
            self._held = {"hold": self._number, "job": job, "fence": fence, "silence": silence}
            self._held |= {"time_limit": time_limit, "began": time.monotonic()}
            self._say(self._held)
            return self._number

    def release(self) -> None:
        """The attempt has ended, in whatever way."""
        with self._lock:
            self._held = None
            self._say({"release": self._number})

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._ended = True
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def _start(self) -> subprocess.Popen[bytes]:
        """Another process, told of the job at hand."""
        command = [sys.executable, "-m", "workers.lease", self._about]
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, pass_fds=[self.page.fd]
        )
        if self._held is not None:
            with suppress(BrokenPipeError):  # dead already: the thread will see
                _write(process, self._held)
        return process

    def _say(self, command: dict[str, Any]) -> None:
        try:
            _write(self._process, command)
        except BrokenPipeError:
            self._replace(self._process, DEAD)  # by one that is told of the job

    def _replace(self, process: subprocess.Popen[bytes], why: str) -> bool:
        """Start another in the place of this one, unless that was done; False when that is not possible now."""
        with self._lock:
            if self._ended or process is not self._process:
                return True
            log.warning("starting another lease process", why=why, job=self._held["job"] if self._held else None)
            self._serves.clear()
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)  # one that cannot even be killed now does no harm: both renew the same
            try:
                self._process = self._start()
            except OSError as error:  # no memory or no process to be had; the thread tries again
                log.error("no lease process can be started; trying again", error=str(error))
                return False
            assert process.stdin is not None
            process.stdin.close()
            return True

    def _watch(self) -> None:
        patience, failed = QUIET, 0
        while not self._ended:
            process, quiet, up = self._process, 0, False
            assert process.stdout is not None
            ear = select.poll()
            ear.register(process.stdout.fileno(), select.POLLIN)
            while process is self._process:
                if not ear.poll(self._look * 1000):
                    quiet += 1
                    if quiet >= patience * (1 if up else SLOW_START):
                        patience *= 2  # it may be slow rather than stuck
                        self._replace(process, "it makes no turn")
                elif said := os.read(process.stdout.fileno(), 4096):
                    quiet, up = 0, True
                    self._serves.set()
                    if TURN in said:
                        patience, failed = QUIET, 0
                elif self._ended:
                    break
                else:
                    time.sleep(min(10.0, failed * 0.5))  # one that cannot come up is not started in a tight loop
                    failed += 1
                    if not self._replace(process, DEAD):
                        time.sleep(1)
            process.stdout.close()  # by nobody else: its number would be another file's under this thread's ear


def _write(process: subprocess.Popen[bytes], command: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(command).encode() + b"\n")


def main(about: str) -> None:
    """Entry of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the child decides; this process ends after it
    logs.setup()
    settings, given = Settings(), json.loads(about)

    def say(what: bytes) -> None:
        with suppress(BrokenPipeError):  # the end of the child is heard at the other pipe
            os.write(sys.stdout.fileno(), what)

    keeper = Keeper(
        settings, Database(settings.database_url), Page(given["page"]), given["worker"], given["child"],
        about=given["about"], turned=partial(say, TURN),
    )  # fmt: skip
    say(UP)
    keeper.run(sys.stdin.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
