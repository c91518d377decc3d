"""`python -m services.gateway` serves the gateway, or says in plain words why it does not."""

from __future__ import annotations

import argparse
import sys

from granian import Granian
from granian.constants import Interfaces

from services.gateway.auth import required_token
from shared.config import Settings
from shared.errors import InvalidRequest, PalimpsestError
from shared.jobs.database import Database
from shared.jobs.migrations import require_current

KILL_AFTER = 10  # seconds that a process has for the requests it is at; streams resume elsewhere


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=64, help="threads of each process; an event stream holds one")
    chosen = parser.parse_args(arguments)
    try:
        _check(chosen.threads)
    except PalimpsestError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2
    server = Granian(
        "services.gateway.wsgi:app",
        factory=True,
        address=chosen.host,
        port=chosen.port,
        interface=Interfaces.WSGI,
        workers=chosen.processes,
        blocking_threads=chosen.threads,
        backpressure=chosen.threads * 2,
        respawn_failed_workers=True,
        # without it, one that is told to end while it starts is waited for without end
        workers_kill_timeout=KILL_AFTER,
    )
    server.serve()
    return 0


def _check(threads: int) -> None:
    """Fail here, once and readably, and not in every process of the server."""
    settings = Settings()
    if threads <= settings.max_events:
        raise InvalidRequest(
            f"{settings.max_events} event streams could hold all {threads} threads: "
            "give more --threads, or a lower PALIMPSEST_MAX_EVENTS"
        )
    required_token(settings)
    db = Database(settings.database_url)
    try:
        require_current(db)
    finally:
        db.close()


if __name__ == "__main__":
    sys.exit(main())
