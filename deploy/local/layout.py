"""The folder of `make serve`, and the processes that it runs."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from deploy.local import redis
from deploy.local.secret import write_secret
from shared.registry import list_entry_points, list_plugin_files

# The stages of each worker group, as their wiring says (a test checks that they agree), so that
# nothing here imports torch. A stage that is in no group goes to the last one.
WORKER_GROUPS = {
    "train": ("pretrain", "train"),
    "unlearn": ("unlearn", "defend", "candidates", "retraining"),
    "attack": ("attack", "probe", "shadow"),
    "evaluate": (
        "evaluate",
        "forgetting",
        "ingest",
        "ingest_retrained",
        "inspect_dataset",
        "inspect_model",
        "report",
        "selftest",
    ),
}
PREFERRED_PORT = 8350


@dataclass(frozen=True)
class Layout:
    """Paths in the folder; secrets are readable by their owner only."""

    home: Path

    @property
    def run_folder(self) -> Path:
        return self.home / "run"

    @property
    def logs_folder(self) -> Path:
        return self.home / "logs"

    @property
    def lock_file(self) -> Path:
        return self.run_folder / "lock"

    @property
    def pid_file(self) -> Path:
        return self.run_folder / "supervisord.pid"

    @property
    def config_file(self) -> Path:
        return self.run_folder / "supervisord.conf"

    @property
    def env_file(self) -> Path:
        return self.run_folder / "env.json"

    @property
    def served_file(self) -> Path:
        """Where the client and the CLI find URL and token."""
        return self.home / "serve.json"

    def make_folders(self) -> None:
        """Create the folders."""
        for folder in (self.home, self.run_folder, self.logs_folder, self.home / "redis"):
            folder.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)

    def load_token(self) -> str:
        """The token of this folder, generated once."""
        return self._load_secret("token")

    def load_redis_password(self) -> str:
        """The password of this folder's Redis, generated once; safe in a URL."""
        return self._load_secret("redis-password")

    def _load_secret(self, name: str) -> str:
        path = self.home / name
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(24))
        return path.read_text().strip()


def is_served(layout: Layout) -> bool:
    """Whether a serve runs in this folder, by its lock: `serve.json` may be left from a killed
    serve."""
    try:
        with layout.lock_file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def find_free_port(preferred: int | None = None) -> int:
    """A free loopback port: `preferred` if possible."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def reserve_port(preferred: int) -> tuple[int, IO[str]]:
    """A free port that no other serve of this user takes while the lock is open.

    The gateway's server lets several processes listen on one port, so checking that it is free is
    not enough: two serves that start at the same moment would share it, and each other's requests.
    """
    port = preferred
    while True:
        port = find_free_port(port)
        path = Path(tempfile.gettempdir()) / f"palimpsest-{os.getuid()}-port-{port}.lock"
        lock = os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+"
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            port = 0
            continue
        return port, lock


def list_groups() -> dict[str, list[str]]:
    """Worker groups with their existing stages, read from the folder without imports."""
    spec = find_spec("workers.stages")
    assert spec is not None
    existing = list_plugin_files(spec.submodule_search_locations or ()) + list_entry_points(
        "stages"
    )
    by_group = {
        group: [s for s in stages if s in existing] for group, stages in WORKER_GROUPS.items()
    }
    by_group["evaluate"] += [
        s for s in existing if not any(s in stages for stages in WORKER_GROUPS.values())
    ]
    return by_group


def build_environment(layout: Layout, redis_port: int, workers: int) -> dict[str, str]:
    """Environment variables of every process; those that the user has set take precedence."""
    home = layout.home.absolute()
    password = layout.load_redis_password()
    threads = str(max(1, (os.cpu_count() or 1) // max(1, workers)))
    defaults = {
        "PALIMPSEST_DATABASE_URL": f"sqlite:///{home}/palimpsest.db",
        "PALIMPSEST_BROKER_URL": f"redis://:{password}@127.0.0.1:{redis_port}/0",
        "PALIMPSEST_ARTIFACTS_URL": f"file://{home}/artifacts",
        "PALIMPSEST_TOKEN": layout.load_token(),
        "PALIMPSEST_THREADS": threads,
        # the workers share the memory
        "PALIMPSEST_HOST_WORKERS": str(max(1, workers)),
        "OMP_NUM_THREADS": threads,
        # waiting threads must not spin: other workers need the cores
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
    }
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


def build_commands(
    layout: Layout, redis_port: int, gateway_port: int, workers: dict[str, int]
) -> dict[str, list[str]]:
    """Command lines by program name; `workers` is the number of workers per group."""
    python = [sys.executable, "-m"]
    commands = {
        "redis": redis.build_command(
            redis_port, layout.home.absolute() / "redis", layout.load_redis_password()
        ),
        "gateway": [*python, "services.gateway", "--port", str(gateway_port), "--processes", "1"],
        "reconciler": [*python, "services.reconciler"],
    }
    for group, stages in list_groups().items():
        for n in range(workers.get(group, 1)):
            if stages:
                name = f"worker-{group}-{n + 1}"
                commands[name] = [
                    *python,
                    "workers",
                    "--stages",
                    ",".join(stages),
                    "--name",
                    f"{name}@{socket.gethostname()}",
                ]
    return commands


def build_supervisor_config(
    layout: Layout, commands: dict[str, list[str]], env: dict[str, str]
) -> str:
    """supervisord.conf: each program ends with the supervisor, and is restarted when it ends.

    Groups stop one after the other, the programs of one group together: Redis last, as the others
    send wake-ups when they return their jobs to the queue.
    """
    variables = ",".join(f'{name}="{_escape(value)}"' for name, value in env.items())
    logs = layout.logs_folder.absolute()
    lines = [
        "[supervisord]", "nodaemon=true", f"pidfile={layout.pid_file.absolute()}",
        f"logfile={logs}/supervisord.log", "logfile_maxbytes=5MB", "silent=true",
        f"environment={variables}", "",
        "[group:palimpsest]", f"programs={','.join(name for name in commands if name != 'redis')}",
        "priority=2", "",
    ]  # fmt: skip
    for name, command in commands.items():
        words = " ".join(
            _quote(w) for w in [sys.executable, "-m", "deploy.local.exec_with_parent", *command]
        )
        lines += [
            f"[program:{name}]", f"command={words}", "priority=1", "autorestart=true",
            "startretries=1000", "startsecs=2", "stopwaitsecs=20", "stopasgroup=false",
            "killasgroup=true", f"stdout_logfile={logs}/{name}.log",
            "stdout_logfile_maxbytes=10MB", "redirect_stderr=true", "",
        ]  # fmt: skip
    return "\n".join(lines)


def _escape(value: str) -> str:
    return value.replace("%", "%%").replace('"', '\\"')


def _quote(word: str) -> str:
    return (
        '"' + word.replace("%", "%%").replace('"', '\\"') + '"'
        if not word or set(word) & set(' "%;')
        else word
    )


def write_env(layout: Layout, env: dict[str, str]) -> None:
    """Store the environment for workers that are added later (`python -m deploy.local.worker`)."""
    write_secret(layout.env_file, json.dumps(env))
