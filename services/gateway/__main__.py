"""`python -m services.gateway` serves the gateway, or says in plain words why it does not."""

from __future__ import annotations

import argparse
import resource
import sys
from functools import partial

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from services.gateway.asgi import app
from services.gateway.auth import required_token
from shared.config import Settings, load_settings
from shared.errors import PalimpsestError
from shared.jobs.database import Database
from shared.jobs.migrations import require_current

KILL_AFTER = 10  # seconds that a process has for the requests it is at; streams resume elsewhere
HEAD_BYTES = 64 << 10  # of a request's line and headers that are buffered
BACKLOG = 2048  # connections that the kernel keeps until they are accepted
OTHER_FILES = 256  # descriptors of a process that are no client's: job store, broker, artifacts, logs


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=32, help="requests that each process works on at once")
    chosen = parser.parse_args(arguments)
    try:
        settings = _check()
    except PalimpsestError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2
    server = Granian(
        "services.gateway.asgi:app",
        address=chosen.host,
        port=chosen.port,
        interface=Interfaces.ASGI,
        workers=chosen.processes,
        backlog=BACKLOG,
        backpressure=_connections(settings.max_connections),
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(settings.head_timeout_s * 1000), max_buffer_size=HEAD_BYTES
        ),
        websockets=False,
        respawn_failed_workers=True,
        # without it, one that is told to end while it starts is waited for without end
        workers_kill_timeout=KILL_AFTER,
    )
    server.serve(target_loader=partial(app, chosen.threads), wrap_loader=False)
    return 0


def _check() -> Settings:
    """Fail here, once and readably, and not in every process of the server."""
    settings = load_settings()
    required_token(settings)
    db = Database(settings.database_url)
    try:
        require_current(db)
    finally:
        db.close()
    return settings


def _connections(wanted: int) -> int:
    """As many connections as were asked for, or as the limit of open files leaves room for: out of
    descriptors, a server can answer nobody. The limit is raised as far as this user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < need:
            room = max(soft - OTHER_FILES, soft // 2)
            sys.stderr.write(
                f"gateway: {soft} files may be open, so {room} connections a process instead of {wanted}: "
                "raise the limit (ulimit -n), or lower PALIMPSEST_MAX_CONNECTIONS\n"
            )
            return room
    return wanted


if __name__ == "__main__":
    sys.exit(main())
