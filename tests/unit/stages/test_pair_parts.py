"""What the report of a brought pair says, by what was brought with it."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.cli.input.gates import find_crossings, find_unmeasured, parse_gates
from shared.errors import InvalidRequest
from tests.support.brought_pairs import GIVEN, INFERRED, BroughtPair, write_samples

TRUTH_ROLES = {"FORGET_SETS", "TRAINING_SET", "LABELS"}
FORBIDDEN = ("PSNR", "identified", "SSIM", "dB", "Decision: leak", "leaks to", "No leak seen")


@pytest.fixture(autouse=True)
def samples(data_root: Path) -> None:
    write_samples(data_root)


@cache
def run_pair(*parts: str) -> BroughtPair:
    """The same for all tests."""
    attacks = [GIVEN, "label_inference"] if "deleted" in parts else [INFERRED, "label_inference"]
    return BroughtPair(*parts, attacks=attacks).run()


def read_text(page: str) -> str:
    """What a reader sees of a page."""
    body = re.sub(r"<(style|svg|pre)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.mark.parametrize("parts", [(), ("public",)], ids=["the pair alone", "with public samples"])
def test_without_the_deleted_samples_nothing_is_scored(parts: tuple[str, ...]) -> None:
    pair = run_pair(*parts)
    report, text = pair.report, read_text(pair.page)
    assert not any(TRUTH_ROLES & {i.role for i in job.inputs} for job in pair.jobs)
    assert report["verdict"]["level"] == "inconclusive"
    assert "The deleted samples were not brought" in report["verdict"]["headline"]
    assert "the deleted samples" in report["verdict"]["sentences"][1]
    assert {row["finding"]["outcome"] for row in report["rows"]} == {"inconclusive"}
    assert not any(row["metrics"] or row["identification"] for row in report["rows"])
    for word in FORBIDDEN:
        assert word not in text
    assert "leaks" not in " ".join(
        [
            report["verdict"]["headline"],
            *report["verdict"]["sentences"],
            *report["verdict"]["details"],
        ]
    )
    assert "How the weights moved" in text
    assert "What came back" in text


def test_the_pair_alone_shows_what_attacks_return_and_how_far_the_weights_moved() -> None:
    pair = run_pair()
    report = pair.report
    assert report["provenance"]["audit"]["dataset"] is None
    assert [one["what"] for one in report["not_brought"]] == [
        "the deleted samples",
        "public samples of the same kind",
        "the weights that training started from, with N",
    ]
    assert not report["missing"]
    rows = {row["attack"]["method"]: row for row in report["rows"]}
    images = rows["feature_recovery"]["unscored"]["images"]
    assert len(images["matching_loss"]) == len(images["control_losses"]["random_direction"]) == 2
    # an image explains one step of ascent, and no image explains noise
    assert max(images["matching_loss"]) < min(images["control_losses"]["random_direction"])
    labels = rows["label_inference"]["unscored"]["labels"]
    assert labels["labels"] == [[0], [1]]  # those of the deleted samples, which nobody gave it
    assert all(0 < margin <= 1 for margin in labels["margins"])
    assert rows["feature_recovery"]["utility"] is None
    (moved,) = report["moved_weights"]
    assert [layer["name"] for layer in moved["layers"]] == ["1", "3"]
    assert 0 < moved["relative_change"] < 0.5
    assert moved["deletions"] == 2
    assert "the change of the last layer, and they may be wrong" in read_text(pair.page)
    assert not any(job.stage == "evaluate" and len(job.inputs) < 5 for job in pair.jobs)


def test_public_samples_add_accuracies_and_the_best_public_match() -> None:
    pair = run_pair("public")
    rows = {row["attack"]["method"]: row for row in pair.report["rows"]}
    images = rows["feature_recovery"]["unscored"]["images"]
    assert len(images["control_losses"]["nearest_public"]) == 2
    utility = rows["label_inference"]["utility"]
    assert utility["forget_accuracy"] is None
    assert 0 <= utility["test_accuracy"] <= 1
    assert [one["what"] for one in pair.report["not_brought"]][:1] == ["the deleted samples"]
    (moved,) = pair.report["moved_weights"]
    assert "near_chance" in {one["code"] for one in moved["findings"]}  # it was never trained


def test_deleted_samples_alone_give_scores_but_no_ranks_and_no_public_baselines() -> None:
    pair = run_pair("deleted")
    rows = {row["attack"]["method"]: row for row in pair.report["rows"]}
    recovery = rows["feature_recovery"]
    assert {*recovery["metrics"]["psnr"]["baselines"]} == {"permuted_truth"}
    assert recovery["identification"] is None
    assert "No public samples were brought" in recovery["finding"]["reason"]
    assert rows["label_inference"]["answers"]["truth"] == [[0], [1]]
    assert {*rows["label_inference"]["metrics"]["label_accuracy"]["baselines"]} == {
        "uniform_guess",
        "permuted_truth",
    }
    assert recovery["utility"]["test_accuracy"] is None
    assert recovery["utility"]["forget_accuracy"] is not None
    assert "public samples of the same kind" in [one["what"] for one in pair.report["not_brought"]]
    assert "The deleted samples, and what came back" in read_text(pair.page)


def test_both_give_what_a_report_has_to_say() -> None:
    report = run_pair("deleted", "public").report
    recovery = next(row for row in report["rows"] if row["attack"]["method"] == "feature_recovery")
    assert {"class_mean", "nearest_public"} <= {*recovery["metrics"]["psnr"]["baselines"]}
    assert recovery["identification"]["n"] == 2
    assert recovery["unscored"] is None
    assert [one["what"] for one in report["not_brought"]] == [
        "the weights that training started from, with N"
    ]


def test_gates_do_not_pass_what_was_not_scored() -> None:
    rows = run_pair().report["rows"]
    gates = parse_gates(["psnr.gain>6"])
    assert not find_crossings(gates, rows)
    assert len(find_unmeasured(gates, rows)) == len(rows)


def test_an_attack_that_needs_the_given_classes_is_left_out_and_named() -> None:
    pair = BroughtPair(attacks=[GIVEN, "label_inference", "membership_gradient"])
    assert [job.method for job in pair.jobs if job.stage == "attack"] == ["label_inference"]
    (report,) = [job for job in pair.jobs if job.stage == "report"]
    reasons = [row["not_planned"] for row in report.params["rows"] if row.get("not_planned")]
    assert "feature_recovery with labels: given needs LABELS" in reasons[0]
    assert "bring the deleted samples, or choose another value of labels" in reasons[0]
    assert "membership_gradient needs CANDIDATES" in reasons[1]
    missing = pair.run().report["missing"]
    assert [one["reason"] for one in missing] == reasons


def test_an_audit_none_of_whose_attacks_can_be_made_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs LABELS") as refused:
        BroughtPair(attacks=[GIVEN])
    assert refused.value.field == "attacks.0"


def test_a_data_set_without_the_deleted_samples_is_public() -> None:
    pair = BroughtPair("deleted", "public", ingest={"with_deleted": False})
    ingest = next(job for job in pair.jobs if job.stage == "ingest")
    assert not TRUTH_ROLES & {*ingest.produces}
    assert "TEST_SET" in ingest.produces


@pytest.mark.parametrize(
    ("ingest", "says"),
    [
        ({"size": 7, "training_set": 10}, "do not fit into a training set of 10"),
        ({"size": 10_000, "input_shape": [3, 224, 224]}, "size can be at most 891"),
        ({"size": 0}, "size"),
        ({"size": "7"}, "size"),
        ({"with_deleted": "no"}, "with_deleted"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_anything_runs(
    ingest: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        BroughtPair(ingest=ingest)
    assert says in f"{refused.value.field}: {refused.value.message}"


def test_several_samples_of_a_deletion_are_known_to_the_attacker_as_a_number() -> None:
    pair = BroughtPair(ingest={"size": 3}, attacks=[INFERRED]).run()
    (row,) = pair.report["rows"]
    assert row["size"] == 3
    assert "DELETION_SIZES" in row["threat_model"]["observes"]
    assert "LABELS" not in row["threat_model"]["observes"]
    assert [len(labels) for labels in row["unscored"]["images"]["labels"]] == [3, 3]


def test_seeds_compare_the_same_files_once() -> None:
    report = BroughtPair(seeds=[0, 1], attacks=["label_inference"]).run().report
    assert [one["release"] for one in report["moved_weights"]] == ["ascent"]
    assert [row["seed"] for row in report["rows"]] == [0, 1]
    assert "random direction" not in report["verdict"]["sentences"][0]  # nothing was searched for


def test_rows_without_a_data_set_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="without a data set"):
        BroughtPair(ingest={"rows": [0, 1]}).run()


def test_the_comparison_names_what_was_brought() -> None:
    comparison = json.loads(run_pair("public").read("ingest", "COMPARISON"))
    assert (comparison["with_deleted"], comparison["with_public"]) == (False, True)
    assert comparison["deletions"][0]["others"] is None
