"""Originals that were trained otherwise (shards, records, in private, balanced) and deletions one
after another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import Networks, read_networks
from shared.ml.records import TrainingSet
from shared.ml.tensors import read_tensors
from tests.support.tiny_chain import DATA, Outputs, StopAtCheckpoint, parse_output, run_chain
from workers.local import run_stage

pytestmark = pytest.mark.slow


def made(method: str, train: dict[str, Any], **params: Any) -> Outputs:
    """Everything up to the unlearned models."""
    done = run_chain()
    done |= run_stage("train", done, dataset=DATA, **({"size": 12, "lr": 0.1} | train))
    return done | run_stage("unlearn", done, method, **({"deletions": 3} | params))


def networks(done: Outputs, role: str) -> Networks:
    return read_networks(done[role].data, role)


def attacked(done: Outputs, **params: Any) -> Outputs:
    done = done | run_stage("attack", done, "feature_recovery", **({"iterations": 150} | params))
    done |= run_stage(
        "attack", done, "label_inference", gradient_from=params.get("gradient_from", "pair")
    )
    return done | run_stage("evaluate", done, decoys=5)


def test_sisa_goes_through_all_stages_and_each_deletion_moves_one_member() -> None:
    done = attacked(made("sisa", {"shards": 3}, shards=3), gradient_from="base", controls=2)
    original, unlearned = networks(done, "ORIGINAL"), networks(done, "UNLEARNED")
    assert original.architecture.members == 3
    for deletion in range(3):
        moved = [
            any(
                not torch.equal(t[deletion], original.select_member(m).state[n][0])
                for n, t in unlearned.select_member(m).state.items()
            )
            for m in range(3)
        ]
        assert sum(moved) == 1
    evaluation = parse_output(done["EVALUATION"])
    assert evaluation["unlearning"]["exact"] is True
    assert evaluation["unlearning"]["repeat_ratio"] < 0.01
    # each member's N is 4: the estimate holds
    assert evaluation["metrics"]["psnr"]["gain"]["mean"] > 1
    assert {"nearest_public", "random_direction"} <= evaluation["metrics"]["psnr"][
        "baselines"
    ].keys()
    assert evaluation["utility"]["test_accuracy"] > 0


def test_only_sisa_unlearns_an_ensemble() -> None:
    with pytest.raises(
        InvalidRequest, match="gradient_ascent cannot unlearn an ensemble of 3 models"
    ):
        made("gradient_ascent", {"shards": 3})


def test_a_sharded_training_goes_on_with_the_members_that_are_left() -> None:
    base = run_chain()
    whole = run_stage("train", base, dataset=DATA, size=12, shards=4)
    for stop in (1, 3):
        hooks = StopAtCheckpoint(stop)
        with pytest.raises(JobFailed, match="stopped"):
            run_stage("train", base, dataset=DATA, size=12, shards=4, hooks=hooks)
        again = run_stage("train", base, dataset=DATA, size=12, shards=4, hooks=hooks)
        assert again == whole


def test_amnesiac_gives_the_base_model_where_every_step_saw_every_sample() -> None:
    done = attacked(made("amnesiac", {"record_deltas": True}))
    base, after = networks(done, "BASE"), networks(done, "UNLEARNED")
    for name, t in base.state.items():
        torch.testing.assert_close(after.state[name][1], t[0], atol=1e-6, rtol=1e-5)


def test_amnesiac_of_small_batches_takes_back_only_its_own() -> None:
    done = made("amnesiac", {"record_deltas": True, "batch_size": 4})
    _, about = read_tensors(done["BATCH_DELTAS"].data, "BATCH_DELTAS")
    assert [len(batch) for batch in about["batches"]] == [4, 4, 4]
    assert "BATCH_DELTAS" not in run_chain()
    base, after = networks(done, "BASE"), networks(done, "UNLEARNED")
    assert any(
        not torch.allclose(after.state[name][1], t[0], atol=1e-4) for name, t in base.state.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["retrain", "gradient_ascent", "amnesiac", "sisa"])
def test_successive_deletions_start_where_the_one_before_ended(method: str) -> None:
    train: dict[str, Any] = {
        "amnesiac": {"record_deltas": True, "batch_size": 4},
        "sisa": {"shards": 3},
    }.get(method, {})
    own: dict[str, Any] = {"shards": 3} if method == "sisa" else {}
    done, apart = made(method, train, successive=True, **own), made(method, train, **own)
    starts, after = networks(done, "ORIGINAL"), networks(done, "UNLEARNED")
    first = networks(apart, "ORIGINAL")
    assert (starts.count, first.count) == (3, 1)
    for name, t in starts.state.items():
        assert torch.equal(t[0], first.state[name][0])
        assert torch.equal(t[1:], after.state[name][:-1])
        assert torch.equal(after.state[name][0], networks(apart, "UNLEARNED").state[name][0])
    evaluation = parse_output(attacked(done)["EVALUATION"])
    assert evaluation["deletions"] == 3
    if method == "gradient_ascent":  # each step is the bare gradient at its own start
        assert evaluation["metrics"]["psnr"]["gain"]["mean"] > 2
        assert evaluation["metrics"]["label_accuracy"]["mean"] == 1


def test_successive_retraining_forgets_all_that_went_before() -> None:
    done, apart = (
        made("retrain", {}, successive=True),
        made("retrain", {}, deletions=1, indices=None, size=3),
    )
    last, together = networks(done, "UNLEARNED"), networks(apart, "UNLEARNED")
    # one order of the same nine samples or another: up to rounding
    for name, t in together.state.items():
        torch.testing.assert_close(last.state[name][2], t[0], atol=1e-5, rtol=1e-4)


def test_a_balanced_training_set_has_as_many_of_each_class_and_whole_classes_can_go() -> None:
    done = made("retrain", {"balanced": True}, forget="class", deletions=4)
    labels = TrainingSet.read(done["TRAINING_SET"].data, "TRAINING_SET").load_samples().labels
    assert labels.bincount().tolist() == [3, 3, 3, 3]
    assert parse_output(done["DELETION_SIZES"])["k"] == 3
    assert sorted(row[0] for row in parse_output(done["LABELS"])["labels"]) == [0, 1, 2, 3]
    assert all(len({*row}) == 1 for row in parse_output(done["LABELS"])["labels"])


def test_an_uneven_size_cannot_be_balanced() -> None:
    with pytest.raises(InvalidRequest, match="13 samples cannot be balanced over 4 classes"):
        run_stage("train", run_chain(), dataset=DATA, size=13, balanced=True)


def test_dp_sgd_is_a_training_of_its_own_and_says_what_it_promises() -> None:
    private = {"noise_multiplier": 2.0, "max_grad_norm": 0.5}
    done = made("retrain", private)
    told = parse_output(run_stage("defend", done, "dp_sgd", **private)["DEFENSE"])
    assert told["guarantee"]["noise_multiplier"] == 2.0
    assert 1 < told["guarantee"]["epsilon"] < 4
    with pytest.raises(InvalidRequest, match=r"trained with noise_multiplier 2\.0, not 1\.0"):
        run_stage("defend", done, "dp_sgd", max_grad_norm=0.5)


def test_dp_sgd_hides_what_plain_retraining_gives_away() -> None:
    def gain(train: dict[str, Any]) -> float:
        done = attacked(made("retrain", train), gradient_from="base")
        return float(parse_output(done["EVALUATION"])["metrics"]["psnr"]["gain"]["mean"])

    assert gain({}) > 2 > 1 > gain({"noise_multiplier": 1.0, "max_grad_norm": 1.0})


@pytest.mark.parametrize("method", ["retrain", "gradient_ascent"])
def test_a_training_set_of_one_can_be_forgotten_and_leaks_most(method: str) -> None:
    done = attacked(
        made(method, {"size": 1}, deletions=1),
        gradient_from="base" if method == "retrain" else "pair",
    )
    evaluation = parse_output(done["EVALUATION"])
    assert evaluation["utility"]["retain_accuracy"] is None
    assert evaluation["utility"]["original_retain_accuracy"] is None
    assert evaluation["metrics"]["psnr"]["gain"]["mean"] > 2
    if method == "retrain":
        for name, t in networks(done, "BASE").state.items():
            assert torch.equal(networks(done, "UNLEARNED").state[name][0], t[0])


def test_a_method_that_needs_samples_to_keep_says_so() -> None:
    with pytest.raises(InvalidRequest, match="fine_tune needs a non-empty retain set"):
        made("fine_tune", {"size": 1}, deletions=1)


def test_what_was_forgotten_before_is_not_kept() -> None:
    done = made("gradient_ascent", {}, successive=True, size=3, lr=3.0)
    training = TrainingSet.read(done["TRAINING_SET"].data, "TRAINING_SET")
    samples, gone, shares = training.load_samples(), set[int](), []
    for deletion, forgotten in enumerate(parse_output(done["FORGET_SETS"])["indices"]):
        gone |= {*forgotten}
        kept = samples.pick(
            [place for place, index in enumerate(training.indices) if index not in gone]
        )
        shares.append(
            accuracy(networks(done, "UNLEARNED").load_network(deletion), kept, torch.device("cpu"))
        )
    told = parse_output(run_stage("evaluate", done, decoys=5)["EVALUATION"])["utility"]
    assert told["retain_accuracy"] == pytest.approx(sum(shares) / 3)
    assert len({*shares}) > 1
