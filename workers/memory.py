"""The memory limit of a pool child, and how a death from want of memory is known from any other.

Two things keep the limit. The kernel refuses an allocation beyond it (RLIMIT_DATA), which the job hears as a
MemoryError and the child survives; not in a child that uses CUDA, which reserves far more than it takes. And the lease
process looks at what the child has taken, pages that are shared with no file included, and kills it when that is too
much. Where the machine is so full that the kernel kills the child all the same, the kernel counts that: a child that
dies otherwise, by a plain SIGKILL at whatever size, is no such case.
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
from shared.machine import cgroup_folders

log = structlog.get_logger()

LOOK_EVERY = 0.2  # seconds; memory can be filled at gigabytes a second
_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True)
class Usage:
    """What a process has taken, in bytes: memory that is no file's (in RAM or swapped out)."""

    taken: int
    reserved: int  # private and writable, touched or not: what RLIMIT_DATA counts
    dying: bool  # a SIGKILL is on its way, or its memory is being freed already


def usage(pid: int) -> Usage | None:
    """What the process has now; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines) if rest.strip()}
    kilobytes = {name: int(found.get(name, 0)) for name in ("RssAnon", "RssShmem", "VmSwap", "VmData")}
    pending = int(found["SigPnd"], 16) | int(found["ShdPnd"], 16)
    return Usage(
        taken=1024 * (kilobytes["RssAnon"] + kilobytes["RssShmem"] + kilobytes["VmSwap"]),
        reserved=1024 * kilobytes["VmData"],
        dying="VmRSS" not in found or bool(pending & _SIGKILL_BIT),
    )


def require_room(limit_bytes: int) -> None:
    """Raises InvalidRequest when this process has more than the limit before it has a job."""
    if (taken := _own().taken) >= limit_bytes:
        raise InvalidRequest(
            f"a worker may take {_size(limit_bytes)} and takes {_size(taken)} before it has a job: run fewer "
            "workers on this machine, or set PALIMPSEST_MEMORY_LIMIT_BYTES"
        )


def settle(limit_bytes: int | None, *, refuse: bool) -> None:
    """Before a job: give back what the last one has freed, and have the kernel `refuse` what goes beyond the limit.

    RLIMIT_DATA, not RLIMIT_AS: torch maps gigabytes of address space that it never takes. What is reserved and not
    taken now (stacks, arenas, the holes that other jobs left in the heap) comes on top, so that the whole limit can be.
    """
    _give_back()
    if limit_bytes is None:
        return
    now = _own()
    if now.taken > limit_bytes / 2:  # what a failed job left in a cycle; too slow to be done for every job
        gc.collect()
        _give_back()
        now = _own()
    if refuse:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        bound = limit_bytes + max(0, now.reserved - now.taken)
        resource.setrlimit(resource.RLIMIT_DATA, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _give_back() -> None:
    """Have malloc return free pages: after a job with large tensors it keeps nearly all that they took."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc has it
        trim(0)


def _own() -> Usage:
    now = usage(os.getpid())
    assert now is not None
    return now


def describe(taken: int, limit_bytes: int | None) -> str:
    """How much a child had and its limit: the end of a sentence."""
    limit = "its worker has no limit of its own" if limit_bytes is None else f"the limit is {_size(limit_bytes)}"
    remedy = "make the job smaller, or give it a larger worker (PALIMPSEST_MEMORY_LIMIT_BYTES)"
    return f"its worker process had {_size(taken)}, {limit}: {remedy}"


def refused(error: BaseException, limit_bytes: int | None) -> str:
    """What to say when an allocation of this process was refused."""
    return f"not enough memory: {error or 'an allocation was refused'}; {describe(_own().taken, limit_bytes)}"


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for memory; of the machine, where no group
    counts them."""
    for folder, version in cgroup_folders():
        found = _counted(folder / ("memory.events" if version == 2 else "memory.oom_control"))
        if found is not None:
            return found
    return _counted(Path("/proc/vmstat")) or 0


def _counted(path: Path) -> int | None:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    return next((int(pair[1]) for pair in pairs if pair[0] == "oom_kill"), None)


class MemoryWatch:
    """Watches a pool child from the lease process, in a thread of its own: SQL may keep the other one waiting.

    Args:
        limit_bytes: what the child may take while it has a job; None for no limit.
        hold: the number of the job's hold, None without a job: an idle child is left alone.
        kill: ends the child.
    """

    def __init__(
        self, child: int, limit_bytes: int | None, hold: Callable[[], int | None], kill: Callable[[], None],
        count: Callable[[], int] = oom_kills,
    ) -> None:  # fmt: skip
        self.child, self.limit_bytes, self._hold, self._kill, self._count = child, limit_bytes, hold, kill, count
        self._taken = 0
        self._over: int | None = None  # the hold that was over the limit at the last look
        self._killed = False
        self._kills = [count(), count()]  # at the last two looks at which the child was not dying

    def start(self) -> None:
        """Look until the process ends."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(LOOK_EVERY):
                self.look()

        threading.Thread(target=run, name="memory", daemon=True).start()

    def look(self) -> None:
        """Look once."""
        kills, now, hold = self._count(), usage(self.child), self._hold()
        if now is None or now.dying or self._killed or os.getppid() != self.child:
            return  # dead or as good as dead; its number may be another's
        # The kernel counts before it kills: a count that is new belongs to a child that may be hit in a moment.
        self._kills = [self._kills[1], kills]
        self._taken = now.taken
        over = hold is not None and self.limit_bytes is not None and now.taken > self.limit_bytes
        # Twice, under the same job: what the last one leaves behind is freed in a moment.
        if over and hold == self._over:
            self._killed = True
            log.warning("a pool child takes too much memory; killing it", taken=now.taken, limit=self.limit_bytes)
            self._kill()
        self._over = hold if over else None

    def why_it_died(self) -> str | None:
        """A sentence when the child died for want of memory, None when it died of anything else."""
        if self._killed:
            return f"not enough memory: {describe(self._taken, self.limit_bytes)}"
        if self._count() != self._kills[0]:
            return f"the kernel killed it for want of memory: {describe(self._taken, self.limit_bytes)}"
        return None
