"""Whether the started programs make progress: judged by their activity, not by the time they take.

Importing torch takes seconds on one machine and many minutes on a busy one. A program that uses CPU
or writes to its log is waited for; one that dies again and again, or is idle for long, is not.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

MAX_DEATHS = 5  # of one program or its children, before it is up
# between two checks; a longer gap means that this process was stopped, and is cut to this
MAX_GAP_S = 5.0
MIN_WORK_CPU_S = 1.0  # an idle process uses less within `idle_timeout_s`
STARTED_CPU_S = 1.0  # after which the death of a child process is counted


@dataclass
class Program:
    """The observed activity of one program and its child processes."""

    log: Path
    # of live processes
    cpu_s_by_process: dict[psutil.Process, float] = field(default_factory=dict)
    root: psutil.Process | None = None
    cpu_s: float = 0.0  # in total
    deaths: int = 0
    idle_s: float = 0.0  # since its last activity
    _last_activity: tuple[float, int] = (0.0, 0)  # total CPU seconds and size of the log then

    def update(self, root: psutil.Process | None, passed_s: float) -> None:
        """Record the activity of the last `passed_s` seconds; `root` is the process that the
        supervisor started."""
        if self.root is not None and root != self.root:
            self.deaths += 1
        self.root = root
        before, self.cpu_s_by_process = self.cpu_s_by_process, _read_cpu_times(root)
        for process, seconds in before.items():
            if process not in self.cpu_s_by_process and process != root and seconds > STARTED_CPU_S:
                # such as a pool child that is killed while it imports, which its worker survives
                self.deaths += 1
        self.cpu_s += sum(
            max(0.0, seconds - before.get(p, 0.0)) for p, seconds in self.cpu_s_by_process.items()
        )
        written = self.log.stat().st_size if self.log.exists() else 0
        if (
            self.cpu_s - self._last_activity[0] > MIN_WORK_CPU_S
            or written != self._last_activity[1]
        ):
            self._last_activity, self.idle_s = (self.cpu_s, written), 0.0
        else:
            self.idle_s += passed_s


def _read_cpu_times(root: psutil.Process | None) -> dict[psutil.Process, float]:
    """CPU seconds of a process and of each of its descendants."""
    cpu_s_by_process: dict[psutil.Process, float] = {}
    with suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)] if root else []:
            with suppress(psutil.Error):
                times = process.cpu_times()
                cpu_s_by_process[process] = times.user + times.system
    return cpu_s_by_process


class StartupMonitor:
    """Watches the programs of a supervisor until they are up.

    Args:
        supervisor_pid: process id of the supervisor.
        logs: the folder with the log of each program, `NAME.log`.
        idle_timeout_s: how long a program that is not up may be idle.
    """

    def __init__(
        self,
        supervisor_pid: int,
        logs: Path,
        idle_timeout_s: float = 120,
        out: IO[str] = sys.stdout,
    ) -> None:
        self.supervisor_pid, self.logs, self.idle_timeout_s, self.out = (
            supervisor_pid,
            logs,
            idle_timeout_s,
            out,
        )
        self.programs: dict[str, Program] = {}
        self._started_at = self._last_look = self._last_report = time.monotonic()
        self._line_open = False  # whether the last line has no line break yet

    def check(self, missing: Iterable[str]) -> str | None:
        """Check the programs that are not up yet; returns why waiting for one is pointless, or
        None."""
        before, self._last_look = self._last_look, time.monotonic()
        passed_s = min(MAX_GAP_S, self._last_look - before)
        roots = self._list_programs()
        for name in sorted(missing):
            program = self.programs.setdefault(name, Program(self.logs / f"{name}.log"))
            marker = "services.gateway" if name == "gateway" else f"{name}@"
            program.update(
                next((p for p, line in roots if any(a.startswith(marker) for a in line)), None),
                passed_s,
            )
            if program.deaths >= MAX_DEATHS:
                return f"{name} died {program.deaths} times while starting"
            if program.idle_s > self.idle_timeout_s:
                return f"{name} did not start, and was idle for {self.idle_timeout_s:g} s"
        return None

    def report_progress(self, missing: Iterable[str]) -> None:
        """Print which programs are still starting: one updated line on a terminal, or else a line
        every 30 seconds."""
        terminal = self.out.isatty()
        if self._last_look - self._last_report < (2 if terminal else 30):
            return
        self._last_report = self._last_look
        cpu_s = sum(self.programs[name].cpu_s for name in missing if name in self.programs)
        names, seconds = ", ".join(sorted(missing)), self._last_look - self._started_at
        text = f"palimpsest: {seconds:.0f} s, {cpu_s:.0f} s of CPU; waiting for {names}"
        if terminal:  # a line longer than its width could not be overwritten
            self.out.write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        else:
            self.out.write(f"{text}\n")
        self.out.flush()
        self._line_open = terminal

    def end_line(self) -> None:
        """End the updated line, before anything else is printed."""
        if self._line_open:
            self.out.write("\r\x1b[K")
            self._line_open = False

    def _list_programs(self) -> list[tuple[psutil.Process, list[str]]]:
        programs = []
        with suppress(psutil.Error):
            for process in psutil.Process(self.supervisor_pid).children():
                with suppress(psutil.Error):
                    programs.append((process, process.cmdline()))
        return programs
