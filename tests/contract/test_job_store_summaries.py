"""What a job has found, in brief: written with its end, and gone when it runs again."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import FencedOut, InvalidRequest
from shared.jobs import queries, repair
from shared.jobs.summaries import MAX_BYTES, make_verdict_summary, read_verdict
from tests.support.job_store import (
    ALICE,
    STAGE,
    JobStore,
    make_artifact,
    make_planned_job,
)

VERDICT = make_verdict_summary("leaks", "Samples can be reconstructed.")


def test_a_summary_is_written_with_the_end(store: JobStore) -> None:
    job_id = store.post(make_planned_job("tag"))
    claim = store.claim_one()
    assert store.get_job(job_id).summary is None
    store.finish(claim, summary=VERDICT)
    assert store.get_job(job_id).summary == VERDICT
    with pytest.raises(FencedOut):  # a second time
        store.finish(claim, summary={"level": "other"})
    assert store.get_job(job_id).summary == VERDICT


def test_a_reused_result_says_what_it_said(store: JobStore) -> None:
    first = store.post(make_planned_job("tag"))
    store.finish(store.claim_one(), summary=VERDICT)
    second = store.post(make_planned_job("tag", no_cache=True))
    assert second != first
    store.finish(store.claim_one(), reused_from=first)
    assert store.get_job(second).summary == VERDICT


@pytest.mark.parametrize("summary", [{"text": "x" * MAX_BYTES}, {"x": float("nan")}, {"x": set()}])
def test_what_is_no_small_json_ends_no_job(store: JobStore, summary: dict[str, Any]) -> None:
    job_id = store.post(make_planned_job("tag"))
    claim = store.claim_one()
    with pytest.raises(InvalidRequest, match="summary"):
        store.finish(claim, summary=summary)
    assert store.list_states(job_id) == ["running"]


def test_a_job_that_runs_again_has_none(store: JobStore) -> None:
    job_id = store.post(make_planned_job("tag"))
    store.finish(store.claim_one(), summary=VERDICT)
    sha256 = make_artifact("tag").sha256
    producer = repair.find_producer(store.db, ALICE, sha256)
    assert producer is not None
    repair.rebuild_artifact(store.db, ALICE, sha256, producer)
    assert store.list_states(job_id) == ["queued"]
    assert store.get_job(job_id).summary is None


def test_the_verdict_of_an_audit_is_its_reports(store: JobStore) -> None:
    evaluation = make_planned_job("evaluation")
    report = make_planned_job("report", evaluation, stage="report", plugins=("stage:report",))
    audit, _ = store.submit_audit(evaluation, report)
    store.finish(store.claim_one(), summary={"level": "not", "headline": "a report's"})
    assert queries.get_audit(store.db, ALICE, audit).verdict is None
    claim = store.claim(stages=(STAGE, "report"), plugins=("stage:report",))
    assert claim is not None
    store.finish(claim, summary=VERDICT)
    assert queries.get_audit(store.db, ALICE, audit).verdict == VERDICT
    assert [one.verdict for one in queries.list_audits(store.db, ALICE).items] == [VERDICT]


def test_a_verdict_has_a_level_and_a_short_headline() -> None:
    assert read_verdict(None) is None
    assert read_verdict({"level": "leaks"}) is None
    assert read_verdict({"level": "leaks", "headline": ["no text"]}) is None
    summary = make_verdict_summary("leaks", "ü" * 1000)
    assert len(summary["headline"]) == 300
    assert read_verdict(summary) == summary
