"""The memory limit of a pool child, and how to distinguish an out-of-memory kill from other
deaths.

Two things keep the limit. The kernel refuses an allocation beyond it (RLIMIT_DATA), which the job
hears as a MemoryError and the child survives; not in a child that uses CUDA, which reserves far
more than it takes. And the lease process looks at what the child has taken, pages that are shared
with no file included, and kills it when that is too much. Where the machine is so full that the
kernel kills the child all the same, the kernel counts that: a child that dies otherwise, by a plain
SIGKILL at whatever size, is no such case.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from shared.errors import InvalidRequest
from shared.machine import iter_cgroup_folders

log = structlog.get_logger()

LOOK_INTERVAL_S = 0.2  # seconds; memory can be filled at gigabytes a second
_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True)
class MemoryUsage:
    """What a process has taken, in bytes: memory that is no file's (in RAM or swapped out)."""

    used_bytes: int
    reserved_bytes: int  # private and writable, touched or not: what RLIMIT_DATA counts
    is_dying: bool  # a SIGKILL is on its way, or its memory is being freed already


def read_usage(pid: int) -> MemoryUsage | None:
    """What the process has now; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    fields = {
        name: rest.split()[0]
        for name, _, rest in (line.partition(":") for line in lines)
        if rest.strip()
    }
    kilobytes = {
        name: int(fields.get(name, 0)) for name in ("RssAnon", "RssShmem", "VmSwap", "VmData")
    }
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return MemoryUsage(
        used_bytes=1024 * (kilobytes["RssAnon"] + kilobytes["RssShmem"] + kilobytes["VmSwap"]),
        reserved_bytes=1024 * kilobytes["VmData"],
        is_dying="VmRSS" not in fields or bool(pending & _SIGKILL_BIT),
    )


def check_headroom(limit_bytes: int) -> None:
    """Raises InvalidRequest when this process has more than the limit before it has a job."""
    if (used_bytes := _read_own_usage().used_bytes) >= limit_bytes:
        raise InvalidRequest(
            f"the memory limit of a worker is {_format_size(limit_bytes)}, but it uses "
            f"{_format_size(used_bytes)} without a job: run fewer workers on this machine, or set "
            "PALIMPSEST_MEMORY_LIMIT_BYTES"
        )


def prepare_for_job(limit_bytes: int | None, *, set_rlimit: bool) -> None:
    """Before a job: give back what the last one has freed, and have the kernel `refuse` what goes
    beyond the limit.

    RLIMIT_DATA, not RLIMIT_AS: torch maps gigabytes of address space that it never takes. What is
    reserved and not taken now (stacks, arenas, the holes that other jobs left in the heap) comes on
    top, so that the whole limit can be.
    """
    _trim_heap()
    if limit_bytes is None:
        return
    current = _read_own_usage()
    # what a failed job left in a cycle; too slow to be done for every job
    if current.used_bytes > limit_bytes / 2:
        gc.collect()
        _trim_heap()
        current = _read_own_usage()
    if set_rlimit:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        bound = limit_bytes + max(0, current.reserved_bytes - current.used_bytes)
        resource.setrlimit(
            resource.RLIMIT_DATA,
            (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard),
        )


def _trim_heap() -> None:
    """Have malloc return free pages: after a job with large tensors it keeps nearly all that they
    took."""
    # glibc has it
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def read_peak_bytes() -> int:
    """The most that this process has had in RAM since its peak was reset, files left out as far as
    they are resident now."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, files = (int(lines[name].split()[0]) for name in ("VmHWM", "RssFile"))
    return 1024 * max(0, peak - files)


def _read_own_usage() -> MemoryUsage:
    now = read_usage(os.getpid())
    assert now is not None
    return now


def describe_usage(used_bytes: int, limit_bytes: int | None) -> str:
    """How much a child had and its limit: the end of a sentence."""
    limit = (
        "no limit is set" if limit_bytes is None else f"the limit is {_format_size(limit_bytes)}"
    )
    remedy = "make the job smaller, or give it a larger worker (PALIMPSEST_MEMORY_LIMIT_BYTES)"
    return f"its worker process used {_format_size(used_bytes)}, {limit}: {remedy}"


def describe_refused_allocation(error: BaseException, limit_bytes: int | None) -> str:
    """What to say when an allocation of this process was refused."""
    return (
        f"not enough memory: {error or 'an allocation was refused'}; "
        f"{describe_usage(_read_own_usage().used_bytes, limit_bytes)}"
    )


def _format_size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def count_oom_kills() -> int:
    """How many processes of this control group the kernel has killed for memory; of the machine,
    where no group counts them."""
    for folder, version in iter_cgroup_folders():
        count = _read_oom_kill_count(
            folder / ("memory.events" if version == 2 else "memory.oom_control")
        )
        if count is not None:
            return count
    return _read_oom_kill_count(Path("/proc/vmstat")) or 0


def _read_oom_kill_count(path: Path) -> int | None:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    return next((int(pair[1]) for pair in pairs if pair[0] == "oom_kill"), None)


class MemoryWatch:
    """Watches a pool child from the lease process, in a thread of its own: SQL may keep the other
    one waiting.

    Args:
        limit_bytes: what the child may take while it has a job; None for no limit.
        get_lease_number: the number of the current lease, None without a job: an idle child is left
            alone.
        kill: ends the child.
    """

    def __init__(
        self,
        child_pid: int,
        limit_bytes: int | None,
        get_lease_number: Callable[[], int | None],
        kill: Callable[[], None],
        count_kills: Callable[[], int] = count_oom_kills,
    ) -> None:
        self.child_pid, self.limit_bytes, self._get_lease_number, self._kill, self._count_kills = (
            child_pid,
            limit_bytes,
            get_lease_number,
            kill,
            count_kills,
        )
        self._used_bytes = 0
        # the lease that was over the limit at the last check
        self._lease_over_limit: int | None = None
        self._killed = False
        # at the last two checks at which the child was not dying
        self._last_kill_counts = [count_kills(), count_kills()]

    def start(self) -> None:
        """Check until the process ends, in a thread."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_INTERVAL_S):
                self.check()

        threading.Thread(target=watch, name="memory", daemon=True).start()

    def check(self) -> None:
        """Check once."""
        kills, current, lease_number = (
            self._count_kills(),
            read_usage(self.child_pid),
            self._get_lease_number(),
        )
        if current is None or current.is_dying or self._killed or os.getppid() != self.child_pid:
            return  # dead or as good as dead; its number may be another's
        # The kernel counts before it kills: a count that is new belongs to a child that may be hit
        # in a moment.
        self._last_kill_counts = [self._last_kill_counts[1], kills]
        self._used_bytes = current.used_bytes
        is_over = (
            lease_number is not None
            and self.limit_bytes is not None
            and current.used_bytes > self.limit_bytes
        )
        # Twice, under the same job: what the last one leaves behind is freed in a moment.
        if is_over and lease_number == self._lease_over_limit:
            self._killed = True
            log.warning(
                "a pool child exceeds its memory limit; killing it",
                taken=current.used_bytes,
                limit=self.limit_bytes,
            )
            self._kill()
        self._lease_over_limit = lease_number if is_over else None

    def explain_death(self) -> str | None:
        """A sentence when the child died for want of memory, None when it died of anything else."""
        if self._killed:
            return f"not enough memory: {describe_usage(self._used_bytes, self.limit_bytes)}"
        if self._count_kills() != self._last_kill_counts[0]:
            return (
                "killed by the kernel, out of memory: "
                f"{describe_usage(self._used_bytes, self.limit_bytes)}"
            )
        return None
