"""`python -m workers.reconciler`: puts lost attempts back and rings bells that were lost. Any number may run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from typing import Protocol

import structlog

from shared import logs
from shared.config import Settings
from shared.errors import TransientError
from shared.jobs import fleet, reconcile
from shared.jobs.database import Database
from shared.jobs.migrations import require_current
from shared.jobs.queue import Bell, CeleryBell, make_celery

log = structlog.get_logger()


class Depths(Protocol):
    """How many bells lie on a stage's queue."""

    def __call__(self, stage: str) -> int: ...


def missing_bells(queued: Mapping[str, int], live: Mapping[str, int], depth: Depths) -> dict[str, int]:
    """Bells to ring so that each list holds min(queued jobs, 2 x live workers): never one a job."""
    wanted = {stage: min(n, 2 * live.get(stage, 0)) for stage, n in queued.items()}
    return {stage: more for stage, n in wanted.items() if n and (more := n - depth(stage)) > 0}


def look(db: Database, bell: Bell, depth: Depths, max_lost: int) -> None:
    """One round."""
    for job in reconcile.expire_leases(db, max_lost):
        log.warning("lease expired", job=job)
    for stage, n in missing_bells(reconcile.queued_by_stage(db), fleet.live_by_stage(db), depth).items():
        for _ in range(n):
            bell.ring(stage)


def main() -> None:
    """Look every few seconds until told to end."""
    logs.setup()
    settings, ended = Settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    db = Database(settings.database_url)
    require_current(db)
    bell = CeleryBell(make_celery(settings.broker_url.get_secret_value()))
    while not ended.wait(settings.reconcile_every):
        try:
            look(db, bell, bell.lying, settings.max_lost)
        except TransientError as error:
            log.warning("the job store is away; trying again", error=str(error))
        except Exception as error:  # whatever kombu and redis raise when the broker is away
            log.warning("bells not rung; trying again", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
