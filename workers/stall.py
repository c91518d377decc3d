"""Whether an attempt stands still, measured so that a busy machine does not make it seem so.

A clock on the wall would count what others take from it. What counts is the CPU time of its busiest thread: an attempt
that computes for its limit without a sign of life stands still, however long the machine took to let it. One that
uses no CPU at all, because it is stopped, deadlocked or asleep, is caught by the wall clock at ten times the limit.
"""

from __future__ import annotations

import time

import psutil

WALL = 10  # wall seconds allowed for each second of the limit


class StallClock:
    """Looks at one attempt again and again; `stalled` says whether it stands still.

    Args:
        pid: the process that computes.
        limit: CPU seconds that it may compute without a sign of life.
        gap: wall seconds that pass between two looks at most; more means that the one who looks was asleep as well
            (a machine that slept, a container that was frozen), and is not counted.
    """

    def __init__(self, pid: int, limit: float, gap: float) -> None:
        self.pid, self.limit, self.gap = pid, limit, gap
        self._counter = -1
        self._threads = _cpu_by_thread(pid)
        self._at = time.monotonic()
        self._start_again()

    def _start_again(self) -> None:
        self.cpu = self.wall = self.waited = 0.0

    def look(self, counter: int, waits: bool) -> None:
        """Note how far its counter has come, and whether it waits for a store now, which is not its fault."""
        before, now = self._at, time.monotonic()
        self._at = now
        earlier, self._threads = self._threads, _cpu_by_thread(self.pid)
        if counter != self._counter:
            self._counter = counter
            return self._start_again()
        passed = min(now - before, self.gap)
        if waits:
            self.waited += passed
            return None
        self.wall += passed
        # one thread is never ahead of the wall; their sum would be, and punish an attempt for its many threads
        busiest = max((t - earlier.get(tid, 0.0) for tid, t in self._threads.items()), default=0.0)
        self.cpu += min(busiest, passed)
        return None

    def stalled(self) -> str | None:
        """Why it is to be given up, None if it is not."""
        if self.cpu > self.limit:
            return f"it made no progress for {self.limit:g} s of computing"
        if self.wall > self.limit * WALL:
            return f"it made no progress for {self.limit * WALL:g} s"
        return None

    def waits_in_vain(self) -> str | None:
        """Why one wait for a store has taken too long, None if it has not."""
        if self.waited > self.limit * WALL:
            return f"it waited for the job store or the artifact store for {self.limit * WALL:g} s"
        return None


def _cpu_by_thread(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of a process; nothing when it is gone."""
    try:
        return {t.id: t.user_time + t.system_time for t in psutil.Process(pid).threads()}
    except psutil.Error:
        return {}
