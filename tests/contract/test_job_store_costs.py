"""What past jobs tell of the cost of planned ones: the closest of them, the latest, by index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sqlalchemy import event, text

from shared.jobs import quote, worker_registry
from shared.jobs.cost_history import (
    PAST_JOBS,
    Basis,
    CostKind,
    describe_machine,
    find_past_costs,
)
from shared.jobs.cost_keys import compute_cost_keys
from shared.jobs.records import JobCost, PlannedJob
from tests.support.job_store import ALICE, BOB, STAGE, JobStore, make_planned_job

MACHINE = describe_machine("cpu", 2)


def make_job(tag: str, *parents: PlannedJob, seed: int = 0, **params: Any) -> PlannedJob:
    """A job whose `tag` is no more than its name."""
    planned = make_planned_job(f"{tag} {seed} {params}", *parents)
    return dataclasses.replace(planned, params={"tag": tag, **params}, seed=seed)


def run(
    store: JobStore, *planned: PlannedJob, run_s: float = 1.0, ran_on: str = MACHINE, **more: Any
) -> None:
    """Submit jobs and finish them, all at this cost."""
    store.post(*planned, **more)
    while claim := store.claim():
        store.finish(claim, cost=JobCost(run_s, run_s / 2, 1000), ran_on=ran_on)


def find(store: JobStore, *planned: PlannedJob, tenant: str = ALICE) -> tuple[str, list[float]]:
    """Basis and seconds of the past jobs like the last one; ("", []) if there are none."""
    job = planned[-1]
    kind = CostKind(*compute_cost_keys(planned, {})[job.request_key], job.stage, job.method)
    past = find_past_costs(store.db, tenant, [kind], {STAGE: [MACHINE]}).get(kind)
    return (past.basis, [cost.run_s for cost in past.costs]) if past else ("", [])


def test_jobs_that_differ_in_their_seed_are_equal(store: JobStore) -> None:
    first, second = make_job("a"), make_job("a", seed=1)
    assert find(store, second) == ("", [])
    run(store, first, run_s=3)
    assert find(store, second) == (Basis.EQUAL, [3])
    # also where another job makes the input
    run(store, second, make_job("b", second, seed=1), run_s=5)
    assert find(store, first, make_job("b", first)) == (Basis.EQUAL, [5])


def test_other_settings_are_a_guess_of_their_stage_and_method(store: JobStore) -> None:
    run(store, make_job("a", iterations=10), run_s=3)
    assert find(store, make_job("a", iterations=20)) == (Basis.OTHER_SETTINGS, [3])
    other = dataclasses.replace(make_job("b"), method="another")
    assert find(store, other) == ("", [])


def test_an_input_that_another_method_made_is_similar(store: JobStore) -> None:
    made = [
        dataclasses.replace(make_job(tag, deletions=2, size=1), method=tag)
        for tag in ("ascent", "retrain", "wider")
    ]
    made[2] = dataclasses.replace(made[2], params={**made[2].params, "deletions": 9})
    for one, run_s in zip(made[:2], (3, 4), strict=True):
        run(store, one, run_s=1)
        if one.method == "ascent":
            run(store, one, make_job("attack", one), run_s=run_s)
    retrain, wider = made[1:]
    assert find(store, retrain, make_job("attack", retrain)) == (Basis.SIMILAR, [3])
    assert find(store, wider, make_job("attack", wider))[0] == Basis.OTHER_SETTINGS


def test_only_the_latest_count_on_this_machine_of_this_tenant(store: JobStore) -> None:
    for seed in range(PAST_JOBS + 2):
        run(store, make_job("a", seed=seed), run_s=seed)
    run(store, make_job("a", seed=50), run_s=99, ran_on=describe_machine("H200", 2))
    run(store, make_job("a", seed=51), run_s=99, tenant=BOB)
    basis, seconds = find(store, make_job("a", seed=60))
    assert (basis, seconds) == (Basis.EQUAL, [float(n) for n in range(PAST_JOBS + 1, 1, -1)])


def test_a_job_without_its_own_figures_is_no_history(store: JobStore) -> None:
    """It was resumed, or took the artifacts of another."""
    store.post(make_job("a"))
    store.finish(store.claim_one())
    assert find(store, make_job("a", seed=1)) == ("", [])


def test_uploads_and_names_of_records_do_not_change_the_cost(store: JobStore) -> None:
    params: list[Mapping[str, Any]] = [
        {"data": {"deleted": f"upload:{c * 64}"}, "rows": [[n], [n + 1]]}
        for n, c in enumerate("ab")
    ]
    run(store, make_job("a", **params[0]), run_s=3)
    assert find(store, make_job("a", **params[1])) == (Basis.EQUAL, [3])
    assert find(store, make_job("a", **{**params[1], "rows": [[1, 2]]}))[0] != Basis.EQUAL


def test_reports_of_audits_of_one_form_are_equal(store: JobStore) -> None:
    one, other = ({"audit": {"name": name}, "rows": [name], "alpha": 0.1} for name in "ab")
    run(store, make_job("a", **one), run_s=3)
    assert find(store, make_job("a", **other)) == (Basis.EQUAL, [3])
    assert find(store, make_job("a", **{**other, "alpha": 0.2}))[0] != Basis.EQUAL


def test_a_job_posted_by_hand_is_like_one_of_an_audit(store: JobStore) -> None:
    base = make_job("a")
    run(store, base, make_job("b", base), run_s=3)
    stored = store.post(base)  # the equal one
    by_hand = make_job("b", seed=7)
    by_hand = dataclasses.replace(by_hand, inputs=make_planned_job("x", stored).inputs)
    assert quote.quote_jobs(store.db, ALICE, [by_hand], {}).unknown == 1  # on no machine
    register(store)
    (row,) = quote.quote_jobs(store.db, ALICE, [by_hand], {}).stages
    assert (row.basis, row.seconds, row.cpu_seconds, row.memory_bytes) == ("equal", 3, 1.5, 1000)


def register(store: JobStore, name: str = "w1", stages: tuple[str, ...] = (STAGE,)) -> None:
    worker_registry.register_worker(
        store.db, name, host="here", pid=1, stages=stages, device="cpu", threads=2, versions={},
        catalog="",
    )  # fmt: skip


def test_a_quote_counts_what_is_new_and_waits_for_what_runs(store: JobStore) -> None:
    register(store)
    jobs = [make_job("a", seed=seed) for seed in range(4)]
    run(store, jobs[0], run_s=3)
    store.post(jobs[1])
    existing = {
        jobs[0].request_key: ("job_0", "succeeded"),
        jobs[1].request_key: ("job_1", "queued"),
    }
    other = dataclasses.replace(make_job("other"), method="unknown")
    quoted = quote.quote_jobs(store.db, ALICE, [*jobs, other], existing, workers=3)
    known, unknown = quoted.stages
    assert (known.jobs, known.reused, known.new, known.past_jobs) == (4, 2, 2, 1)
    assert (unknown.unknown, unknown.seconds, unknown.basis) == (1, None, None)
    assert (quoted.cpu_seconds, quoted.unknown, quoted.memory_bytes) == (3, 1, 1000)
    assert (quoted.wall_seconds, quoted.wall_seconds_with_workers) == (9, 3)
    assert quoted.machines == (MACHINE,)


def test_a_stage_without_worker_is_named(store: JobStore) -> None:
    register(store, stages=("other",))
    quoted = quote.quote_jobs(store.db, ALICE, [make_job("a")], {})
    assert (quoted.unserved_stages, quoted.wall_seconds) == ((STAGE,), None)


def test_looking_back_walks_an_index(store: JobStore) -> None:
    """However many jobs there were: no statement scans or sorts them."""
    run(store, make_job("a"))
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(store.db.engine, "before_cursor_execute", note)
    find(store, make_job("a", iterations=3))
    find(store, dataclasses.replace(make_job("c"), method="another"))
    event.remove(store.db.engine, "before_cursor_execute", note)
    asked = [one for one in statements if "UNION ALL" in one[0] or "part_0_0" in one[0]]
    assert len(asked) == 6  # three ways to look, twice
    if store.db.dialect != "sqlite":
        return
    with store.db.read() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row.detail for row in plan if "jobs" in row.detail or "B-TREE" in row.detail]
            assert steps, "the plan names the table"
            assert all("USING INDEX ix_jobs_" in s and "_costs (tenant=?" in s for s in steps), (
                steps
            )
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 1
