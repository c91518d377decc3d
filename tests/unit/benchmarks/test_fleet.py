"""The simulated fleet: what an autoscaler asks for, and what a day on it comes to."""

from __future__ import annotations

import json

import pytest

from benchmarks.fleet.__main__ import describe, list_fleets
from benchmarks.fleet.autoscaler import Autoscaler, ScalingRule, load_rules
from benchmarks.fleet.load import DAY_S, Audit, PlannedJob, draw_day
from benchmarks.fleet.simulation import Delays, Fleet, Outcome, Simulation
from deploy.local.layout import WORKER_GROUPS
from tests.support.source_tree import ROOT

RULE = ScalingRule(
    max_replicas=20, polling_s=10, cooldown_s=300, down_window_s=300, up_pods=4, up_percent=100, up_period_s=15
)  # fmt: skip
DELAYS = Delays(claim_s=0, start_s=10, schedule_s=5, resume_s=5)


def run(audits: list[Audit], *, seed: int = 0, **fleet: object) -> Outcome:
    return Simulation(audits, Fleet("tested", **fleet), DELAYS, seed).run()  # type: ignore[arg-type]


def make_audit(at_s: float, *durations_s: float, group: str = "attack") -> Audit:
    """Jobs that do not wait for each other."""
    return Audit(at_s, tuple(PlannedJob(group, d, (), group != "evaluate") for d in durations_s))


def test_the_rules_are_those_of_the_manifests() -> None:
    rules = load_rules()
    assert set(rules) == set(WORKER_GROUPS)
    assert rules["attack"].max_replicas > rules["train"].max_replicas > 0


def test_keda_starts_the_first_and_stops_the_last() -> None:
    scaler = Autoscaler(RULE)
    assert scaler.poll(0, 0, 0) == 0
    assert scaler.poll(10, 5, 0) == 1  # the others are the HPA's
    assert scaler.poll(300, 0, 1) == 1
    assert scaler.poll(310, 0, 1) == 0


def test_the_hpa_grows_by_its_policies_and_shrinks_after_its_window() -> None:
    scaler = Autoscaler(RULE)
    assert scaler.sync(0, 30, 0) == 0  # off
    assert scaler.sync(0, 30, 1) == 5  # four more
    assert scaler.sync(5, 30, 5) == 5  # in the same period
    assert scaler.sync(15, 30, 5) == 10  # doubled
    assert scaler.sync(30, 30, 10) == 20  # no more than the maximum
    assert scaler.sync(45, 19, 20) == 20  # within the tolerance of a tenth
    assert scaler.sync(330, 3, 20) == 20  # 30 jobs were asked for 300 s ago
    assert scaler.sync(345, 3, 20) == 20  # and the 20 of 45 s
    assert scaler.sync(346, 3, 20) == 3


def test_one_worker_runs_one_job_after_the_other() -> None:
    outcome = run([make_audit(0, 100, 100, 100)], sizes={"attack": 1})
    assert outcome.waits_s == [0, 100, 200]
    assert outcome.busy_s == 300
    assert outcome.worker_s == DAY_S
    assert (outcome.busy_kills, outcome.lost_s) == (0, 0)


def test_children_wait_for_their_parents() -> None:
    jobs = (PlannedJob("train", 50, (), True), PlannedJob("attack", 70, (0,), True))
    outcome = run([Audit(10, jobs)], sizes={"train": 1, "attack": 1})
    assert outcome.turnarounds_s == [120]


def test_an_autoscaled_fleet_starts_with_the_first_job_and_costs_nothing_without() -> None:
    outcome = run([make_audit(1000, 60)], rules={"attack": RULE})
    (wait_s,) = outcome.waits_s
    assert 15 <= wait_s <= 25  # a look of KEDA, and the start of a worker
    assert outcome.worker_s < 500
    assert run([], rules={"attack": RULE}).worker_s == 0


def test_a_busy_worker_goes_only_where_nothing_says_that_it_is_busy() -> None:
    """Two long jobs among forty short ones, many times: idle pods are there to be removed."""
    audits = [make_audit(n * 3600.0, 3000, 3000, *[200] * 18) for n in range(10)]
    marked, unmarked = (
        run(audits, rules={"attack": RULE}, has_costs=has_costs) for has_costs in (True, False)
    )
    assert marked.busy_kills == 0
    assert unmarked.busy_kills > 0
    assert unmarked.lost_s == unmarked.busy_kills * DELAYS.resume_s


def test_without_checkpoints_a_removed_job_begins_again() -> None:
    audits = [make_audit(n * 3600.0, 3000, *[200] * 18, group="evaluate") for n in range(10)]
    outcome = run(audits, rules={"evaluate": RULE}, has_costs=False)
    assert outcome.busy_kills > 0
    assert outcome.lost_s > outcome.busy_kills * DELAYS.resume_s
    done_s = sum(job.duration_s for audit in audits for job in audit.jobs)
    assert outcome.busy_s == pytest.approx(done_s + outcome.lost_s, rel=0.001)


def test_a_day_is_the_same_for_the_same_seed() -> None:
    assert draw_day(3, 20) == draw_day(3, 20) != draw_day(4, 20)
    fleet = next(fleet for fleet in list_fleets() if fleet.rules)
    outcomes = [Simulation(draw_day(3, 10), fleet, Delays(), 3).run() for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    row = describe(fleet.name, outcomes[0], days=1)
    assert row["fleet"] == "autoscaled"
    assert float(row["worker-hours"]) > 0


def test_the_table_of_the_docs_is_the_recorded_one() -> None:
    rows = json.loads((ROOT / "benchmarks/results/fleet.json").read_text())["rows"]
    page = (ROOT / "docs/scaling.md").read_text()
    for row in rows:
        assert f"| {' | '.join(row.values())} |" in page
