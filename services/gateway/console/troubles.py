"""What keeps work from being done, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.console.words import format_seconds, pluralize
from services.gateway.deps import current_gateway
from services.gateway.queue_reading import StageQueue
from shared.jobs import stage_pauses, worker_registry
from shared.jobs.records import Worker

RECONCILER = "reconciler"
SILENT_AFTER_S = 60.0  # rounds of the reconciler are seconds apart
LINES = 4  # of one kind


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong: what, and what to do."""

    what: str
    remedy: str
    command: str = ""


def find_troubles(
    queues: Mapping[str, StageQueue],
    workers: Sequence[Worker],
    *,
    service_ages_s: Mapping[str, float],
    broker_is_away: bool,
) -> list[Trouble]:
    """What is wrong, worst first."""
    troubles = []
    if broker_is_away:
        troubles.append(
            Trouble(
                "Redis does not answer.",
                "Nothing is lost: workers look for work by themselves every few seconds. Start it "
                "again, or check PALIMPSEST_BROKER_URL.",
                "make doctor",
            )
        )
    silent_s = service_ages_s.get(RECONCILER)
    if silent_s is not None and silent_s > SILENT_AFTER_S:
        troubles.append(
            Trouble(
                f"The reconciler has been silent for {format_seconds(silent_s)}.",
                "Until it is back, jobs of workers that died do not go on, and nothing expires.",
                "python -m services.reconciler",
            )
        )
    unserved = [
        queue
        for queue in queues.values()
        if queue.counts.get("queued") and not queue.workers and queue.paused_at is None
    ]
    troubles += [tell_unserved(q.stage, q.counts["queued"]) for q in unserved[:LINES]]
    paused = [queue.stage for queue in queues.values() if queue.paused_at is not None]
    troubles += [tell_paused(stage) for stage in paused[:LINES]]
    for worker in [w for w in workers if w.live and w.drained_at is not None][:LINES]:
        troubles.append(
            Trouble(
                f"The worker {worker.id} is drained.",
                "It takes no job until it is undrained.",
                f"palimpsest undrain {worker.id}",
            )
        )
    return troubles


def tell_unserved(stage: str, queued: int) -> Trouble:
    """That nobody takes the jobs of a stage."""
    verb = "waits" if queued == 1 else "wait"
    return Trouble(
        f"{pluralize(queued, f'{stage} job')} {verb}, and no worker serves {stage}.",
        "Start one, or undrain one that serves it.",
        f"make worker STAGES={stage}",
    )


def tell_paused(stage: str) -> Trouble:
    """That the jobs of a stage may not be taken."""
    return Trouble(
        f"The stage {stage} is paused.",
        "Its jobs wait until somebody with the scope admin resumes it.",
        f"palimpsest resume --stage {stage}",
    )


def find_waiting_troubles(queued: Mapping[str, int]) -> list[Trouble]:
    """Why some jobs wait longer than for their turn, in two queries; none if no job is queued.

    Args:
        queued: how many of these jobs are queued, by stage.

    Raises:
        TransientError: the job store does not answer.
    """
    stages = sorted(stage for stage, n in queued.items() if n)
    if not stages:
        return []
    db = current_gateway().deps.db
    paused = stage_pauses.list_paused_stages(db)
    workers = worker_registry.count_live_by_stage(db)
    return [
        tell_paused(stage) if stage in paused else tell_unserved(stage, queued[stage])
        for stage in stages
        if stage in paused or not workers.get(stage)
    ][:LINES]
