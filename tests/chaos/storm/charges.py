"""Which fault a lost attempt is charged for: one on that very worker, while it had the job."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tests.chaos.storm.history import Attempt, History, JobHistory

SLACK_S = 1.0  # between the clock of a fault and that of an event


@dataclass(frozen=True)
class Charge:
    """The attempts of a job that were charged: how many, and the faults that account for them."""

    job: JobHistory
    counted: int
    faults: tuple[dict[str, Any], ...]

    @property
    def unmatched(self) -> int:
        """How many no fault explains."""
        return max(0, self.counted - len(self.faults))


def charges(history: History, lines: list[dict[str, Any]], lease_s: float) -> list[Charge]:
    """One for each job that was charged."""
    faults = [line for line in lines if line["what"] == "fault" and line["may_charge"]]
    before_retry: dict[str, int] = defaultdict(int)  # a retry sets the count back
    for line in lines:
        if line["what"] == "action" and line["action"] == "retry" and line["status"] == 202:
            before_retry[line["job"]] += line["lost"]
    found = []
    for job in history.jobs:
        charged = [a for a in job.attempts if a.charged]
        # a count without an event would be a charge too, and so would an event without a count
        if counted := max(job.view["lost_count"] + before_retry[job.id], len(charged)):
            causes = [cause for a in charged if (cause := cause_of(a, faults, lease_s))]
            found.append(Charge(job, counted, tuple(causes)))
    return found


def cause_of(
    attempt: Attempt, faults: list[dict[str, Any]], lease_s: float
) -> dict[str, Any] | None:
    """The last fault that may have ended the attempt: a kill of its worker's processes while it
    ran, or a freeze of them for about a lease that began while it ran or during which it was
    claimed."""
    assert attempt.end is not None
    for fault in sorted(faults, key=lambda f: f["began"], reverse=True):
        began, ended = fault["began"], fault["ended"]
        if fault["worker"] != attempt.worker or began > attempt.end.at + SLACK_S:
            continue
        if "frozen" in fault["kind"]:
            if ended - began > 0.8 * lease_s and ended > attempt.began - SLACK_S:
                return fault
        elif ended > attempt.began - SLACK_S:
            return fault
    return None
