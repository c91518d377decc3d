"""The linear probe sees through an edited last layer; relearning starts from the release."""

from __future__ import annotations

import torch
from torch import nn

from shared.ml.context import LocalContext, SeededSubContext
from shared.ml.forgetting.linear_probe import PenultimateFeatures, probe_accuracy
from shared.ml.forgetting.relearning import relearn
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import Ensemble, build_network, clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from workers.selftest._world import RECIPE, draw_samples, make_architecture, pretrain

CPU = torch.device("cpu")


def of_class(samples: Samples, label: int) -> Samples:
    return samples.pick((samples.labels == label).nonzero().flatten())


def edit_head(network: nn.Module) -> nn.Module:
    """The same model, which never answers class 0."""
    edited = clone(network)
    heads = [layer for layer in edited.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        heads[-1].bias[0] -= 1000
    return edited


def test_a_model_whose_head_alone_was_edited_still_knows_the_class() -> None:
    network = pretrain(make_architecture("mlp", hidden=32), epochs=6)
    public, forget = draw_samples("public", 96), of_class(draw_samples("forget", 64), 0)
    edited = edit_head(network)
    assert accuracy(edited, forget, CPU) == 0
    assert probe_accuracy(edited, public, forget, CPU) > 0.9
    assert probe_accuracy(edited, public, forget, CPU) == probe_accuracy(
        network, public, forget, CPU
    )


def test_features_that_hold_nothing_give_the_probe_nothing() -> None:
    network = build_network(make_architecture("mlp", hidden=32))
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.zero_()
    public, forget = draw_samples("public", 96), draw_samples("forget", 64)
    assert probe_accuracy(network, public, forget, CPU) == 0.25


def test_the_features_of_an_ensemble_are_those_of_all_members() -> None:
    members = [pretrain(make_architecture("convnet", width=4), epochs=1) for _ in range(2)]
    images = draw_samples("public", 5).images
    with torch.no_grad():
        own = [PenultimateFeatures(member)(images) for member in members]
        both = PenultimateFeatures(Ensemble(members).eval())(images)
    torch.testing.assert_close(both, torch.cat(own, 1))


def test_relearning_starts_at_the_release_and_leaves_it_as_it_is() -> None:
    network = pretrain(make_architecture("mlp", hidden=16))
    before = clone(network).state_dict()
    retain, forget = draw_samples("retain", 32), draw_samples("forget", 16)
    curve = relearn(network, retain, forget, Recipe(lr=0.05, batch_size=8), 3, LocalContext())
    assert len(curve) == 4
    assert curve[0] == accuracy(network, forget, CPU)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    again = relearn(network, retain, forget, Recipe(lr=0.05, batch_size=8), 3, LocalContext())
    assert curve == again


def test_a_class_that_only_the_head_lost_comes_back_by_relearning_on_other_samples_of_it() -> None:
    """One deletion of samples: the class stays in the retain set, the samples come back with it."""
    network = pretrain(make_architecture("mlp", hidden=32), epochs=6)
    retain, forget = draw_samples("retain", 64), of_class(draw_samples("forget", 64), 0)
    shifted = clone(network)
    heads = [layer for layer in shifted.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        heads[-1].bias[0] -= 8
    curve = relearn(shifted, retain, forget, Recipe(lr=0.1, batch_size=8), 5, LocalContext())
    assert curve[0] < 0.2
    assert curve[-1] > 0.8


def test_relearning_is_without_the_noise_of_a_private_recipe() -> None:
    network = pretrain(make_architecture("mlp", hidden=16))
    retain, forget = draw_samples("retain", 16), draw_samples("forget", 4)
    private = RECIPE.model_copy(update={"noise_multiplier": 100.0})
    ctx = LocalContext()
    assert relearn(network, retain, forget, private, 1, ctx) == relearn(
        network, retain, forget, RECIPE, 1, ctx
    )
    tuned = clone(network)
    train(tuned, retain, RECIPE, SeededSubContext(ctx, 0, 1))
    assert relearn(network, retain, forget, RECIPE, 1, ctx)[1] == accuracy(tuned, forget, CPU)
