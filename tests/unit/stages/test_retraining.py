"""retraining: the same forget sets as the unlearn stage, models of several seeds, resumable."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, RetrainingRecord
from tests.support.tiny_chain import DATA, MODEL, Outputs, StopAtCheckpoint, run_chain
from workers.local import run_stage
from workers.stages import retraining


def chain(seed: int = 0, train: dict[str, Any] | None = None) -> Outputs:
    """Everything up to the original."""
    done = run_chain(seed=seed)
    options = {"size": 12, "lr": 0.1, "batch_size": 4} | (train or {})
    return done | run_stage("train", done, seed=seed, dataset=DATA, **options)


def retrain(done: Outputs, forget: dict[str, Any], seed: int = 0, **params: Any) -> Outputs:
    return done | run_stage("retraining", done, seed=seed, forget=forget, **params)


def read_record(done: Outputs) -> RetrainingRecord:
    return RetrainingRecord.read(done["RETRAINING"].data, "RETRAINING")


@pytest.mark.parametrize("method", ["gradient_ascent", "retrain", "fine_tune"])
@pytest.mark.parametrize(
    "forget",
    [{"deletions": 3}, {"deletions": 2, "size": 2, "successive": True}, {"indices": [[5], [0]]}],
)
def test_forget_sets_are_those_of_every_method_with_the_same_seed(
    method: str, forget: dict[str, Any]
) -> None:
    for seed in (0, 1):
        done = chain(seed)
        done |= run_stage("unlearn", done, method, seed=seed, **forget)
        truth = ForgetSets.read(done["FORGET_SETS"].data, "FORGET_SETS")
        record = read_record(retrain(done, forget, seed))
        assert (record.indices, record.labels, record.digest) == (
            truth.indices,
            truth.labels,
            truth.digest,
        )
        assert record.successive is bool(forget.get("successive"))


def test_models_differ_by_seed_and_from_those_of_the_method_retrain() -> None:
    done = chain()
    done |= run_stage("unlearn", done, "retrain", deletions=3)
    models = read_networks(retrain(done, {"deletions": 3}, seeds=4)["RETRAINED"].data, "RETRAINED")
    released = read_networks(done["UNLEARNED"].data, "UNLEARNED")
    assert models.count == 3 * 4
    (name, *_) = models.state
    stacks = [*models.state[name], *released.state[name]]
    for index, one in enumerate(stacks):
        assert not any(torch.equal(one, other) for other in stacks[index + 1 :])


def test_one_full_batch_without_the_forget_set_is_what_the_method_retrain_gives() -> None:
    """With a single step the order of samples only rounds, so which samples are left out shows."""
    done = chain(train={"batch_size": 128})
    done |= run_stage("unlearn", done, "retrain", deletions=3)
    models = read_networks(retrain(done, {"deletions": 3})["RETRAINED"].data, "RETRAINED")
    released = read_networks(done["UNLEARNED"].data, "UNLEARNED")
    for name, stack in models.state.items():
        for deletion in range(3):
            for seed in range(3):
                torch.testing.assert_close(
                    stack[3 * deletion + seed], released.state[name][deletion]
                )


def test_it_repeats_and_resumes_byte_for_byte() -> None:
    done = chain()
    whole = run_stage("retraining", done, forget={"deletions": 2})
    assert run_stage("retraining", done, forget={"deletions": 2}) == whole
    hooks = StopAtCheckpoint(4)
    with pytest.raises(JobFailed, match="stopped"):
        run_stage("retraining", done, forget={"deletions": 2}, hooks=hooks)
    assert run_stage("retraining", done, forget={"deletions": 2}, hooks=hooks) == whole


def test_all_members_of_an_ensemble_are_retrained_on_their_shards() -> None:
    done = chain(train={"shards": 3})
    models = read_networks(retrain(done, {"deletions": 2})["RETRAINED"].data, "RETRAINED")
    original = read_networks(done["ORIGINAL"].data, "ORIGINAL")
    assert models.architecture == original.architecture
    assert models.architecture.members == 3
    (name, *_) = models.select_member(0).state
    for member in range(3):
        stack = models.select_member(member).state[name]
        assert not torch.equal(stack[0], stack[1])


def test_without_pretraining_each_seed_has_its_own_initial_network() -> None:
    done = run_stage("pretrain", {}, dataset=DATA, model=MODEL, epochs=0)
    done |= run_stage("train", done, dataset=DATA, size=12, lr=1e-6)
    own, shared = (
        read_networks(
            retrain(done, {"deletions": 2}, pretrain={"epochs": epochs})["RETRAINED"].data,
            "RETRAINED",
        )
        for epochs in (0, 2)
    )
    base = read_networks(done["BASE"].data, "BASE")
    (name, *_) = base.state  # hardly trained: what they started from shows
    torch.testing.assert_close(shared.state[name], base.state[name].expand_as(shared.state[name]))
    for seed in range(3):
        torch.testing.assert_close(own.state[name][seed], own.state[name][3 + seed])
        assert not torch.allclose(own.state[name][seed], base.state[name][0], atol=1e-2)
    assert not torch.allclose(own.state[name][0], own.state[name][1], atol=1e-2)


def test_a_private_recipe_is_repeated_with_noise_of_its_own() -> None:
    done = chain(train={"noise_multiplier": 1.0})
    models = read_networks(retrain(done, {"deletions": 1})["RETRAINED"].data, "RETRAINED")
    (name, *_) = models.state
    assert (models.state[name][0] - models.state[name][1]).abs().max() > 1e-3


def test_successive_deletions_also_leave_out_what_went_before() -> None:
    done = chain(train={"batch_size": 128})
    alone, after = (
        read_networks(
            retrain(done, {"deletions": 2, "successive": successive})["RETRAINED"].data, "RETRAINED"
        )
        for successive in (False, True)
    )
    (name, *_) = alone.state
    assert torch.equal(alone.state[name][:3], after.state[name][:3])
    assert not torch.allclose(alone.state[name][3], after.state[name][3], atol=1e-5)


def test_it_repeats_as_many_deletions_as_are_allowed_and_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = chain()
    assert len(read_record(retrain(done, {"deletions": 5}, max_deletions=2)).indices) == 2
    model_bytes = sum(
        t.numel() * 4 for t in read_networks(done["BASE"].data, "BASE").state.values()
    )
    monkeypatch.setattr(retraining, "MAX_WEIGHT_BYTES", 3 * 4 * model_bytes + 1)
    assert len(read_record(retrain(done, {"deletions": 5})).indices) == 4
    monkeypatch.setattr(retraining, "MAX_WEIGHT_BYTES", 3 * model_bytes - 1)
    with pytest.raises(InvalidRequest, match="lower seeds") as raised:
        retrain(done, {"deletions": 5})
    assert raised.value.field == "params.seeds"


def test_shards_of_another_training_set_are_refused() -> None:
    done = chain()
    other = run_stage("train", done, dataset=DATA, size=11)
    with pytest.raises(InvalidRequest, match="SHARDS does not belong"):
        retrain(done | {"SHARDS": other["SHARDS"]}, {"deletions": 1})


def test_progress_rises_to_its_end() -> None:
    class Watched(StopAtCheckpoint):
        seen: list[float] = []  # noqa: RUF012 - of this one test

        def heartbeat(self, done: int, total: int, metrics: Any) -> None:
            self.seen.append(done / total)

    run_stage("retraining", chain(), forget={"deletions": 2}, hooks=Watched(0))
    assert Watched.seen == sorted(Watched.seen)
    assert Watched.seen[-1] == 1
