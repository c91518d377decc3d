"""What keeps work from being done, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.console.words import format_seconds, pluralize
from services.gateway.queue_reading import StageQueue
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
    for queue in unserved[:LINES]:
        waiting = pluralize(queue.counts["queued"], f"{queue.stage} job")
        verb = "waits" if queue.counts["queued"] == 1 else "wait"
        troubles.append(
            Trouble(
                f"{waiting} {verb}, and no worker serves {queue.stage}.",
                "Start one.",
                f"make worker STAGES={queue.stage}",
            )
        )
    for queue in [q for q in queues.values() if q.paused_at is not None][:LINES]:
        troubles.append(
            Trouble(
                f"The stage {queue.stage} is paused.",
                "Its jobs wait until somebody with the scope admin resumes it.",
                f"palimpsest resume --stage {queue.stage}",
            )
        )
    for worker in [w for w in workers if w.live and w.drained_at is not None][:LINES]:
        troubles.append(
            Trouble(
                f"The worker {worker.id} is drained.",
                "It takes no job until it is undrained.",
                f"palimpsest undrain {worker.id}",
            )
        )
    return troubles
