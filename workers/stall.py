"""Detects stalled attempts, in CPU time so that a busy machine does not look like a stall.

A clock on the wall would count what others take from it. What counts is the CPU time of its busiest
thread: an attempt that computes for its limit without a sign of life stands still, however long the
machine took to let it. One that uses no CPU at all, because it is stopped, deadlocked or asleep, is
caught by the wall clock at ten times the limit.
"""

from __future__ import annotations

import time

import psutil

WALL_FACTOR = 10  # wall seconds allowed for each second of the limit


class StallDetector:
    """Observes one attempt at intervals; `stalled` says whether it makes no progress.

    Args:
        pid: the process that computes.
        limit_s: CPU seconds that it may compute without a sign of life.
        max_gap_s: maximum wall seconds between two observations; more means that the observer was
            asleep as well (a machine that slept, a container that was frozen), and is not counted.
    """

    def __init__(self, pid: int, limit_s: float, max_gap_s: float) -> None:
        self.pid, self.limit_s, self.max_gap_s = pid, limit_s, max_gap_s
        self._heartbeat_count = -1
        self._cpu_s_by_thread = _read_cpu_by_thread(pid)
        self._last_look = time.monotonic()
        self._reset()

    def _reset(self) -> None:
        self.cpu_s = self.wall_s = self.waited_s = 0.0

    def update(self, heartbeat_count: int, is_waiting: bool) -> None:
        """Note how far its counter has come, and whether it waits for a store now, which is not its
        fault."""
        before, now = self._last_look, time.monotonic()
        self._last_look = now
        earlier, self._cpu_s_by_thread = self._cpu_s_by_thread, _read_cpu_by_thread(self.pid)
        if heartbeat_count != self._heartbeat_count:
            self._heartbeat_count = heartbeat_count
            return self._reset()
        passed_s = min(now - before, self.max_gap_s)
        if is_waiting:
            self.waited_s += passed_s
            return None
        self.wall_s += passed_s
        # one thread is never ahead of the wall; their sum would be, and punish an attempt for its
        # many threads
        busiest_s = max(
            (t - earlier.get(tid, 0.0) for tid, t in self._cpu_s_by_thread.items()), default=0.0
        )
        self.cpu_s += min(busiest_s, passed_s)
        return None

    def stall_reason(self) -> str | None:
        """Why it is to be given up, None if it is not."""
        if self.cpu_s > self.limit_s:
            return f"it made no progress for {self.limit_s:g} s of computing"
        if self.wall_s > self.limit_s * WALL_FACTOR:
            return f"it made no progress for {self.limit_s * WALL_FACTOR:g} s"
        return None

    def wait_timeout_reason(self) -> str | None:
        """Why one wait for a store has taken too long, None if it has not."""
        if self.waited_s > self.limit_s * WALL_FACTOR:
            return (
                "it waited for the job store or the artifact store for "
                f"{self.limit_s * WALL_FACTOR:g} s"
            )
        return None


def _read_cpu_by_thread(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of a process; nothing when it is gone."""
    try:
        return {t.id: t.user_time + t.system_time for t in psutil.Process(pid).threads()}
    except psutil.Error:
        return {}
