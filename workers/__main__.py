"""`python -m workers --stages attack`: start one worker with a unique name and the required Celery
settings."""

from __future__ import annotations

import argparse
import os
import socket

from workers.app import STAGES, app


def main() -> None:
    """Start Celery's worker for these stages."""
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="Run one Palimpsest worker."
    )
    parser.add_argument(
        "--stages",
        default=",".join(STAGES),
        help=f"stages to serve, separated by commas; default: all ({', '.join(STAGES)})",
    )
    parser.add_argument(
        "--name", help="name shown in /v1/workers; default: stages, host and process id"
    )
    given = parser.parse_args()
    name = given.name or f"{given.stages.replace(',', '-')}@{socket.gethostname()}-{os.getpid()}"
    os.environ |= {"PALIMPSEST_WORKER": name, "PALIMPSEST_STAGES": given.stages}
    app.worker_main(
        [
            "worker",
            "-Q",
            given.stages,
            "-n",
            name,
            "--loglevel",
            "WARNING",
            "--without-gossip",
            "--without-mingle",
        ]
    )


if __name__ == "__main__":
    main()
