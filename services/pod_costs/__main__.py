"""`python -m services.pod_costs`: on Kubernetes, marks the pods of busy workers as more expensive to
delete, so that scaling down removes idle ones first.

One is enough; several do no harm. While it is not running, nothing is lost: a busy worker that is
removed returns its job to the queue.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

import structlog

from services.pod_costs.pod_api import AccessDenied, PodApi, connect_in_cluster
from services.pod_costs.rounds import update_costs
from shared import logs
from shared.config import load_settings
from shared.errors import PalimpsestError, TransientError
from shared.jobs import worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import require_current_schema

log = structlog.get_logger()

SERVICE_NAME = "pod-costs"
INTERVAL_S = 2.0  # a worker that has just claimed a job is not protected for so long
WORKER_PODS = "app.kubernetes.io/name=palimpsest,app.kubernetes.io/component=worker"


def run_round(db: Database, api: PodApi, selector: str) -> bool:
    """Do everything once; whether it went well. What goes wrong is logged, for the next round."""
    try:
        changed_count = update_costs(db, api, selector)
        worker_registry.record_service_heartbeat(db, SERVICE_NAME)
    except AccessDenied as error:
        log.error("costs not updated", error=str(error))
        return False
    except TransientError as error:
        log.warning("costs not updated; retrying", error=str(error))
        return False
    if changed_count:
        log.info("costs updated", pods=changed_count)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Update costs every few seconds until stopped; returns 2 if it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m services.pod_costs", description=__doc__)
    parser.add_argument(
        "--interval-s",
        type=float,
        default=INTERVAL_S,
        help="seconds between two rounds (default: %(default)s)",
    )
    parser.add_argument(
        "--selector",
        default=WORKER_PODS,
        help="labels of the pods of workers (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    logs.configure_logging()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        db = Database(load_settings().database_url)
        require_current_schema(db)
        api = connect_in_cluster()
    except PalimpsestError as error:
        sys.stderr.write(f"pod_costs: {error}\n")
        return 2
    while not stopped.wait(options.interval_s):
        run_round(db, api, options.selector)
    return 0


if __name__ == "__main__":
    sys.exit(main())
