"""Which jobs are behind a row, and how a repetition compares with it."""

from __future__ import annotations

from typing import Any

import pytest

from services.client.repetition import (
    MAX_JOBS,
    ComparedScore,
    NotRepeatable,
    compare_scores,
    find_differences,
    list_jobs_behind,
    select_row,
)


def make_job(name: str, *parents: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "stage": name.split("_")[0],
        "method": None,
        "params": {"size": 3},
        "seed": 7,
        "inputs": {f"INPUT_{i}": {"job": one, "role": "OUT"} for i, one in enumerate(parents)},
        "artifacts": {"EVALUATION" if name.startswith("evaluate") else "OUT": f"{name}-digest"},
        "code": "c",
        "data": {},
        **changes,
    }


# in the order of their ids, as a manifest lists them: an attack comes before what it attacks
CHAIN = [
    make_job("attack_1", "train_1", "unlearn_1"),
    make_job("evaluate_1", "attack_1", "unlearn_1"),
    make_job("evaluate_2", "unlearn_2"),
    make_job("pretrain"),
    make_job("train_1", "pretrain"),
    make_job("unlearn_1", "train_1"),
    make_job("unlearn_2", "train_1"),
]


def list_ids(*jobs: dict[str, Any], evaluation: str = "evaluate_1-digest") -> list[str]:
    return [job.id for job in list_jobs_behind({"jobs": list(jobs)}, evaluation)]


def test_the_jobs_behind_a_row_come_after_their_inputs() -> None:
    assert list_ids(*CHAIN) == ["pretrain", "train_1", "unlearn_1", "attack_1", "evaluate_1"]
    assert list_ids(*CHAIN, evaluation="evaluate_2-digest") == [
        "pretrain", "train_1", "unlearn_2", "evaluate_2",
    ]  # fmt: skip


def test_a_job_is_asked_for_as_it_was_recorded() -> None:
    job = make_job("evaluate_1", "a", method="m")
    job["inputs"]["GIVEN"] = {"sha256": "0" * 64}
    job["inputs"]["SAME"] = {"job": "a"}
    recorded = list_jobs_behind({"jobs": [job, make_job("a")]}, "evaluate_1-digest")[-1]
    assert recorded.build_request({"a": "job_new"}) == {
        "stage": "evaluate",
        "method": "m",
        "params": {"size": 3},
        "inputs": {
            "INPUT_0": {"job": "job_new", "role": "OUT"},
            "GIVEN": {"sha256": "0" * 64},
            "SAME": {"job": "job_new", "role": "SAME"},
        },
        "seed": 7,
        "no_cache": True,
    }


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([], "no job in the manifest made evaluation evaluate_1-d"),
        (None, "no job in the manifest"),
        ({"a": 1}, "cannot read"),
        (7, "cannot read"),
        ([[]], "cannot read"),
        ([{}], "cannot read"),
        ([make_job("evaluate_1", params=[])], "cannot read"),
        ([make_job("evaluate_1", seed="0")], "cannot read"),
        ([make_job("evaluate_1", inputs=[])], "cannot read"),
        ([make_job("evaluate_1", inputs={"A": {}})], "cannot read"),
        ([make_job("evaluate_1", inputs={"A": {"job": "a", "sha256": "b"}})], "cannot read"),
        ([make_job("evaluate_1", artifacts=None)], "cannot read"),
        ([make_job("evaluate_1", "gone")], "lacks job gone"),
        ([make_job("evaluate_1", "evaluate_1")], "an input of itself"),
        ([make_job("evaluate_1", "a"), make_job("a", "b"), make_job("b", "a")], "of itself"),
        (
            [make_job("evaluate_1", "0"), *(make_job(str(i), str(i + 1)) for i in range(MAX_JOBS))],
            "more than 200 jobs",
        ),
    ],
)
def test_a_manifest_may_be_anything(jobs: Any, said: str) -> None:
    with pytest.raises(NotRepeatable, match=said):
        list_jobs_behind({"jobs": jobs}, "evaluate_1-digest")


@pytest.mark.parametrize(
    ("report", "number", "said"),
    [
        ({}, 1, "there is no row 1: the report has 0 rows"),
        ({"rows": [{}]}, 2, "has 1 rows"),
        ({"rows": [{}]}, 0, "there is no row 0"),
        ({"rows": [{}]}, 1, "does not name its evaluation"),
        ({"rows": [[]]}, 1, "does not name its evaluation"),
    ],
)
def test_a_row_that_is_not_there(report: Any, number: int, said: str) -> None:
    with pytest.raises(NotRepeatable, match=said):
        select_row(report, number)


def test_scores_stand_side_by_side() -> None:
    row = {"metrics": {"psnr": {"mean": 20}, "gone": {"mean": 1.5}}}
    new = {"metrics": {"psnr": {"mean": 20.5}, "new": {"mean": 2.0}, "odd": 3}}
    assert compare_scores(row, new) == [ComparedScore("psnr", 20.0, 20.5)]
    for nothing in (None, [], {}, {"metrics": []}, {"metrics": {"psnr": {"mean": "20"}}}):
        assert compare_scores(nothing, nothing) == []


def test_every_artifact_is_compared() -> None:
    jobs = list_jobs_behind({"jobs": CHAIN}, "evaluate_1-digest")
    same = {job.id: dict(job.artifacts) for job in jobs}
    assert find_differences(jobs, same) == []
    assert find_differences(jobs, same | {"attack_1": {"OUT": "other"}}) == ["attack OUT"]
    assert find_differences(jobs, {}) == [
        "pretrain OUT", "train OUT", "unlearn OUT", "attack OUT", "evaluate EVALUATION",
    ]  # fmt: skip
