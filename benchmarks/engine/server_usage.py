"""What a PostgreSQL server on this machine has used: processor time, write-ahead log, blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import text

from shared.jobs.database import Database

_COUNTERS = text(
    "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS log_bytes, "
    "blks_hit + blks_read AS blocks, xact_commit AS transactions "
    "FROM pg_stat_database WHERE datname = current_database()"
)


class ServerUsage:
    """What a PostgreSQL server has used; it must run on this machine."""

    def __init__(self, db: Database) -> None:
        self.db = db
        with db.read() as connection:
            backend = psutil.Process(
                connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            )
        self._postmaster = backend.parent()

    def read_cpu_s(self) -> float:
        """Processor seconds of all processes of the server."""
        assert self._postmaster is not None
        total = sum(self._postmaster.cpu_times()[:4])  # with children that have ended
        for process in self._postmaster.children():
            try:
                total += _read_cpu_s(process.pid)
            except (OSError, psutil.Error):
                continue
        return float(total)

    def read_memory_bytes(self) -> int:
        """What the processes of the server have; what several share counts once."""
        assert self._postmaster is not None
        return sum(
            _read_memory_bytes(process.pid)
            for process in [self._postmaster, *self._postmaster.children()]
        )

    def read(self) -> dict[str, float]:
        """Counters that only grow."""
        with self.db.read() as connection:
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
        with self.db.read() as connection:
            row = connection.execute(_COUNTERS).one()
        return {**{k: float(v) for k, v in row._mapping.items()}, "cpu_s": self.read_cpu_s()}

    @contextmanager
    def measure(self) -> Iterator[dict[str, float]]:
        """What is used within the context; filled in at its end."""
        used: dict[str, float] = {}
        before = self.read()
        yield used
        used.update({name: value - before[name] for name, value in self.read().items()})


def _read_cpu_s(pid: int) -> float:
    """To the nanosecond, where ticks are of 10 ms."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _read_memory_bytes(pid: int) -> int:
    """The proportional share of its pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
