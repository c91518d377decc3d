"""The system that a storm strikes: what `make serve` serves, with its supervisor, its layout and
its workers' names."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import redis

from deploy.local import redis as local_redis
from tests.chaos.storm import redis_host
from tests.chaos.storm.settings import Piece
from tests.chaos.storm.stores import Postgres, Sqlite
from tests.support.local_serve import make_clean_env
from tests.support.source_tree import SLEEP_STAGE, copy_tree
from tests.support.tiny_chain import write_data
from tests.support.waiting import wait_for

START_S = 900.0  # on a machine that is ten times busier


class Served:
    """A served system in a folder of its own."""

    def __init__(self, home: Path, piece: Piece) -> None:
        self.home, self.piece = home, piece
        home.mkdir(parents=True)
        tree = copy_tree(home / "tree", SLEEP_STAGE)
        write_data(home)
        self.layout = home / ".palimpsest"
        self.layout.mkdir()
        self.store: Sqlite | Postgres = (
            Postgres() if piece.store == "postgresql" else Sqlite(self.layout)
        )
        self.effects = home / "effects.jsonl"
        self.environment = make_clean_env(
            **piece.pace.environment(),
            PALIMPSEST_DATABASE_URL=self.store.url,
            PALIMPSEST_DATA_ROOT=str(home),
            **{redis_host.REAL: local_redis.find_binary()},
        )
        self.environment["PYTHONPATH"] = str(tree)
        self.environment["PATH"] = f"{self._redis_on_path()}{os.pathsep}{self.environment['PATH']}"
        self._frozen: list[psutil.Process] = []
        self._freezing = threading.Lock()
        self.url, self.token = "", ""

    def _redis_on_path(self) -> Path:
        folder = self.home / "bin"
        folder.mkdir()
        program = folder / "redis-server"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{redis_host.__file__}" "$@"\n')
        program.chmod(0o755)
        return folder

    def start(self) -> None:
        """Serve until every worker is there."""
        workers = [f"{group}={n}" for group, n in self.piece.pace.workers.items()]
        command = [sys.executable, "-m", "deploy.local.serve", "--workers", *workers]
        with (self.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        said = self.home / "serve.log"
        wait_for(
            lambda: "workers are ready" in said.read_text() or self.process.poll() is not None,
            START_S,
            "serve",
        )
        if self.process.poll() is not None:
            raise RuntimeError(f"serve ended: {said.read_text()[-3000:]}")
        at = json.loads((self.layout / "serve.json").read_text())
        self.url, self.token = at["url"], at["token"]
        self.supervisor = psutil.Process(int((self.layout / "run/supervisord.pid").read_text()))
        config = (self.layout / "run/supervisord.conf").read_text().splitlines()
        self.names = [
            line[len("[program:") : -1] for line in config if line.startswith("[program:")
        ]

    @property
    def workers(self) -> list[str]:
        """Their program names; the fleet calls them `NAME@HOST`."""
        return [name for name in self.names if name.startswith("worker-")]

    def http(self, timeout: float = 10.0) -> httpx.Client:
        """A client with the token."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=timeout,
            trust_env=False,
        )

    def program(self, name: str) -> psutil.Process | None:
        """What the supervisor keeps under this name, if it runs now."""
        word = {
            "gateway": "services.gateway",
            "reconciler": "services.reconciler",
            "redis": redis_host.__file__,
        }.get(name, f"{name}@")
        for process in self.supervisor.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(word in argument for argument in process.cmdline()):
                    return process
        return None

    def family(self, name: str) -> list[psutil.Process]:
        """The program and all that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if (process := self.program(name)) is not None:
                return [process, *process.children(recursive=True)]
        return []

    def lease(self, worker: str) -> psutil.Process | None:
        """The worker's lease process."""
        for process in self.family(worker):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "workers.lease" in process.cmdline():
                    return process
        return None

    def child(self, worker: str) -> psutil.Process | None:
        """The worker's pool child: the parent of its lease process."""
        lease = self.lease(worker)
        with contextlib.suppress(psutil.NoSuchProcess):
            return lease.parent() if lease else None
        return None

    def redis_server(self) -> psutil.Process | None:
        """The real one, on the host that can go away."""
        host = self.family("redis")
        return host[1] if len(host) > 1 else None

    def redis_client(self) -> redis.Redis:
        environment = json.loads((self.layout / "run/env.json").read_text())
        return redis.Redis.from_url(
            environment["PALIMPSEST_BROKER_URL"], socket_timeout=5, socket_connect_timeout=5
        )

    def everything(self) -> list[psutil.Process]:
        """Every process of the system, its store's too."""
        serve = psutil.Process(self.process.pid)
        return [serve, *serve.children(recursive=True), *self.store.processes()]

    @contextlib.contextmanager
    def frozen(self, processes: list[psutil.Process]) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        with self._freezing:
            self._frozen += processes
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            thaw(processes)
            with self._freezing:
                self._frozen = [p for p in self._frozen if p not in processes]

    def logs(self, name: str, last: int = 4000) -> str:
        """The end of a program's log."""
        path = self.layout / "logs" / f"{name}.log"
        return path.read_text(errors="replace")[-last:] if path.exists() else ""

    def close(self) -> None:
        """Stop it all, whatever state it is in."""
        thaw(self._frozen)
        if hasattr(self, "process") and self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for process in psutil.wait_procs(family, timeout=30)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.store.close()


def thaw(processes: list[psutil.Process]) -> None:
    """SIGCONT to those that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
