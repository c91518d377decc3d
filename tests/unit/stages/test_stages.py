"""The whole life of a forgotten sample through the stages, on a data set small enough for
seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from shared.errors import InvalidRequest
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, TrainingSet
from shared.ml.tensors import read_tensors
from shared.reporting.picture_file import read_pictures
from shared.roles import ArtifactFormat, Role
from tests.support.tiny_chain import DATA, MODEL, Outputs, parse_output, run_chain, write_data
from workers.context import NoHooks, StageOutput
from workers.local import run_stage


def read_html(data: bytes, _role: str) -> None:
    assert data.startswith(b"<!doctype html>")


READ: dict[ArtifactFormat, Callable[[bytes, str], object]] = {
    ArtifactFormat.NETWORKS: read_networks,
    ArtifactFormat.TENSORS: read_tensors,
    ArtifactFormat.JSON: lambda data, _role: json.loads(data),
    ArtifactFormat.HTML: read_html,
    ArtifactFormat.ZIP: lambda data, _role: read_pictures(data, lambda _key: True),
}


@pytest.mark.parametrize("method", ["gradient_ascent", "retrain"])
def test_the_chain_runs_and_repeats_byte_for_byte(method: str) -> None:
    def all_of_it() -> Outputs:
        made = run_chain(method)
        made |= run_stage("attack", made, "feature_recovery", iterations=5)
        made |= run_stage("attack", made, "label_inference")
        return made | run_stage("evaluate", made, decoys=5)

    first, again = all_of_it(), all_of_it()
    assert first.keys() == again.keys()
    for role in first:
        assert first[role].data == again[role].data, role


def test_an_evaluation_states_scores_baselines_threat_model_and_utility() -> None:
    made = run_chain()
    made |= run_stage("attack", made, "feature_recovery", iterations=200)
    made |= run_stage("attack", made, "label_inference")
    evaluation = parse_output(run_stage("evaluate", made, decoys=5)["EVALUATION"])
    assert (evaluation["n"], evaluation["deletions"], evaluation["size"]) == (3, 3, 1)
    assert set(evaluation["metrics"]) == {"mse", "psnr", "label_accuracy"}
    psnr = evaluation["metrics"]["psnr"]
    assert psnr["unit"] == "dB"
    assert len(psnr["values"]) == 3
    assert (psnr["low"], psnr["high"]) == (None, None)  # of three values
    assert psnr["gain"]["mean"] > 2
    assert psnr["baseline_name"] in psnr["baselines"]
    assert evaluation["metrics"]["label_accuracy"]["mean"] == 1
    assert evaluation["identification"]["rank_1"] == 3
    assert evaluation["threat_model"]["observes"] == [
        "DELETION_SIZES",
        "LABELS",
        "ORIGINAL",
        "UNLEARNED",
    ]
    assert evaluation["threat_model"]["params"]["labels"] == "given"
    assert 0 <= evaluation["utility"]["test_accuracy"] <= 1
    assert evaluation["provenance"]["torch"] == torch.__version__.split("+")[0]


def test_training_never_touches_pretraining_data_and_forget_sets_follow_the_permutation() -> None:
    made = run_chain(deletions=3, size=2)
    training = TrainingSet.read(made["TRAINING_SET"].data, "TRAINING_SET")
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
    assert len(training.indices) == len(set(training.indices)) == 12
    flat = [index for row in truth.indices for index in row]
    assert len(set(flat)) == 6
    assert set(flat) <= set(training.indices)
    assert parse_output(made["DELETION_SIZES"]) == {"N": 12, "k": 2, "classes": None}
    assert parse_output(made["LABELS"])["labels"] == truth.labels
    unlearned = read_networks(made["UNLEARNED"].data, "UNLEARNED")
    assert unlearned.count == 3
    fewer = ForgetSets.read(run_chain(deletions=2, size=2)["FORGET_SETS"].data, "FORGET_SETS")
    assert fewer.indices == truth.indices[:2]


def test_seeds_differ() -> None:
    assert run_chain(seed=0)["FORGET_SETS"].data != run_chain(seed=1)["FORGET_SETS"].data


def test_a_batch_of_two_is_recovered_in_some_order() -> None:
    made = run_chain(deletions=2, size=2)
    made |= run_stage("attack", made, "feature_recovery", iterations=20)
    images, about = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    assert images["images"].shape == (2, 2, 1, 9, 9)
    assert about["threat_model"]["attack"] == "feature_recovery"
    evaluation = parse_output(run_stage("evaluate", made, decoys=5)["EVALUATION"])
    assert evaluation["metrics"]["psnr"]["n"] == 4


def test_exact_unlearning_is_attacked_from_the_base_with_counts_only_when_asked() -> None:
    made = run_chain("retrain")
    pair = run_stage("attack", made, "feature_recovery", iterations=2, labels="inferred")
    base = run_stage("attack", made, "feature_recovery", iterations=2, gradient_from="base")
    seen = [
        read_tensors(run["RECONSTRUCTION"].data, "x")[1]["threat_model"]["observes"]
        for run in (pair, base)
    ]
    assert seen == [
        ["DELETION_SIZES", "ORIGINAL", "UNLEARNED"],
        ["BASE", "DELETION_SIZES", "LABELS", "ORIGINAL", "UNLEARNED"],
    ]
    without = {role: output for role, output in made.items() if role != "BASE"}
    with pytest.raises(InvalidRequest, match="BASE"):
        run_stage("attack", without, "feature_recovery", iterations=2, gradient_from="base")


def test_no_role_of_the_truth_is_anything_an_attack_can_ask_for() -> None:
    made = run_chain()
    with_truth = run_stage("attack", made, "feature_recovery", iterations=3)
    without = {
        role: output for role, output in made.items() if role not in ("FORGET_SETS", "TRAINING_SET")
    }
    assert run_stage("attack", without, "feature_recovery", iterations=3) == with_truth


def test_utility_alone_can_be_evaluated_and_nothing_at_all_cannot() -> None:
    made = run_chain()
    alone = parse_output(run_stage("evaluate", made)["EVALUATION"])
    assert alone["metrics"] == {}
    assert alone["utility"]["original_test_accuracy"] > 0.9
    with pytest.raises(InvalidRequest, match="nothing to evaluate"):
        run_stage("evaluate", {"FORGET_SETS": made["FORGET_SETS"]})
    with pytest.raises(InvalidRequest, match="TRAINING_SET"):
        run_stage("evaluate", {role: made[role] for role in ("FORGET_SETS", "UNLEARNED")})


class Stopped(Exception):
    pass


class Stopping(NoHooks):
    """Takes a checkpoint at the `stop`-th asking, then stops the attempt."""

    def __init__(self, stop: int) -> None:
        self.stop = stop
        self.asked = 0
        self.held: bytes | None = None

    def is_checkpoint_due(self) -> bool:
        self.asked += 1
        return self.asked == self.stop

    def save(self, data: bytes) -> None:
        self.held = data
        raise Stopped


class Resuming(NoHooks):
    def __init__(self, held: bytes | None) -> None:
        self.held = held
        self.beats: list[int] = []

    def heartbeat(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        self.beats.append(done)

    def load(self) -> bytes | None:
        return self.held


@pytest.mark.parametrize(
    ("stage", "method", "params"),
    [
        ("pretrain", None, {"dataset": DATA, "model": MODEL, "epochs": 2}),
        ("train", None, {"dataset": DATA, "size": 12, "epochs": 2, "batch_size": 4}),
        ("train", None, {"dataset": DATA, "size": 12, "shards": 3}),
        ("unlearn", "gradient_ascent", {"deletions": 3}),
        ("unlearn", "retrain", {"deletions": 3}),
        ("attack", "feature_recovery", {"iterations": 9}),
    ],
)
def test_every_long_stage_resumes_bit_equal_wherever_it_was_stopped(
    stage: str, method: str | None, params: dict[str, Any]
) -> None:
    inputs = run_chain()
    whole = run_stage(stage, inputs, method, **params)
    stops = 0
    while True:
        stopping = Stopping(stops + 1)
        try:
            assert run_stage(stage, inputs, method, hooks=stopping, **params) == whole
            break  # it asked no further time
        except Stopped:
            stops += 1
        resuming = Resuming(stopping.held)
        assert run_stage(stage, inputs, method, hooks=resuming, **params) == whole, (
            f"stopped at asking {stops}"
        )
        assert not resuming.beats or resuming.beats[0] > 1
    assert stops > 1


def test_an_artifact_has_the_format_of_its_role() -> None:
    made = run_chain()
    made |= run_stage("defend", made, "obfuscation", releases_averaged=4)
    made |= run_stage("probe", made, max_queries=10_000) | run_stage("candidates", made)
    for attack in ("feature_recovery", "label_inference", "membership_population"):
        made |= run_stage(
            "attack", made, attack, **({"iterations": 2} if attack == "feature_recovery" else {})
        )
    made |= run_stage("evaluate", made, decoys=3, test_samples=10)
    told = {
        "name": "a",
        "dataset": DATA,
        "model": MODEL,
        "unlearning": ["gradient_ascent"],
        "attacks": ["x"],
    }
    made |= run_stage("report", {"EVALUATION_1": made["EVALUATION"]}, audit=told, rows=[])
    assert {Role(name).artifact_format for name in made} == set(ArtifactFormat)
    for role, output in made.items():
        READ[Role(role).artifact_format](output.data, role)


@pytest.mark.parametrize(
    ("stage", "method", "params", "word"),
    [
        ("train", None, {"dataset": DATA, "size": 21}, "pool"),
        ("train", None, {"dataset": "mnist_5k"}, "BASE takes"),
        ("train", None, {"dataset": "nowhere"}, "unknown dataset"),
        ("pretrain", None, {"dataset": DATA, "model": "nothing"}, "unknown model"),
        (
            "pretrain",
            None,
            {"dataset": DATA, "model": {"name": "mlp", "params": {"hidden": 0}}},
            "hidden",
        ),
        ("pretrain", None, {"dataset": DATA, "lr": -1}, "lr"),
        ("unlearn", "gradient_ascent", {"deletions": 13}, "more than the 12"),
        ("unlearn", "gradient_ascent", {"deletions": 1, "size": 13}, "more than the 12"),
        ("unlearn", "gradient_ascent", {"unknown": 1}, "unknown"),
        ("attack", "feature_recovery", {"gradient_from": "nowhere"}, "gradient_from"),
    ],
)
def test_wrong_parameters_are_refused(
    stage: str, method: str | None, params: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidRequest, match=word):
        run_stage(stage, run_chain(), method, **params)


@pytest.mark.parametrize(
    ("role", "data"),
    [
        ("ORIGINAL", b"\x80\x04."),
        ("UNLEARNED", save({"x": torch.zeros(1)})),
        ("LABELS", b"{"),
        ("LABELS", b'{"labels": [[0], [1, 2], [0]]}'),
        ("LABELS", b'{"labels": [[0]]}'),
        ("LABELS", b'{"labels": [[99], [0], [0]]}'),
        ("DELETION_SIZES", b'{"N": 0, "k": 1}'),
        ("DELETION_SIZES", b"[" * 100_000),
    ],
)
def test_hostile_inputs_of_an_attack_are_refused(role: str, data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        run_stage(
            "attack", run_chain() | {role: StageOutput(data)}, "feature_recovery", iterations=1
        )


@pytest.mark.parametrize(
    ("role", "data"),
    [
        ("FORGET_SETS", b"baseline"),
        ("RECONSTRUCTION", save({"images": torch.zeros(3, 1, 1, 5, 5)})),
        ("RECONSTRUCTION", save({"images": torch.full((3, 1, 1, 9, 9), torch.inf)})),
        ("ANSWERS", b'{"labels": [[0], [1]]}'),
        ("ANSWERS", b'{"labels": [[0], [1], [-1]]}'),
        ("ANSWERS", b'{"labels": [[0], [1], [99999999999999999999999]]}'),
        ("ANSWERS", b'{"labels": "x"}'),
        ("ANSWERS", b"[]"),
        ("TRAINING_SET", b"{}"),
    ],
)
def test_hostile_inputs_of_an_evaluation_are_refused(role: str, data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        run_stage("evaluate", run_chain() | {role: StageOutput(data)}, decoys=5)


def test_indices_beyond_the_data_are_refused() -> None:
    made = run_chain()
    training = parse_output(made["TRAINING_SET"])
    training["indices"][0] = 10**6
    with pytest.raises(InvalidRequest, match="beyond"):
        run_stage(
            "unlearn",
            made | {"TRAINING_SET": StageOutput.of_json(training)},
            "gradient_ascent",
            deletions=2,
        )


def test_data_that_changed_since_training_are_noticed(data_root: Path) -> None:
    made = run_chain()
    write_data(data_root, seed=1)
    with pytest.raises(InvalidRequest, match="has changed"):
        run_stage("unlearn", made, "gradient_ascent", deletions=2)
