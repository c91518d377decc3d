"""`python -m workers --stages attack`: start one worker with a unique name and the required Celery
settings."""

from __future__ import annotations

import argparse
import os
import socket

from workers.app import STAGES, app
from workers.service_name import find_service_name, list_own_addresses


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
    parser.add_argument(
        "--service",
        help="in a container of docker compose, instead of --name: the service, which gives "
        "SERVICE-NUMBER as the name",
    )
    parser.add_argument(
        "--machine",
        default="",
        help="with --service: appended to the name as @MACHINE, if several machines run the "
        "same services",
    )
    given = parser.parse_args()
    name = given.name or _name_after_service(given.service, given.machine)
    name = name or f"{given.stages.replace(',', '-')}@{socket.gethostname()}-{os.getpid()}"
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


def _name_after_service(service: str | None, machine: str) -> str | None:
    name = service and find_service_name(service, list_own_addresses())
    return f"{name}@{machine}" if name and machine else name


if __name__ == "__main__":
    main()
