"""The load: audits that arrive over a day, and the jobs that each one is."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

DAY_S = 86400.0
NIGHT_SHARE = 0.1  # of the rate at the busiest hour
BUSIEST_HOUR = 14.0

# Median of the duration of a job on one core in seconds, and the spread of its logarithm. They are
# assumed: what a job takes depends on the data, the model and the machine.
TRAIN_S = (180.0, 0.5)
UNLEARN_S = (60.0, 0.7)
ATTACK_S = (300.0, 0.8)
EVALUATE_S = (15.0, 0.5)
REPORT_S = (8.0, 0.2)


@dataclass(frozen=True)
class PlannedJob:
    """One job of an audit.

    group: the worker group that serves its stage.
    duration_s: on a worker, without interruption.
    parents: indexes of the jobs of its audit that it waits for.
    has_checkpoints: whether it goes on where it was stopped.
    """

    group: str
    duration_s: float
    parents: tuple[int, ...]
    has_checkpoints: bool


@dataclass(frozen=True)
class Audit:
    """An audit that arrives at a time of the day."""

    at_s: float
    jobs: tuple[PlannedJob, ...]


def draw_day(seed: int, audits_per_day: int) -> list[Audit]:
    """The audits of a day in the order in which they arrive; the same for the same seed."""
    rng = random.Random(seed)
    return [Audit(at_s, tuple(_draw_jobs(rng))) for at_s in _draw_arrivals(rng, audits_per_day)]


def _draw_arrivals(rng: random.Random, mean_count: int) -> Iterator[float]:
    """Of a Poisson process whose rate is highest at BUSIEST_HOUR, and lowest twelve hours later."""
    rates = [_get_relative_rate(hour + 0.5) for hour in range(24)]
    peak_per_s = mean_count / (sum(rates) * 3600)
    at_s = 0.0
    while (at_s := at_s + rng.expovariate(peak_per_s)) < DAY_S:
        if rng.random() < _get_relative_rate(at_s / 3600):
            yield at_s


def _get_relative_rate(hour: float) -> float:
    """From NIGHT_SHARE to 1."""
    wave = (1 + math.cos(2 * math.pi * (hour - BUSIEST_HOUR) / 24)) / 2
    return NIGHT_SHARE + (1 - NIGHT_SHARE) * wave**2


def _draw_jobs(rng: random.Random) -> Iterator[PlannedJob]:
    """One training, two to four unlearning methods with two defenses each, two attacks on each
    release, an evaluation of each attack, a report."""

    def draw(group: str, duration: tuple[float, float], *parents: int) -> PlannedJob:
        median_s, spread = duration
        seconds = median_s * math.exp(rng.gauss(0, spread))
        return PlannedJob(group, seconds, parents, has_checkpoints=group != "evaluate")

    jobs = [draw("train", TRAIN_S)]
    evaluations = []
    for _ in range(rng.randint(2, 4)):
        jobs.append(draw("unlearn", UNLEARN_S, 0))
        unlearned = len(jobs) - 1
        for _ in range(2):
            jobs.append(draw("unlearn", UNLEARN_S, unlearned))
            release = len(jobs) - 1
            for _ in range(2):
                jobs.append(draw("attack", ATTACK_S, release))
                jobs.append(draw("evaluate", EVALUATE_S, len(jobs) - 1))
                evaluations.append(len(jobs) - 1)
    jobs.append(draw("evaluate", REPORT_S, *evaluations))
    yield from jobs
