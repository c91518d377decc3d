"""`python -m services.gateway`: run the gateway's HTTP server."""

from __future__ import annotations

import argparse
import resource
import sys
from functools import partial

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from services.gateway.asgi import create_asgi_app
from services.gateway.credentials import require_credentials
from services.signing import load_configured_key
from services.webhooks.address import parse_networks
from shared.artifacts import ArtifactStore
from shared.config import Settings, load_settings
from shared.errors import PalimpsestError
from shared.jobs.database import Database
from shared.jobs.migrations import require_current_schema
from shared.jobs.tenants import ensure_tenant

KILL_TIMEOUT_S = 10  # for requests in progress when a process stops; streams resume elsewhere
MAX_HEAD_BYTES = 64 << 10  # request line and headers
BACKLOG = 2048  # connections that the kernel queues until they are accepted
RESERVED_FILES = 256  # descriptors not used for clients: job store, broker, artifacts, logs


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; returns 2 if the server cannot start."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind to (default: loopback only)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="port to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="number of processes (default: %(default)s)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=32,
        help="number of requests that each process handles at once (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        settings = _load_settings()
    except PalimpsestError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2
    server = Granian(
        "services.gateway.asgi:app",
        address=options.host,
        port=options.port,
        interface=Interfaces.ASGI,
        workers=options.processes,
        backlog=BACKLOG,
        backpressure=_limit_connections(settings.max_connections),
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(settings.head_timeout_s * 1000),
            max_buffer_size=MAX_HEAD_BYTES,
        ),
        websockets=False,
        respawn_failed_workers=True,
        # without it, stopping a process while it starts would hang
        workers_kill_timeout=KILL_TIMEOUT_S,
    )
    server.serve(target_loader=partial(create_asgi_app, options.threads), wrap_loader=False)
    return 0


def _load_settings() -> Settings:
    """Load and check the settings, so that a mistake is reported once and not by every server
    process."""
    settings = load_settings()
    load_configured_key(settings)
    parse_networks(settings.webhook_allow)
    ArtifactStore.from_url(settings.artifacts_url)
    db = Database(settings.database_url)
    try:
        require_current_schema(db)
        require_credentials(db, settings)
        ensure_tenant(db, settings.tenant)
    finally:
        db.close()
    return settings


def _limit_connections(requested: int) -> int:
    """The requested number of connections, or as many as the limit of open files allows: a server
    that runs out of descriptors can answer nobody. Raises the soft limit as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed_files = requested + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < needed_files:
        soft = needed_files if hard == resource.RLIM_INFINITY else min(needed_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed_files:
            available = max(soft - RESERVED_FILES, soft // 2)
            sys.stderr.write(
                f"gateway: the limit of {soft} open files allows {available} connections per "
                f"process instead of {requested}: raise the limit (ulimit -n), or lower "
                "PALIMPSEST_MAX_CONNECTIONS\n"
            )
            return available
    return requested


if __name__ == "__main__":
    sys.exit(main())
