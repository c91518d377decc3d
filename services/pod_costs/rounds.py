"""One round: every worker's pod costs more to delete while it runs a job."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import structlog

from services.pod_costs.pod_api import PodApi
from shared.errors import Conflict, NotFound
from shared.jobs import worker_registry
from shared.jobs.database import Database

log = structlog.get_logger()

BUSY_COST = 100
IDLE_COST = 0  # what Kubernetes assumes of a pod without the annotation


def plan_changes(costs: Mapping[str, str | None], busy: Collection[str]) -> list[tuple[str, int]]:
    """The pods whose cost has to change, with the new cost; first those that must be protected.

    Args:
        costs: the present cost by pod, None without one.
        busy: names of the workers that run a job; a worker is named after its pod.
    """
    changes = []
    for pod, cost in sorted(costs.items()):
        wanted = BUSY_COST if pod in busy else IDLE_COST
        if cost != str(wanted) and not (cost is None and wanted == IDLE_COST):
            changes.append((pod, wanted))
    return sorted(changes, key=lambda change: -change[1])


def update_costs(db: Database, api: PodApi, selector: str) -> int:
    """Do one round; returns how many pods were changed. Nothing is remembered between two rounds:
    the pods and the job store say all that is needed.

    Raises:
        AccessDenied, TransientError: nothing more can be done in this round.
    """
    costs = api.list_costs(selector)
    busy = worker_registry.list_busy_workers(db)  # after the pods: the later, the truer
    n_changed = 0
    for pod, cost in plan_changes(costs, busy):
        try:
            api.set_cost(pod, cost)
        except NotFound:
            continue
        except Conflict:
            log.info("a pod was changed at the same moment; trying again", pod=pod)
            continue
        n_changed += 1
    return n_changed
