"""plan() and plan_job() of deletions by the data set's own names, with the plugins of this tree."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.jobs.plan import plan, plan_job
from shared.jobs.records import Input, PlannedJob
from shared.jobs.spec import AuditSpec
from tests.golden.planned_jobs import identify, real_catalog

NPZ = {"name": "npz", "params": {"path": "mine.npz"}}
CSV = {"name": "csv", "params": {"path": "mine.csv", "target": "t", "id": "customer"}}
FOLDER = {"name": "image_folder", "params": {"path": "mine"}}


def planned(dataset: Any, **change: Any) -> list[PlannedJob]:
    spec = {
        "dataset": dataset,
        "model": "mlp",
        "unlearning": ["retrain"],
        "attacks": ["label_inference"],
        **change,
    }
    return plan(AuditSpec.model_validate(spec), real_catalog(), identify)


@pytest.mark.parametrize(
    ("dataset", "forget", "deletable"),
    [
        (NPZ, {"rows": [4711, [3, 5]]}, None),
        (NPZ, {"rows": [4711, 12]}, {"deletable_rows": [4711, 12]}),
        (CSV, {"ids": ["4711", "k-9"]}, {"deletable_ids": ["4711", "k-9"]}),
        (CSV, {"rows": [0]}, {"deletable_rows": [0]}),
        (
            FOLDER,
            {"files": [["cat/0007.png", "cat/0008.png"]]},
            {"deletable_files": ["cat/0007.png", "cat/0008.png"]},
        ),
    ],
)
def test_base_and_original_are_trained_on_data_that_know_what_is_named(
    dataset: Any, forget: dict[str, Any], deletable: dict[str, Any] | None
) -> None:
    if deletable is None:
        with pytest.raises(InvalidRequest, match="the same number of samples") as refused:
            planned(dataset, forget=forget)
        assert refused.value.field == "forget.rows"
        return
    jobs = planned(dataset, forget=forget)
    for job in jobs:
        if job.stage in ("pretrain", "train"):
            assert job.params["dataset"]["params"].items() >= deletable.items()
        if job.stage == "unlearn":
            assert job.params.items() >= forget.items()
    plain = {job.request_key for job in planned(dataset)}
    assert not plain & {
        job.request_key for job in jobs if job.stage in ("pretrain", "train", "unlearn")
    }


@pytest.mark.parametrize(
    ("dataset", "forget", "field", "words"),
    [
        (
            "mnist_5k",
            {"rows": [4711]},
            "forget.rows",
            "samples of mnist_5k cannot be named by forget.rows: use indices",
        ),
        (
            NPZ,
            {"files": ["a"]},
            "forget.files",
            "samples of npz cannot be named by forget.files: use rows",
        ),
        (NPZ, {"class": 12}, "forget.class", "forget: {forget: class, deletions: 1}"),
        (NPZ, {"indices": [3, 7]}, "forget.indices", r"write \[\[3\], \[7\]\]"),
        (NPZ, {"rows": [7, 7]}, "forget.rows", "7 is listed twice"),
        (
            NPZ,
            {"rows": list(range(33))},
            "forget.rows",
            "33 samples are named, but the training set has only 32",
        ),
    ],
)
def test_what_cannot_be_named_is_refused_where_it_stands(
    dataset: Any, forget: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        planned(dataset, forget=forget)
    assert refused.value.field == field


def unlearn(params: dict[str, Any], size: int | None = 32) -> PlannedJob:
    inputs = (Input("ORIGINAL", parent="job_1"), Input("TRAINING_SET", parent="job_1"))
    known = {} if size is None else {"job_1": {"size": size}}
    return plan_job(
        real_catalog(), "unlearn", "gradient_ascent", params, 0, inputs, parent_params=known
    )


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        (
            {"deletions": 400, "size": 32},
            "params.deletions",
            "at least 12800, not 32: raise the size of the training",
        ),
        ({"size": 33}, "params.size", "a forget set of 33 samples does not fit"),
        ({"indices": [[3], [32]]}, "params.indices", "no sample 32"),
        ({"indices": [3, 7]}, "params.indices", "one list per deletion"),
        ({"class": 12}, "params.class", "there is no parameter 'class'"),
    ],
)
def test_a_job_by_hand_is_held_against_its_training_set(
    params: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        unlearn(params)
    assert refused.value.field == field
    assert words in refused.value.message


def test_a_training_set_of_unknown_size_is_left_to_the_worker() -> None:
    assert unlearn({"deletions": 400, "size": 32}, size=None)
    assert unlearn({"deletions": 4, "size": 8})
