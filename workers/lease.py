"""The lease process: a small process beside each pool child that talks to SQL while the child
computes.

It renews the lease of the job that the child runs, reports progress, passes signals on, and records
every few seconds that the worker is alive (`workers.lease_keeper`). It ends when the child does:
its standard input closes. The child replaces a lease process that has died or hangs; the new one
continues with the current job.

Commands on its standard input, one JSON object per line: `{"lease": n, "job": id, "fence": f,
"stall_timeout_s": s, "time_limit": s or null, "started_at": monotonic s, "log_fields": {...}}` and
`{"release": n}`. On its standard output a byte when it has come up, and one after every turn.
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
from workers.attempt_state import AttemptState
from workers.lease_keeper import LeaseKeeper

log = structlog.get_logger()

# polls without a turn after which a lease process counts as hung; they take a third of a lease
MAX_QUIET_POLLS = 15
# times as many until it has come up, which takes longest when the machine is busy
STARTUP_FACTOR = 10
# seconds in which a lease process must come up before the pool child gives in
START_TIMEOUT_S = 600.0

READY_BYTE, TURN_BYTE = b"u", b"."
EXITED = "it has ended"


class LeaseProcess:
    """The child's handle on it: `hold_lease` after a claim, `release_lease` after the end.

    A thread waits for its end, and starts another at once: also while the attempt is silent for
    minutes. One that runs without a turn (frozen, or stuck in SQL) is killed and replaced well
    before the lease runs out. Polls are counted rather than seconds: what freezes a whole worker
    stops them too.

    Args:
        registration: what the worker was registered with.
        lease_s: validity of a lease after a renewal.
    """

    def __init__(
        self, worker: str, registration: Mapping[str, Any] | None = None, lease_s: float = 45.0
    ) -> None:
        self.state = AttemptState.create()
        self._arguments = json.dumps(
            {
                "worker": worker,
                "state_fd": self.state.fd,
                "child": os.getpid(),
                "registration": registration,
            }
        )
        self._poll_s = lease_s / 3 / MAX_QUIET_POLLS
        self._lock = threading.RLock()
        self._lease_number = 0
        self._hold_command: dict[str, Any] | None = None
        self._closed = False
        self._ready = threading.Event()
        self._process = self._start()
        threading.Thread(target=self._watch_process, name="lease", daemon=True).start()

    def ensure_running(self) -> None:
        """Wait until a lease process is there that serves: without one no job may be claimed."""
        with self._lock:
            if self._process.poll() is not None:
                self._replace(self._process, EXITED)
        if not self._ready.wait(START_TIMEOUT_S):
            log.error("the lease process does not start; exiting the pool child")
            os._exit(70)

    def hold_lease(
        self,
        job_id: str,
        fence: int,
        stall_timeout_s: float,
        time_limit: float | None = None,
        log_fields: Mapping[str, str] | None = None,
    ) -> int:
        """Keep the lease of this job; returns the number of the lease, which signals carry.

        Args:
            stall_timeout_s: CPU seconds without a heartbeat after which the attempt is killed, and
                ten times as many seconds of wall time.
            time_limit: seconds that the attempt may take from now on.
            log_fields: what the lease process names in every line about the attempt.
        """
        with self._lock:
            self._lease_number += 1
            self.state.clear_progress()
            self.state.heartbeat()
            self._hold_command = {
                "lease": self._lease_number,
                "job": job_id,
                "fence": fence,
                "stall_timeout_s": stall_timeout_s,
            }
            self._hold_command |= {"time_limit": time_limit, "started_at": time.monotonic()}
            self._hold_command["log_fields"] = dict(log_fields or {})
            self._send(self._hold_command)
            return self._lease_number

    def release_lease(self) -> None:
        """The attempt has ended, in whatever way."""
        with self._lock:
            self._hold_command = None
            self._send({"release": self._lease_number})

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start another process and send it the current job."""
        command = [sys.executable, "-m", "workers.lease", self._arguments]
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[self.state.fd],
        )
        if self._hold_command is not None:
            with suppress(BrokenPipeError):  # dead already: the thread will see
                _write(process, self._hold_command)
        return process

    def _send(self, command: dict[str, Any]) -> None:
        try:
            _write(self._process, command)
        except BrokenPipeError:
            self._replace(self._process, EXITED)  # by one that gets the current job

    def _replace(self, process: subprocess.Popen[bytes], reason: str) -> bool:
        """Start another in the place of this one, unless that was done; False when that is not
        possible now."""
        with self._lock:
            if self._closed or process is not self._process:
                return True
            log.warning(
                "starting another lease process",
                why=reason,
                job=self._hold_command["job"] if self._hold_command else None,
            )
            self._ready.clear()
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                # one that cannot even be killed now does no harm: both renew the same
                process.wait(timeout=5)
            try:
                self._process = self._start()
            except OSError as error:  # no memory, or too many processes; the thread tries again
                log.error("no lease process can be started; trying again", error=str(error))
                return False
            assert process.stdin is not None
            process.stdin.close()
            return True

    def _watch_process(self) -> None:
        max_quiet_polls, failed_starts = MAX_QUIET_POLLS, 0
        while not self._closed:
            process, quiet_polls, ready = self._process, 0, False
            assert process.stdout is not None
            poller = select.poll()
            poller.register(process.stdout.fileno(), select.POLLIN)
            while process is self._process:
                if not poller.poll(self._poll_s * 1000):
                    quiet_polls += 1
                    if quiet_polls >= max_quiet_polls * (1 if ready else STARTUP_FACTOR):
                        max_quiet_polls *= 2  # it may be slow rather than stuck
                        self._replace(process, "its loop does not respond")
                elif received := os.read(process.stdout.fileno(), 4096):
                    quiet_polls, ready = 0, True
                    self._ready.set()
                    if TURN_BYTE in received:
                        max_quiet_polls, failed_starts = MAX_QUIET_POLLS, 0
                elif self._closed:
                    break
                else:
                    # one that cannot come up is not started in a tight loop
                    time.sleep(min(10.0, failed_starts * 0.5))
                    failed_starts += 1
                    if not self._replace(process, EXITED):
                        time.sleep(1)
            # only here: closed elsewhere, its number could become that of another file while this
            # thread polls
            process.stdout.close()


def _write(process: subprocess.Popen[bytes], command: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(command).encode() + b"\n")


def main(arguments_json: str) -> None:
    """Entry of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the child decides; this process ends after it
    logs.configure_logging()
    settings, arguments = Settings(), json.loads(arguments_json)

    def send_byte(what: bytes) -> None:
        with suppress(BrokenPipeError):  # the end of the child shows at the other pipe
            os.write(sys.stdout.fileno(), what)

    keeper = LeaseKeeper(
        settings,
        Database(settings.database_url),
        AttemptState(arguments["state_fd"]),
        arguments["worker"],
        arguments["child"],
        registration=arguments["registration"],
        on_turn=partial(send_byte, TURN_BYTE),
    )
    send_byte(READY_BYTE)
    keeper.serve(sys.stdin.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
