"""Training without pretraining, on a pool as large as the whole train split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import make_generator
from shared.ml.networks import build_network, read_networks
from shared.ml.records import ForgetSets, TrainingSet
from shared.ml.tensors import read_tensors
from shared.ml.training import deltas
from shared.ml.training.deltas import BatchDeltas
from tests.support.tiny_chain import DATA, MODEL, Outputs, parse_output
from workers.local import run_stage

SPLIT = 160  # train split of the tiny data set
CLASSES = 4


def start(pool: int | None = SPLIT, **params: Any) -> Outputs:
    return run_stage("pretrain", {}, dataset=DATA, model=MODEL, pool=pool, epochs=0, **params)


def train_on(made: Outputs, size: int, pool: int | None = SPLIT, **params: Any) -> Outputs:
    return made | run_stage("train", made, dataset=DATA, pool=pool, size=size, **params)


def test_without_epochs_the_base_model_is_the_initial_network() -> None:
    made = start()
    base = read_networks(made["BASE"].data, "BASE")
    initial = build_network(base.architecture, make_generator(0, "initial weights")).state_dict()
    for name, tensor in base.state.items():
        assert torch.equal(tensor[0], initial[name])
    metrics = parse_output(made["METRICS"])
    assert (metrics["n"], metrics["epochs"], metrics["loss"]) == (0, 0, None)
    assert 0 <= metrics["test_accuracy"] <= 1
    other = read_networks(
        run_stage("pretrain", {}, seed=1, dataset=DATA, model=MODEL, epochs=0)["BASE"].data, "BASE"
    )
    assert any(not torch.equal(t, other.state[name]) for name, t in base.state.items())


def test_a_pool_that_leaves_nothing_to_pretrain_on_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nothing is left to pretrain on") as refused:
        run_stage("pretrain", {}, dataset=DATA, model=MODEL, pool=SPLIT, epochs=1)
    assert refused.value.field == "params.pool"
    made = run_stage("pretrain", {}, dataset=DATA, model=MODEL, pool=SPLIT - 1, epochs=1)
    assert parse_output(made["METRICS"])["n"] == 1
    with pytest.raises(InvalidRequest, match="fewer than a pool of 161"):
        start(SPLIT + 1)


def test_training_sets_are_as_large_as_the_pool() -> None:
    made = train_on(start(), SPLIT)
    training = TrainingSet.read(made["TRAINING_SET"].data, "TRAINING_SET")
    assert (sorted(training.indices), training.pool) == ([*range(SPLIT)], SPLIT)
    with pytest.raises(InvalidRequest, match=r"has only 40 samples, but size is 41"):
        train_on(start(40), 41, pool=40)
    made |= run_stage("unlearn", made, "gradient_ascent", deletions=2)
    with pytest.raises(InvalidRequest, match=r"no non-members; lower train\.size or raise pool"):
        run_stage("candidates", made)


def test_what_is_not_trained_on_is_held_out_of_the_same_pool() -> None:
    made = train_on(start(80), 60, pool=80)
    training = TrainingSet.read(made["TRAINING_SET"].data, "TRAINING_SET")
    labels = training.load_train_split("TRAINING_SET").labels
    pool, held_out = (
        {*t.tolist()} for t in (training.find_pool(labels), training.find_held_out(labels))
    )
    there = Counter(labels.tolist())
    for label, count in Counter(labels[sorted(pool)].tolist()).items():
        assert abs(count - there[label] * 80 / SPLIT) < 1
    assert (pool - held_out, len(held_out)) == ({*training.indices}, 20)
    made |= run_stage("unlearn", made, "retrain", deletions=2)
    made |= run_stage("candidates", made)
    members = parse_output(made["MEMBERSHIP"])
    others = {i for i, one in zip(members["indices"], members["trained"], strict=True) if not one}
    assert others == held_out
    made |= run_stage("defend", made, "obfuscation")
    assert parse_output(made["DEFENSE"])["strength"]["validation_samples"] == 20
    public = parse_output(made["PUBLIC"])["sets"]
    assert {index for one in public for index in one} == held_out


def test_retraining_starts_from_the_initial_network_by_the_same_recipe() -> None:
    recipe = {"epochs": 3, "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    made = train_on(start(), 120, schedule="one_cycle", batch_size=32, **recipe)
    recorded = parse_output(made["RECIPE"])
    assert recorded == {**recorded, **recipe, "schedule": "one_cycle", "batch_size": 32}
    made |= run_stage("unlearn", made, "retrain", deletions=2, size=3)
    base, unlearned = (read_networks(made[role].data, role) for role in ("BASE", "UNLEARNED"))
    for name, tensor in base.state.items():
        if tensor.is_floating_point() and tensor.dim() > 2:
            assert not torch.allclose(tensor[0], unlearned.state[name][0], atol=1e-3)
    assert parse_output(made["DELETION_SIZES"]) == {"N": 120, "k": 3, "classes": None}


@pytest.mark.parametrize(("params", "k"), [({"forget": "class"}, 30), ({"size": 40}, 40)])
def test_classes_and_large_sets_are_forgotten(params: dict[str, Any], k: int) -> None:
    made = train_on(start(), 120, balanced=True, epochs=2)
    made |= run_stage("unlearn", made, "retrain", deletions=3, **params)
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
    assert [len(row) for row in truth.indices] == [k] * 3
    if params == {"forget": "class"}:
        assert all(len({*row}) == 1 for row in truth.labels)
    made |= run_stage("candidates", made)
    made |= run_stage("attack", made, "membership_gradient")
    scores = read_tensors(made["SCORES"].data, "SCORES")[0]["scores"]
    assert scores.shape == (3, SPLIT)
    evaluation = parse_output(run_stage("evaluate", made)["EVALUATION"])
    assert evaluation["metrics"]["auc_forgotten"]["n"] == 3 * k


def test_thousands_of_digits_from_scratch_with_a_class_to_forget() -> None:
    data = {"name": "mnist_5k"}
    made = run_stage("pretrain", {}, dataset=data, model={"name": "mlp"}, epochs=0, pool=4000)
    made |= run_stage(
        "train", made, dataset=data, pool=4000, size=3500, balanced=True, lr=0.1, batch_size=32
    )
    assert parse_output(made["METRICS"])["test_accuracy"] > 0.8
    made |= run_stage("unlearn", made, "gradient_ascent", forget="class", deletions=2)
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
    assert [len(row) for row in truth.indices] == [350, 350]
    listed = run_stage("unlearn", made, "gradient_ascent", indices=[[3499, 12], [3000, 5]])
    training = parse_output(made["TRAINING_SET"])["indices"]
    assert parse_output(listed["FORGET_SETS"])["indices"][0] == [training[3499], training[12]]


def test_named_records_outside_the_default_pool_need_a_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    labels = np.arange(200) % CLASSES
    images = np.random.default_rng(0).random((200, 9, 9))
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    rows = [*range(30)]  # an eighth is 20
    own = {"name": "npz", "params": {"path": "own.npz", "deletable_rows": rows}}
    with pytest.raises(InvalidRequest, match="set pool, or name fewer"):
        run_stage("pretrain", {}, dataset=own, model=MODEL, epochs=1)
    made = run_stage("pretrain", {}, dataset=own, model=MODEL, pool=60, epochs=1)
    made |= run_stage("train", made, dataset=own, pool=60, size=40)
    made |= run_stage("unlearn", made, "gradient_ascent", rows=[[row] for row in rows])
    training = TrainingSet.read(made["TRAINING_SET"].data, "TRAINING_SET")
    split = training.load_train_split("TRAINING_SET")
    forgotten = parse_output(made["FORGET_SETS"])["indices"]
    for row, (index,) in zip(rows, forgotten, strict=True):
        expected = torch.tensor(images[row], dtype=torch.float32)
        torch.testing.assert_close(split.images[index, 0], expected)
    assert parse_output(made["METRICS"])["n"] == 40
    assert len(training.find_held_out(split.labels)) == 20
    assert len(run_stage("candidates", made)) == 3


def test_more_positions_than_a_file_can_list_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"weight": torch.zeros(2)}
    recorded = BatchDeltas()
    for _ in range(3):
        recorded.record_step(torch.arange(100), change)
    header = len(recorded.to_bytes())
    monkeypatch.setattr(deltas, "MAX_HEADER_BYTES", header)
    monkeypatch.setattr(deltas, "HEADER_MARGIN_BYTES", 0)
    with pytest.raises(JobFailed, match="4 steps name more samples than can be recorded"):
        recorded.record_step(torch.arange(100), change)
