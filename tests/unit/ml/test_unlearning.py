"""Each method against its definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, build_network, clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import gradient_ascent, retrain
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugin_ref import PluginRef

MLP = Architecture(
    model=PluginRef(name="mlp"), input_shape=(1, 3, 3), num_classes=3, mean=(0.5,), std=(0.5,)
)


def data(n: int) -> Samples:
    source = make_generator(n, "samples")
    return Samples(
        torch.rand(n, 1, 3, 3, generator=source), torch.randint(0, 3, (n,), generator=source)
    )


def test_gradient_ascent_is_one_step_up_the_loss() -> None:
    original, forget = build_network(MLP, make_generator(0, "w")), data(2)
    gradient = torch.autograd.grad(
        cross_entropy(original(forget.images), forget.labels), list(original.parameters())
    )
    params = gradient_ascent.GradientAscentParams(lr=0.1, steps=1)
    after = gradient_ascent.unlearn(
        UnlearningInputs(clone(original)), data(5), forget, params, LocalContext()
    )
    for old, new, g in zip(original.parameters(), after.parameters(), gradient, strict=True):
        torch.testing.assert_close(new, old + 0.1 * g)


def test_more_steps_climb_higher() -> None:
    original, forget = build_network(MLP, make_generator(0, "w")), data(2)
    losses = []
    for steps in (1, 5):
        params = gradient_ascent.GradientAscentParams(lr=0.1, steps=steps)
        after = gradient_ascent.unlearn(
            UnlearningInputs(clone(original)), data(5), forget, params, LocalContext()
        )
        losses.append(cross_entropy(after(forget.images), forget.labels).item())
    assert losses[1] > losses[0] > cross_entropy(original(forget.images), forget.labels).item()


def test_ascent_that_leaves_finite_numbers_fails_in_words() -> None:
    network = build_network(MLP, make_generator(0, "w"))
    with torch.no_grad():
        next(network.parameters()).fill_(3e38)
    params = gradient_ascent.GradientAscentParams(steps=1)
    with pytest.raises(JobFailed, match="lower lr"):
        gradient_ascent.unlearn(UnlearningInputs(network), data(5), data(2), params, LocalContext())


def test_retrain_is_training_without_the_forget_set() -> None:
    base, retain = build_network(MLP, make_generator(0, "w")), data(6)
    recipe = Recipe(lr=0.1, epochs=2)
    expected = clone(base)
    train(expected, retain, recipe, LocalContext())
    inputs = UnlearningInputs(clone(base), clone(base), recipe)
    after = retrain.unlearn(inputs, retain, data(2), retrain.RetrainParams(), LocalContext())
    for a, b in zip(expected.parameters(), after.parameters(), strict=True):
        assert torch.equal(a, b)


def test_retrain_without_a_base_is_refused() -> None:
    inputs = UnlearningInputs(build_network(MLP, make_generator(0, "w")))
    with pytest.raises(InvalidRequest, match="BASE and RECIPE"):
        retrain.unlearn(inputs, data(6), data(2), retrain.RetrainParams(), LocalContext())
