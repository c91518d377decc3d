"""Whether what was started is still coming up: measured by what it does, not by how long it takes.

Importing torch takes seconds on one machine and many minutes on another that is busy. Who uses CPU, or writes to the
log, is waited for; who dies again and again, or does nothing for long, is not.
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

DEATHS = 5  # of one program, or inside it, before it is up
GAP = 5.0  # seconds between two looks; more means that the one who looks was stopped, and does not count
WORK = 1.0  # CPU seconds: less in all the patience is what an idle process uses
STARTED = 1.0  # CPU seconds after which the death of a process inside a program is counted


@dataclass
class Program:
    """What was seen of one program: its processes with their CPU seconds, and what became of them."""

    log: Path
    cpu: dict[psutil.Process, float] = field(default_factory=dict)  # of those that live
    root: psutil.Process | None = None
    spent: float = 0.0  # CPU seconds in all
    deaths: int = 0
    idle: float = 0.0  # seconds since it last did something
    _noted: tuple[float, int] = (0.0, 0)  # CPU seconds and bytes of its log then

    def look(self, root: psutil.Process | None, passed: float) -> None:
        """Note what its processes have done in the `passed` seconds; `root` is the one that the supervisor started."""
        if self.root is not None and root != self.root:
            self.deaths += 1
        self.root = root
        before, self.cpu = self.cpu, _cpu(root)
        for process, seconds in before.items():
            if process not in self.cpu and process != root and seconds > STARTED:
                self.deaths += 1  # as a pool child that is killed while it imports; its worker lives on
        self.spent += sum(max(0.0, seconds - before.get(p, 0.0)) for p, seconds in self.cpu.items())
        written = self.log.stat().st_size if self.log.exists() else 0
        if self.spent - self._noted[0] > WORK or written != self._noted[1]:
            self._noted, self.idle = (self.spent, written), 0.0
        else:
            self.idle += passed


def _cpu(root: psutil.Process | None) -> dict[psutil.Process, float]:
    """CPU seconds of a process and of all that come from it."""
    found: dict[psutil.Process, float] = {}
    with suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)] if root else []:
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[process] = times.user + times.system
    return found


class Startup:
    """Looks at the programs of a supervisor until they are up.

    Args:
        supervisor: the process number of the supervisor.
        logs: the folder that has a log of each program, `NAME.log`.
        patience: seconds in which a program that is not up may do nothing.
    """

    def __init__(self, supervisor: int, logs: Path, patience: float = 120, out: IO[str] = sys.stdout) -> None:
        self.supervisor, self.logs, self.patience, self.out = supervisor, logs, patience, out
        self.programs: dict[str, Program] = {}
        self._began = self._at = self._said = time.monotonic()
        self._open = False  # a line that is not ended

    def look(self, lacking: Iterable[str]) -> str | None:
        """Look at the programs that are not up yet; why to wait for them no longer, None to go on."""
        before, self._at = self._at, time.monotonic()
        passed = min(GAP, self._at - before)
        roots = self._roots()
        for name in sorted(lacking):
            program = self.programs.setdefault(name, Program(self.logs / f"{name}.log"))
            word = "services.gateway" if name == "gateway" else f"{name}@"
            program.look(next((p for p, line in roots if any(a.startswith(word) for a in line)), None), passed)
            if program.deaths >= DEATHS:
                return f"{name} died {program.deaths} times before it was up"
            if program.idle > self.patience:
                return f"{name} did not come up, and has done nothing for {self.patience:g} s"
        return None

    def say(self, lacking: Iterable[str]) -> None:
        """Tell who waits what for: in one line that changes on a terminal, now and then elsewhere."""
        terminal = self.out.isatty()
        if self._at - self._said < (2 if terminal else 30):
            return
        self._said = self._at
        spent = sum(self.programs[name].spent for name in lacking if name in self.programs)
        names, seconds = ", ".join(sorted(lacking)), self._at - self._began
        text = f"palimpsest: {seconds:.0f} s, {spent:.0f} s of CPU; waiting for {names}"
        if terminal:  # a longer line than it is wide could not be written over
            self.out.write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        else:
            self.out.write(f"{text}\n")
        self.out.flush()
        self._open = terminal

    def end_line(self) -> None:
        """Before anything else is printed."""
        if self._open:
            self.out.write("\r\x1b[K")
            self._open = False

    def _roots(self) -> list[tuple[psutil.Process, list[str]]]:
        found = []
        with suppress(psutil.Error):
            for process in psutil.Process(self.supervisor).children():
                with suppress(psutil.Error):
                    found.append((process, process.cmdline()))
        return found
