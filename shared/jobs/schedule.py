"""How long a plan takes on given workers: its jobs in the order of the plan, each as soon as its
inputs are there and a worker is free."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from shared.jobs.records import PlannedJob


def estimate_wall_s(
    planned: Sequence[PlannedJob],
    seconds: Mapping[str, float],
    workers: Mapping[frozenset[str], int],
) -> float | None:
    """Seconds from the first job's start to the last one's end, if nothing else runs.

    Args:
        planned: parents before children.
        seconds: by request key; jobs that are not in it have ended already.
        workers: by the stages that they serve, how many workers there are.

    Returns None if a stage has no worker.
    """
    pending = {job.request_key: job for job in planned if job.request_key in seconds}
    served = frozenset().union(*(stages for stages, n in workers.items() if n > 0))
    if any(job.stage not in served for job in pending.values()):
        return None
    order = {key: n for n, key in enumerate(pending)}
    keys = list(pending)
    waits = {key: {i.parent for i in job.inputs} & pending.keys() for key, job in pending.items()}
    children: dict[str, list[str]] = {}
    for key, parents in waits.items():
        for parent in parents:
            children.setdefault(str(parent), []).append(key)
    ready: dict[str, list[int]] = {}  # by stage, places in the plan
    free = dict(workers)
    running: list[tuple[float, int, frozenset[str]]] = []
    now = 0.0

    def add_ready(key: str) -> None:
        heapq.heappush(ready.setdefault(pending[key].stage, []), order[key])

    def start_ready() -> None:
        for stages in free:
            while free[stages] > 0:
                queues = [queue for stage in stages if (queue := ready.get(stage))]
                if not queues:
                    break
                place = heapq.heappop(min(queues, key=lambda queue: queue[0]))
                free[stages] -= 1
                heapq.heappush(running, (now + seconds[keys[place]], place, stages))

    for key, parents in waits.items():
        if not parents:
            add_ready(key)
    start_ready()
    while running:
        now, place, stages = heapq.heappop(running)
        free[stages] += 1
        for child in children.get(keys[place], ()):
            waits[child].discard(keys[place])
            if not waits[child]:
                add_ready(child)
        start_ready()
    return now
