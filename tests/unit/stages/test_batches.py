"""Several samples a deletion, from training to scores: order does not count, and a class may be
there twice."""

from __future__ import annotations

import pytest

from shared.ml.records import TrainingSet
from shared.ml.tensors import read_tensors
from tests.support.tiny_chain import Outputs, parse_output, run_chain
from workers.local import run_stage

Sets = list[list[int]]


def of_classes(*wanted: list[int]) -> Sets:
    """Forget sets whose samples have these classes, as places in the training set."""
    labels = (
        TrainingSet.read(run_chain(deletions=1)["TRAINING_SET"].data, "TRAINING_SET")
        .load_samples()
        .labels
    )
    left = {
        label: (labels == label).nonzero().flatten().tolist() for label in labels.unique().tolist()
    }
    return [[left[label].pop(0) for label in row] for row in wanted]


def recovered(sets: Sets, labels: str) -> Outputs:
    made = run_chain(indices=sets)
    return made | run_stage("attack", made, "feature_recovery", iterations=150, labels=labels)


@pytest.mark.parametrize("classes", [[[0, 0], [1, 1]], [[0, 1], [0, 3]], [[0, 0, 2, 2]]])
def test_samples_of_one_deletion_are_scored_in_the_order_that_fits_them(
    classes: list[list[int]],
) -> None:
    made = recovered(of_classes(*classes), "given")
    assert parse_output(made["LABELS"])["labels"] == classes
    images, about = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    assert images["labels"].tolist() == classes
    assert about["threat_model"]["observes"] == [
        "DELETION_SIZES",
        "LABELS",
        "ORIGINAL",
        "UNLEARNED",
    ]
    scored = parse_output(run_stage("evaluate", made, decoys=20)["EVALUATION"])
    k, n = len(classes[0]), len(classes) * len(classes[0])
    assert (scored["n"], scored["size"], scored["metrics"]["psnr"]["n"]) == (n, k, n)
    told = scored["identification"]
    assert told["chance"] == pytest.approx(1 / (told["decoys"] + 1), rel=0.5)
    assert len(told["decoy_counts"]) == n
    assert told["share"] >= 0.5
    assert told["share"] > told["chance"]


def test_a_class_that_is_there_twice_is_found_with_the_images_but_cannot_be_read_off_the_bias() -> (
    None
):
    classes = [[0, 0], [1, 1]]
    sought = recovered(of_classes(*classes), "optimised")
    found, about = read_tensors(sought["RECONSTRUCTION"].data, "RECONSTRUCTION")
    assert found["labels"].tolist() == classes
    assert about["threat_model"]["observes"] == ["DELETION_SIZES", "ORIGINAL", "UNLEARNED"]
    assert about["threat_model"]["params"]["labels"] == "optimised"
    read = read_tensors(
        recovered(of_classes(*classes), "inferred")["RECONSTRUCTION"].data, "RECONSTRUCTION"
    )[0]
    assert [len(set(row)) for row in read["labels"].tolist()] == [2, 2]
