"""Overhead of the service for an attack: `python -m benchmarks.engine.attacks [--seconds 30]
[--rounds 5]`.

Overhead: CPU seconds of a worker (with its lease process) on one attack over those of the same
stage in a bare process. Scaling: how much faster two attack workers are than one, over how much
faster two bare processes are than one, on the same attacks. One thread each; everything
interleaved, median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sqlalchemy import func, select

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from shared.jobs import queries, submit
from shared.jobs.plan import plan, plan_job
from shared.jobs.queue import CeleryWakeup, make_celery
from shared.jobs.records import Input, Job
from shared.jobs.spec import AuditSpec
from shared.jobs.states import State
from shared.jobs.tables import jobs
from tests.support.source_tree import ROOT
from tests.support.system import TENANT, System
from tests.support.waiting import wait_for

AUDIT = {
    "dataset": "mnist_5k",
    "model": "convnet",
    "pretrain": {"epochs": 1},
    "forget": {"deletions": 1},
    "unlearning": ["gradient_ascent"],
    "attacks": [{"name": "feature_recovery", "params": {"iterations": 10}}],
}
STAGES_BEFORE = "pretrain,train,unlearn,defend"
TIMEOUT_S = 1800
# the protocol's default times, and checkpoints as rare as in a bare process
PROTOCOL_SETTINGS = {
    "PALIMPSEST_LEASE_S": "45",
    "PALIMPSEST_LEASE_RENEW_S": "3",
    "PALIMPSEST_RECONCILE_INTERVAL_S": "5",
    "PALIMPSEST_CHECKPOINT_INTERVAL_S": "10",
}

_BARE_SCRIPT = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
torch.set_deterministic_debug_mode("warn")
from workers.catalog import load_catalog
from workers.context import JobContext
from workers.runner import _get_method, _parse_params
from workers.stages import registry

folder, iterations, seeds = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
inputs = {p.name: p.read_bytes() for p in folder.iterdir()}
catalog, stage = load_catalog(), registry.get("attack")
method = _get_method(stage, "feature_recovery")
flat = catalog.check("attack", "feature_recovery", {"iterations": iterations}, inputs).params
params, method_params = _parse_params(catalog, stage, method, flat)
# the cost that only the first attack of a process has
short = method_params.model_copy(update={"iterations": 1})
stage.target(JobContext(params=params, method=method, method_params=short, inputs=inputs))
print("ready", flush=True)
sys.stdin.readline()
wall, cpu = time.perf_counter(), time.process_time()
for seed in seeds:
    torch.manual_seed(seed)
    stage.target(JobContext(params=params, method=method, method_params=method_params, inputs=inputs, seed=seed))
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


class AttackBenchmark:
    """A served system in which the inputs of an attack exist, and the same inputs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.system = System(folder / "system", ROOT, **PROTOCOL_SETTINGS)
        self.system.start_reconciler()
        self.system.start_worker(STAGES_BEFORE, name="before", timeout_s=TIMEOUT_S)
        catalog = self.system.load_catalog()
        planned = plan(AuditSpec.model_validate(AUDIT), catalog)
        submitted = submit.submit_jobs(self.system.db, TENANT, planned)
        self.notify(*STAGES_BEFORE.split(","))
        self.attack = self.system.get_job(
            next(submitted.jobs[p.request_key] for p in planned if p.stage == "attack")
        )
        parents = {i.role: (str(i.parent), i.parent_role or i.role) for i in self.attack.inputs}
        (folder / "inputs").mkdir()
        for role, (parent, parent_role) in parents.items():
            job = self.system.wait(parent, TIMEOUT_S)
            digest = next(a.sha256 for a in job.artifacts if a.role == parent_role)
            (folder / "inputs" / role).write_bytes(self.system.artifacts.get(digest))
        self.system.kill("before", group=True)
        self.parent_request_keys = {
            parent: self.system.get_job(parent).request_key for parent, _ in parents.values()
        }
        self.inputs = tuple(
            Input(role, parent=p, parent_role=made) for role, (p, made) in parents.items()
        )

    def notify(self, *stages: str) -> None:
        wakeup_queue = CeleryWakeup(make_celery(self.system.redis.url))
        for stage in stages:
            wakeup_queue.notify(stage)
            wakeup_queue.notify(stage)

    def submit_attacks(self, iterations: int, seeds: list[int]) -> list[str]:
        """Submit attacks that never ran before; returns their ids."""
        catalog = self.system.load_catalog()
        planned = [
            plan_job(
                catalog, "attack", "feature_recovery", {"iterations": iterations}, seed, self.inputs,
                parent_request_keys=self.parent_request_keys, no_cache=True,
            )
            for seed in seeds
        ]  # fmt: skip
        submitted = submit.submit_jobs(self.system.db, TENANT, planned)
        self.notify("attack")
        return [submitted.jobs[p.request_key] for p in planned]

    def wait_for_jobs(self, ids: list[str]) -> list[Job]:
        def all_succeeded() -> bool:
            with self.system.db.read() as connection:
                done = select(func.count()).where(
                    jobs.c.id.in_(ids), jobs.c.state == State.SUCCEEDED
                )
                count = connection.execute(done).scalar_one()
            return bool(count == len(ids))

        wait_for(all_succeeded, TIMEOUT_S, "the attacks are done", interval_s=0.5)
        return [queries.get_job(self.system.db, TENANT, i) for i in ids]

    def run_served(self, workers: int, iterations: int, seeds: list[int]) -> tuple[float, float]:
        """Wall seconds from the first claim to the last end, and the workers' CPU seconds
        meanwhile."""
        names = [f"attack-{n}" for n in range(workers)]
        for name in names:
            self.system.start_worker("attack", name=name, timeout_s=TIMEOUT_S)
        # after the attack of the audit, which is not measured
        self.wait_for_jobs(self.submit_attacks(1, list(range(4 * workers))))
        before = sum(self.read_cpu_s(name) for name in names)
        ended = self.wait_for_jobs(self.submit_attacks(iterations, seeds))
        cpu = sum(self.read_cpu_s(name) for name in names) - before
        for name in names:
            self.system.kill(name, group=True)
        return max(float(j.finished_at or 0) for j in ended) - min(
            float(j.started_at or 0) for j in ended
        ), cpu

    def read_cpu_s(self, name: str) -> float:
        """CPU seconds of a worker and its processes."""
        parent = psutil.Process(self.system.processes[name].pid)
        return sum(sum(p.cpu_times()[:2]) for p in [parent, *parent.children(recursive=True)])

    def run_bare(self, processes: int, iterations: int, seeds: list[int]) -> tuple[float, float]:
        """The same in bare processes, which divide the seeds among them."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        running = []
        for n in range(processes):
            words = [str(self.folder / "inputs"), str(iterations), json.dumps(seeds[n::processes])]
            running.append(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-c", _BARE_SCRIPT, *words],
                    env=env,
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        start = time.perf_counter()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [
            json.loads(process.stdout.readline())
            for process in running
            if process.stdout is not None
        ]
        wall = time.perf_counter() - start
        for process in running:
            process.communicate()
        return wall, sum(cpu for _, cpu in answers)


def run_round(
    bench: AttackBenchmark, iterations: int, seeds: list[int], *, served_first: bool
) -> dict[str, float]:
    """One round: a long attack, then a short one per seed with one and with two workers; served and
    bare in turn."""
    runners = {"bare": bench.run_bare, "served": bench.run_served}
    order = sorted(runners, reverse=served_first)
    short_iterations = max(1, iterations // len(seeds))
    cpu_s = {kind: runners[kind](1, iterations, seeds[:1])[1] for kind in order}
    one_worker_s = {way: runners[way](1, short_iterations, seeds)[0] for way in order}
    two_workers_s = {way: runners[way](2, short_iterations, seeds)[0] for way in order}
    speed_up = {way: one_worker_s[way] / two_workers_s[way] for way in order}
    return {
        "bare_cpu_s": round(cpu_s["bare"], 2),
        "served_cpu_s": round(cpu_s["served"], 2),
        "overhead": round(cpu_s["served"] / cpu_s["bare"], 3),
        "bare_speed_up": round(speed_up["bare"], 3),
        "served_speed_up": round(speed_up["served"], 3),
        "ratio": round(speed_up["served"] / speed_up["bare"], 3),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=30,
        help="duration of the attack that measures the overhead",
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measured_under = describe_conditions()
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as name:
        bench = AttackBenchmark(Path(name))
        try:
            _, cpu = bench.run_bare(1, 200, [0])
            long_iterations = int(200 * options.seconds / cpu)
            rounds: list[dict[str, float]] = []
            for n in range(options.rounds):
                seeds = [1000 + 10 * n + i for i in range(4)]
                rounds.append(run_round(bench, long_iterations, seeds, served_first=bool(n % 2)))
                print(rounds[-1], flush=True)
        finally:
            bench.system.close()
    rounds.append({key: statistics.median(r[key] for r in rounds) for key in rounds[0]})
    print_table(rounds)
    write_results("attacks", measured_under, rounds)


if __name__ == "__main__":
    main()
