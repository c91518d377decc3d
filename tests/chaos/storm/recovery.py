"""How long it took from the end of a fault until every job that ran or could be claimed then ran
again, or had ended.

Not counted: the back-off after a lost attempt, and the time in which another fault kept away what
all jobs need.
"""

from __future__ import annotations

import math
from typing import Any

from tests.chaos.storm.charges import cause_of
from tests.chaos.storm.faults import SHARED
from tests.chaos.storm.history import Attempt, History, JobHistory

Fault = dict[str, Any]


def recoveries(
    history: History, lines: list[Fault], lease_s: float
) -> list[tuple[Fault, float, JobHistory | None]]:
    """For each fault the seconds, and the job that took longest."""
    faults = [line for line in lines if line["what"] == "fault"]
    charging = [f for f in faults if f["may_charge"]]
    away = [(float(f["began"]), float(f["ended"])) for f in faults if f["on"] in SHARED]
    found = []
    for fault in faults:
        spans = [(span(job, fault["ended"], charging, lease_s), job) for job in history.jobs]
        took = [
            (seconds_outside(since, until, away + pauses(job)), job)
            for (since, until), job in spans
        ]
        worst = max(took, key=lambda pair: pair[0], default=(0.0, None))
        found.append((fault, worst[0], worst[1] if worst[0] else None))
    return found


def span(
    job: JobHistory, moment: float, charging: list[Fault], lease_s: float
) -> tuple[float, float]:
    """From when to when the job stood still after the moment; nothing if it did not run and could
    not be claimed."""
    at = [s for s in job.steps if s.at <= moment]
    if not at or at[-1].to not in ("queued", "running"):
        return moment, moment
    if at[-1].to == "running":
        attempt = next(a for a in reversed(job.attempts) if a.began <= moment)
        if goes_on(attempt, moment, charging, lease_s):
            return moment, moment
    back = next((s for s in job.steps if s.at > moment and s.to != "queued"), None)
    if back is None:
        return moment, math.inf
    return moment, back.at


def pauses(job: JobHistory) -> list[tuple[float, float]]:
    """When the job was kept from being claimed after a lost attempt."""
    return [(s.at, s.at + float(s.data["pause_s"])) for s in job.steps if s.data.get("pause_s")]


def seconds_outside(since: float, until: float, away: list[tuple[float, float]]) -> float:
    """How long it is from `since` to `until` without the times in `away`."""
    outside = until - since
    for begin, end in sorted(away):
        begin, end = max(begin, since), min(end, until)
        outside -= max(0.0, end - begin)
        since = max(since, end)  # what is in two of them is left out once
    return max(0.0, outside)


def goes_on(attempt: Attempt, moment: float, charging: list[Fault], lease_s: float) -> bool:
    """Whether it outlived the moment: it was not lost, said later that it goes on, or was lost by a
    later fault."""
    if not attempt.lost or any(beat > moment for beat in attempt.beats):
        return True
    cause = cause_of(attempt, charging, lease_s)
    return cause is not None and cause["began"] > moment
