"""A dense first layer gives its input away: after one ascent step, and with the base after
retraining."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.attack_io import Reconstruction, WhiteBoxView
from shared.ml.attacks import analytic_inversion
from shared.ml.context import LocalContext, make_generator
from shared.ml.metrics import registry
from shared.ml.networks import Architecture
from shared.ml.records import DeletionSizes
from shared.plugin_ref import PluginRef
from tests.support.observations import make_observation

MLP = Architecture(
    model=PluginRef(name="mlp"), input_shape=(1, 9, 9), num_classes=4, mean=(0.3,), std=(0.7,)
)


def with_model(name: str, **params: object) -> Architecture:
    return MLP.model_copy(update={"model": PluginRef(name=name, params=params)})


def run(seen: WhiteBoxView, **params: object) -> Reconstruction:
    return analytic_inversion.run(
        seen, analytic_inversion.AnalyticInversionParams(**params), LocalContext()
    )


def psnr(found: Reconstruction, images: torch.Tensor) -> torch.Tensor:
    told: torch.Tensor = registry.get("psnr").target(found.images[:, 0].clamp(0, 1), images)
    return told


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_one_ascent_step_gives_the_image_away_to_60_db_in_float32(depth: int) -> None:
    seen, truth = make_observation(with_model("mlp", depth=depth), "gradient_ascent")
    found = run(replace(seen, labels=None, base=None))
    assert psnr(found, truth.images).min() > 60
    assert found.labels.flatten().tolist() == truth.labels.tolist()
    assert found.images.shape == (3, 1, 1, 9, 9)
    assert found.matching_loss.max() < 1e-3
    assert found.gradient_sources == ["pair"] * 3


def test_images_in_colour_are_unnormalised_by_channel() -> None:
    colour = MLP.model_copy(
        update={"input_shape": (3, 9, 9), "mean": (0.1, 0.5, 0.9), "std": (0.2, 0.5, 1.5)}
    )
    seen, truth = make_observation(colour, "gradient_ascent")
    assert psnr(run(seen), truth.images).min() > 60


def test_retraining_is_read_with_the_base_and_the_counts_and_either_finds_that_out() -> None:
    seen, truth = make_observation(MLP, "retrain")
    pair, base, either = (run(seen, gradient_from=source) for source in ("pair", "base", "either"))
    assert psnr(base, truth.images).min() > 60
    assert psnr(pair, truth.images).max() < 30
    assert torch.equal(either.images, base.images)
    assert either.gradient_sources == ["base"] * 3
    with pytest.raises(InvalidRequest, match="DELETION_SIZES"):
        run(replace(seen, deletion_sizes=None), gradient_from="base")


@pytest.mark.parametrize("model", ["convnet", "vgg11_bn", "resnet20"])
def test_a_network_that_does_not_start_dense_is_refused(model: str) -> None:
    seen, _ = make_observation(with_model(model), "gradient_ascent", deletions=1)
    with pytest.raises(InvalidRequest, match=f"first layer of {model} is Conv2d") as refused:
        run(seen)
    assert refused.value.field == "inputs.ORIGINAL"


def test_several_samples_and_a_first_layer_that_did_not_move_are_refused() -> None:
    seen, _ = make_observation(MLP, "gradient_ascent", deletions=2)
    with pytest.raises(InvalidRequest, match="2 were forgotten together") as refused:
        run(replace(seen, labels=None, deletion_sizes=DeletionSizes(N=8, k=2)))
    assert refused.value.field == "inputs.DELETION_SIZES"
    state = {name: t.clone() for name, t in seen.unlearned.state.items()}
    bias = next(name for name in state if name.endswith("bias"))
    state[bias][1] = seen.original.state[bias][0]
    with pytest.raises(InvalidRequest, match="deletion 1 did not change the first layer"):
        run(replace(seen, unlearned=replace(seen.unlearned, state=state)))


def test_weights_without_a_weight_of_their_coordinates_are_not_looked_at() -> None:
    seen, truth = make_observation(MLP, "gradient_ascent")
    state = {name: t.clone() for name, t in seen.unlearned.state.items()}
    first = next(name for name in state if name.endswith("weight"))
    lost = torch.rand(state[first].shape, generator=make_generator(0, "lost")) < 0.5
    state[first][lost] = 0  # as pruning does
    pruned = replace(seen, unlearned=replace(seen.unlearned, state=state))
    coordinate_weights = {
        name: (~lost if name == first else torch.ones(t.shape)).float() for name, t in state.items()
    }
    assert psnr(run(pruned), truth.images).max() < 30
    assert (
        psnr(run(replace(pruned, coordinate_weights=coordinate_weights)), truth.images).min() > 60
    )
