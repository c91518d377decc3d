"""What previews cost an attack: `python -m benchmarks.engine.previews [--rounds N] [--seconds S]`.

The same attack runs with and without them, in turn, in this process and on one thread, with the
hooks of a worker over a job store in a SQLite file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.conditions import DISK_FOLDER, describe_conditions, print_table
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from tests.support.job_store import JobStore, make_planned_job
from workers.attempt import AttemptHooks
from workers.attempt_state import AttemptState
from workers.context import StageOutput
from workers.local import run_stage

DATASET = "mnist_5k"
MODEL = {"name": "convnet"}
TRIAL_STEPS = 20


class Hooks(AttemptHooks):
    """As a worker has them, with or without previews; counts what it stored."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, shows: bool) -> None:
        store.post(make_planned_job(f"{time.monotonic()}"))
        claim = store.claim_one()
        super().__init__(Settings(), store.db, artifacts, AttemptState.create(), claim, 1)
        self.cache_key = "key"
        self.shows, self.count, self.bytes, self.drawing_s = shows, 0, 0, 0.0

    def offer_preview(self, done: int, total: int, draw: Callable[[], bytes]) -> None:
        if not self.shows:
            return
        began_at = time.perf_counter()

        def draw_counted() -> bytes:
            body = draw()
            self.count, self.bytes = self.count + 1, len(body)
            return body

        super().offer_preview(done, total, draw_counted)
        self.drawing_s += time.perf_counter() - began_at


def run_attack(inputs: Mapping[str, StageOutput], hooks: Hooks, iterations: int) -> dict[str, Any]:
    """One attack: steps per second on the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run_stage("attack", inputs, "feature_recovery", hooks=hooks, iterations=iterations)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "steps_per_s": iterations / wall,
        "steps_per_cpu_s": iterations / cpu,
        "previews": hooks.count,
        "bytes": hooks.bytes,
        "share": hooks.drawing_s / wall,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each attack, about")
    options = parser.parse_args()
    torch.set_num_threads(1)
    inputs = run_stage("pretrain", {}, dataset=DATASET, model=MODEL, epochs=1)
    inputs |= run_stage("train", inputs, dataset=DATASET)
    inputs |= run_stage("unlearn", inputs, "gradient_ascent", deletions=8)
    print(describe_conditions())
    rows = []
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as name:
        db = Database(f"sqlite:///{name}/palimpsest.db")
        migrate(db)
        store, artifacts = JobStore(db), ArtifactStore.from_url(f"file://{Path(name)}/artifacts")
        first = run_attack(inputs, Hooks(store, artifacts, False), TRIAL_STEPS)
        iterations = max(TRIAL_STEPS, round(options.seconds * first["steps_per_s"]))
        for n in range(options.rounds):
            found = {
                shows: run_attack(inputs, Hooks(store, artifacts, shows), iterations)
                for shows in ((False, True) if n % 2 else (True, False))
            }
            row: dict[str, Any] = {"round": n + 1, "load": round(os.getloadavg()[0], 1)}
            for unit in ("steps_per_s", "steps_per_cpu_s"):
                row |= {
                    f"{unit}, without": round(found[False][unit], 2),
                    f"{unit}, with": round(found[True][unit], 2),
                }
            rows.append(
                row
                | {name: found[True][name] for name in ("previews", "bytes")}
                | {"share": round(found[True]["share"], 4)}
            )
        db.close()
    print_table(rows)
    ratios = [row["steps_per_cpu_s, with"] / row["steps_per_cpu_s, without"] for row in rows]
    print(f"median of with / without, per CPU second: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
