"""forgetting: losses, the way to retraining and the tests, of releases that did nothing, something
and everything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest
from shared.forgetting import Forgetting, ForgettingRow
from shared.ml.loss import compute_loss
from shared.ml.networks import read_networks, write_networks
from shared.ml.records import ForgetSets
from tests.support.tiny_chain import DATA, Outputs, run_chain, write_data
from workers.context import StageOutput
from workers.local import run_stage

pytestmark = pytest.mark.slow

DELETIONS = 6
TRAIN = {"size": 20, "lr": 0.3, "batch_size": 4, "epochs": 20}
ALL = ["three_sample", "klom", "linear_probe", "relearning", "relearning_forgotten"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """An original that has memorised its samples, and its retrained models."""
    folder: Path = tmp_path_factory.mktemp("trained")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
        done = run_chain()
        done |= run_stage("train", done, dataset=DATA, **TRAIN)
        return done | run_stage("retraining", done, forget={"deletions": DELETIONS})


def measure(done: Outputs, **params: Any) -> ForgettingRow:
    output = run_stage("forgetting", done, **params)["FORGETTING"]
    return Forgetting.model_validate(json.loads(output.data)).measured


def unlearn(trained: Outputs, method: str, **params: Any) -> Outputs:
    return trained | run_stage("unlearn", trained, method, deletions=DELETIONS, **params)


def replace_released(done: Outputs, role: str, rows: list[int]) -> Outputs:
    """The released models are these of another role."""
    networks = read_networks(done[role].data, role)
    models = [networks.load_network(row) for row in rows]
    return done | {"UNLEARNED": StageOutput(write_networks(networks.architecture, models))}


def test_nothing_done_is_way_0_and_flagged(trained: Outputs) -> None:
    done = unlearn(trained, "gradient_ascent")
    found = measure(replace_released(done, "ORIGINAL", [0] * DELETIONS))
    assert found.way == 0
    assert found.release == found.original
    assert found.tests.three_sample is not None
    assert found.tests.three_sample.not_forgotten is True


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_retrained_model_in_the_place_of_the_release_is_not_flagged(
    trained: Outputs, seed: int
) -> None:
    done = unlearn(trained, "gradient_ascent")
    done |= run_stage("retraining", done, forget={"deletions": DELETIONS}, seeds=6)
    own = done | replace_released(done, "RETRAINED", [6 * d + 3 + seed for d in range(DELETIONS)])
    found = measure(own | {name: trained[name] for name in ("RETRAINED", "RETRAINING")})
    assert found.way == pytest.approx(1, abs=0.15)
    assert found.tests.three_sample is not None
    assert found.tests.three_sample.not_forgotten is False


def test_exact_retraining_is_way_1(trained: Outputs) -> None:
    found = measure(unlearn(trained, "retrain"))
    assert found.way is not None
    assert found.way == pytest.approx(1, abs=0.1)
    assert found.way_low is not None
    assert found.way_high is not None
    assert found.way_low <= found.way <= found.way_high


def test_it_says_which_models_it_compared(trained: Outputs) -> None:
    done = unlearn(trained, "retrain")
    output = run_stage("forgetting", done, tests=[])["FORGETTING"]
    inputs = Forgetting.model_validate(json.loads(output.data)).inputs
    for role in ("ORIGINAL", "UNLEARNED", "RETRAINED"):
        assert inputs[role] == hashlib.sha256(done[role].data).hexdigest()


def test_losses_and_accuracies_are_those_of_the_models(trained: Outputs) -> None:
    done = unlearn(trained, "retrain")
    found = measure(done, tests=[])
    truth = ForgetSets.read(done["FORGET_SETS"].data, "FORGET_SETS")
    images, labels = truth.load_images(), torch.tensor(truth.labels)
    retrained = read_networks(done["RETRAINED"].data, "RETRAINED")
    for deletion in range(DELETIONS):
        for seed in range(3):
            with torch.no_grad():
                logits = retrained.load_network(3 * deletion + seed)(images[deletion])
            loss = compute_loss(logits.double(), labels[deletion]).item()
            stated = found.by_deletion[deletion].retrained[seed]
            assert stated == pytest.approx(loss, rel=1e-4)
    means = torch.tensor([one.retrained for one in found.by_deletion]).mean()
    assert found.retrained.forget.loss == pytest.approx(means.item(), rel=1e-5)
    original = sum(one.original for one in found.by_deletion) / DELETIONS
    release = sum(one.release for one in found.by_deletion) / DELETIONS
    assert found.way == pytest.approx((release - original) / (means.item() - original), rel=1e-4)
    assert found.original.retain is not None
    assert found.tests.model_dump(exclude_none=True) == {}


def test_all_tests_run_and_the_release_is_named(trained: Outputs) -> None:
    done = unlearn(trained, "retrain")
    done |= run_stage("defend", done, "pruning", share=0.3)
    output = run_stage("forgetting", done | {"UNLEARNED": done["RELEASED"]}, tests=ALL)
    found = Forgetting.model_validate(json.loads(output["FORGETTING"].data))
    assert (found.unlearning.method, found.unlearning.exact) == ("retrain", True)
    assert found.defense.method == "pruning"
    tests = found.measured.tests
    assert tests.klom is not None
    assert tests.klom.retain is not None
    assert tests.linear_probe is not None
    assert tests.relearning is not None
    assert len(tests.relearning.release) == 4
    assert tests.relearning_forgotten is not None
    assert tests.relearning_forgotten.reason == (
        "forget sets of one sample hold no other samples that could come back"
    )
    difference = tests.linear_probe.release - tests.linear_probe.retrained
    assert tests.linear_probe.difference.mean == pytest.approx(difference)
    assert tests.klom.forget.samples == DELETIONS
    mean = tests.klom.forget.mean - tests.klom.forget.retrained_mean
    assert tests.klom.forget.difference.mean == pytest.approx(mean)
    last = tests.relearning.release[-1] - tests.relearning.retrained[-1]
    assert tests.relearning.difference.mean == pytest.approx(last)
    if tests.three_sample is not None and tests.three_sample.statistic is not None:
        assert tests.three_sample.low is not None
        assert tests.three_sample.low <= tests.three_sample.statistic
    assert run_stage("forgetting", done | {"UNLEARNED": done["RELEASED"]}, tests=ALL) == output


def test_relearning_on_forgotten_samples_compares_the_rest_of_the_sets(trained: Outputs) -> None:
    forget = {"deletions": 5, "size": 4}
    done = trained | run_stage("retraining", trained, forget=forget, seeds=6)
    done |= run_stage("unlearn", done, "gradient_ascent", **forget)
    nothing = measure(replace_released(done, "ORIGINAL", [0] * 5), tests=["relearning_forgotten"])
    found = nothing.tests.relearning_forgotten
    assert found is not None
    assert found.samples == 2  # half of the set
    assert found.losses is not None
    assert len(found.losses.release) == 4
    assert found.losses.release == found.losses.original
    assert found.way in (0, None)

    own = run_stage("retraining", trained, forget=forget)
    for seed in (3, 4, 5):
        placed = replace_released(done, "RETRAINED", [6 * d + seed for d in range(5)])
        found = measure(placed | own, tests=["relearning_forgotten"]).tests.relearning_forgotten
        assert found is not None
        assert found.not_forgotten is not True


def test_relearning_that_diverges_costs_its_own_result_only(trained: Outputs) -> None:
    forget = {"deletions": 3, "size": 4}
    done = trained | run_stage("retraining", trained, forget=forget)
    done |= run_stage("unlearn", done, "retrain", **forget)
    recipe = json.loads(done["RECIPE"].data) | {"lr": 10.0, "momentum": 0.99, "weight_decay": 1.0}
    released = read_networks(done["UNLEARNED"].data, "UNLEARNED")
    huge = [released.load_network(deletion) for deletion in range(3)]
    for network in huge:
        network.load_state_dict({n: 1e12 * t for n, t in network.state_dict().items()})
    wild = done | {
        "RECIPE": StageOutput.of_json(recipe),
        "UNLEARNED": StageOutput(write_networks(released.architecture, huge)),
    }
    found = measure(wild, tests=["relearning_forgotten"], relearning_forgotten_steps=20)
    test = found.tests.relearning_forgotten
    assert test is not None
    assert test.reason is not None
    assert test.reason.startswith("deletion 0: training diverged")
    assert test.losses is None


def test_successive_deletions_start_from_the_model_before(trained: Outputs) -> None:
    done = unlearn(trained, "retrain", successive=True)
    both = {"deletions": DELETIONS, "successive": True}
    found = measure(done | run_stage("retraining", done, forget=both), tests=ALL)
    assert found.way is not None
    assert found.by_deletion[0].original != found.by_deletion[1].original
    with pytest.raises(InvalidRequest, match="successive"):
        measure(done)


def test_nothing_retained_leaves_out_what_needs_retained_samples() -> None:
    done = run_chain()
    done |= run_stage("train", done, dataset=DATA, size=4, lr=0.3, epochs=5)
    forget = {"deletions": 1, "size": 4}
    done |= run_stage("unlearn", done, "retrain", **forget)
    done |= run_stage("retraining", done, forget=forget)
    found = measure(done, tests=ALL)
    assert found.original.retain is None
    assert found.tests.klom is not None
    assert found.tests.klom.retain is None
    assert found.tests.relearning is None
    assert found.tests.three_sample is not None
    assert found.tests.three_sample.reason == "the test needs at least 3 deletions"


def test_only_repeated_deletions_are_compared(trained: Outputs) -> None:
    done = unlearn(trained, "retrain")
    done |= run_stage("retraining", done, forget={"deletions": DELETIONS}, max_deletions=4)
    assert measure(done).deletions == 4


def test_inputs_that_do_not_belong_together_are_refused(trained: Outputs) -> None:
    done = unlearn(trained, "retrain")
    other = run_stage("retraining", done, forget={"deletions": DELETIONS}, seed=1)
    with pytest.raises(InvalidRequest, match="was not retrained without these forget sets"):
        measure(done | other)
    fewer = run_stage("retraining", done, forget={"deletions": 2})
    with pytest.raises(InvalidRequest, match="RETRAINED holds 6 models, not 3 for each of 6"):
        measure(done | {"RETRAINED": fewer["RETRAINED"]})
    with pytest.raises(InvalidRequest, match="differ in their number of deletions"):
        measure(replace_released(done, "RETRAINED", [0, 1]))
    record = json.loads(done["RETRAINING"].data) | {"seeds": 2}
    with pytest.raises(InvalidRequest, match="RETRAINED holds 18 models, not 2 for each of 6"):
        measure(done | {"RETRAINING": StageOutput.of_json(record)})
