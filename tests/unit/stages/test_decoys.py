"""Where an evaluation's decoys come from, and copies of deleted samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import InvalidRequest
from shared.ml.records import ForgetSets, PublicSets
from shared.ml.samples import open_dataset
from shared.ml.tensors import read_tensors, write_tensors
from shared.reporting.loading import read_evaluation
from tests.support.tiny_chain import Outputs, parse_output, run_chain
from workers.context import StageOutput
from workers.local import run_stage


def write_arrays(folder: Path, **changed: Any) -> None:
    """800 images of four classes; `test` replaces those of a split of their own."""
    draw = np.random.default_rng(0)
    labels = np.arange(800) % 4
    noise = 0.5 * draw.random((800, 9, 9))
    images = np.clip(draw.random((4, 9, 9))[labels] * 0.5 + noise, 0, 1)
    np.savez(folder / "tiny.npz", images=images, labels=labels, **changed)


def attack(**params: Any) -> Outputs:
    made = run_chain(**params)
    return made | run_stage("attack", made, "feature_recovery", iterations=2)


def identify(made: Outputs) -> dict[str, Any]:
    found: dict[str, Any] = parse_output(run_stage("evaluate", made)["EVALUATION"])
    identification: dict[str, Any] = found["identification"]
    return identification


def test_decoys_are_of_the_pool_that_was_not_trained_on_then_of_the_test_split(
    data_root: Path,
) -> None:
    write_arrays(data_root)
    made = attack()
    never_trained = PublicSets.read(made["PUBLIC"].data, "PUBLIC").load_samples()
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
    found = identify(made)
    assert found["split_auc"] <= found["split_auc_limit"]
    public = open_dataset(truth.dataset).load("test")
    expected = [
        sum(int((one.labels == label).sum()) for one in [*never_trained, public])
        for (label,) in truth.labels
    ]
    assert found["decoy_counts"] == expected
    assert found["decoys"] == max(expected)
    assert found["chance"] == pytest.approx(np.mean([1 / (d + 1) for d in expected]))


def test_who_was_given_the_public_samples_is_not_tested_among_them(data_root: Path) -> None:
    write_arrays(data_root)
    made = attack()
    without = identify({role: output for role, output in made.items() if role != "PUBLIC"})
    assert identify(made)["decoys"] > without["decoys"]
    tensors, about = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    about["threat_model"]["observes"] = [*about["threat_model"]["observes"], "PUBLIC"]
    made["RECONSTRUCTION"] = StageOutput(write_tensors(tensors, about))
    assert identify(made)["decoy_counts"] == without["decoy_counts"]


def test_a_test_split_that_is_drawn_otherwise_gives_no_decoys(data_root: Path) -> None:
    draw = np.random.default_rng(1)
    labels = np.arange(200) % 4
    write_arrays(data_root, test_images=0.8 * draw.random((200, 9, 9)), test_labels=labels)
    made = attack()
    found = identify(made)
    assert found["split_auc"] > found["split_auc_limit"]
    assert max(found["decoy_counts"]) < 60
    evaluation = parse_output(
        run_stage("evaluate", {r: o for r, o in made.items() if r != "PUBLIC"})["EVALUATION"]
    )
    assert evaluation["identification"] == {"n": 0, "decoys": 0}


def test_without_copies_none_is_named() -> None:
    made = run_chain()
    found = parse_output(run_stage("evaluate", made)["EVALUATION"])
    assert found["retained_copies"] == []


def test_deletions_of_which_a_copy_stays_are_named_from_zero(data_root: Path) -> None:
    """Every image twice: of those in the training set, some stay when the other is deleted."""
    draw = np.random.default_rng(0)
    images = np.repeat(draw.random((4, 9, 9)), 50, 0)
    np.savez(data_root / "tiny.npz", images=images, labels=np.repeat(np.arange(4), 50))
    made = run_chain()
    found = parse_output(run_stage("evaluate", made)["EVALUATION"])
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
    training = parse_output(made["TRAINING_SET"])["indices"]
    split = truth.load_train_split("FORGET_SETS")
    expected = [
        deletion
        for deletion, (index,) in enumerate(truth.indices)
        if any(
            (split.images[other] == split.images[index]).all()
            for other in training
            if other != index
        )
    ]
    assert expected
    assert found["retained_copies"] == expected


def test_an_evaluation_of_an_older_version_is_refused() -> None:
    made = run_chain()
    written = run_stage("evaluate", made)["EVALUATION"]
    assert read_evaluation(written.data, "EVALUATION_1")
    older = parse_output(written)
    del older["version"]
    with pytest.raises(InvalidRequest, match=r"older version of .*: run the evaluation again"):
        read_evaluation(StageOutput.of_json(older).data, "EVALUATION_1")
