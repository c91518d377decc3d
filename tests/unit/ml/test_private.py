"""DP-SGD against sample after sample, against opacus, and its epsilon against what is known."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.errors import InvalidRequest
from shared.ml.context import LocalContext, make_generator
from shared.ml.defenses.dp_sgd import compute_epsilon, compute_replacement_epsilon
from shared.ml.networks import Architecture, build_network, clone
from shared.ml.samples import Samples
from shared.ml.training.private import compute_private_gradients, draw_poisson_batch
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import gradient_ascent
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugin_ref import PluginRef

CONVNET = Architecture(
    model=PluginRef(name="convnet", params={"width": 2}),
    input_shape=(1, 9, 9),
    num_classes=3,
    mean=(0.5,),
    std=(0.5,),
)
MLP = CONVNET.model_copy(update={"model": PluginRef(name="mlp", params={"hidden": 8})})


def samples(n: int = 20) -> Samples:
    source = make_generator(0, "samples")
    return Samples(
        torch.rand(n, 1, 9, 9, generator=source), torch.randint(0, 3, (n,), generator=source)
    )


def one_by_one(network: nn.Module, data: Samples, longest: float) -> list[Tensor]:
    """The sum of the shortened gradients, by the book."""
    total = [torch.zeros_like(w) for w in network.parameters()]
    for i in range(len(data.labels)):
        found = torch.autograd.grad(
            cross_entropy(network(data.images[[i]]), data.labels[[i]]), [*network.parameters()]
        )
        norm = torch.cat([g.flatten() for g in found]).norm()
        total = [t + g * min(1.0, longest / norm.item()) for t, g in zip(total, found, strict=True)]
    return total


@pytest.mark.parametrize("longest", [1e-3, 0.5, 1e6])
def test_each_sample_is_shortened_by_itself(longest: float) -> None:
    network, recipe = (
        build_network(CONVNET, make_generator(0, "w")),
        Recipe(noise_multiplier=1e-12, max_grad_norm=longest),
    )
    loss, found = compute_private_gradients(network, samples(), 10, recipe, LocalContext(), 0)
    assert loss == pytest.approx(
        cross_entropy(network(samples().images), samples().labels).item(), rel=1e-5
    )
    for ours, theirs in zip(found.values(), one_by_one(network, samples(), longest), strict=True):
        torch.testing.assert_close(ours, theirs / 10, atol=1e-6, rtol=1e-4)


def test_a_step_is_that_of_opacus() -> None:
    ours, theirs, data = (
        build_network(MLP, make_generator(0, "w")),
        build_network(MLP, make_generator(0, "w")),
        samples(),
    )
    train(
        ours,
        data,
        Recipe(lr=0.1, batch_size=64, noise_multiplier=1e-12, max_grad_norm=0.5),
        LocalContext(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus warns of torch's own hooks
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        wrapped = GradSampleModule(theirs).train()  # in eval mode it hooks nothing
        sgd = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        optimiser = DPOptimizer(
            sgd, noise_multiplier=0.0, max_grad_norm=0.5, expected_batch_size=20
        )
        cross_entropy(wrapped(data.images), data.labels).backward()
        optimiser.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_the_noise_has_the_size_that_was_asked_for_and_is_another_each_step() -> None:
    network, ctx = build_network(CONVNET, make_generator(0, "w")), LocalContext()
    quiet = Recipe(noise_multiplier=1e-12, max_grad_norm=0.1)
    loud = quiet.model_copy(update={"noise_multiplier": 3.0})

    def noise(step: int) -> Tensor:
        (_, one), (_, other) = (
            compute_private_gradients(network, samples(), 20, r, ctx, step) for r in (loud, quiet)
        )
        return torch.cat([(one[name] - other[name]).flatten() for name in one])

    assert noise(0).std().item() == pytest.approx(3.0 * 0.1 / 20, rel=0.05)
    assert not torch.equal(noise(0), noise(1))
    assert torch.equal(noise(0), noise(0))


def test_samples_are_in_a_step_by_chance_and_all_of_them_where_the_batch_takes_all() -> None:
    recipe = Recipe(batch_size=100, noise_multiplier=1.0)
    sizes = [len(draw_poisson_batch(1000, recipe, LocalContext(), step)) for step in range(50)]
    assert len({*sizes}) > 10
    assert sum(sizes) / 50 == pytest.approx(100, rel=0.1)
    assert draw_poisson_batch(40, recipe, LocalContext(), 0).tolist() == list(range(40))


def test_training_goes_on_bit_equal_and_a_step_without_samples_is_noise_alone() -> None:
    recipe = Recipe(epochs=3, lr=0.05, batch_size=1, noise_multiplier=0.5)
    whole = build_network(MLP, make_generator(0, "w"))
    ctx = LocalContext(checkpoint_every=7)
    train(whole, samples(5), recipe, ctx)
    assert any(len(draw_poisson_batch(5, recipe, ctx, step)) == 0 for step in range(15))
    rest = LocalContext()
    assert ctx.checkpoint is not None
    rest.checkpoint = ctx.checkpoint
    resumed = build_network(MLP, make_generator(1, "other"))
    train(resumed, samples(5), recipe, rest)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def test_batch_norm_that_is_trained_is_refused() -> None:
    recipe = Recipe(noise_multiplier=1.0, batch_norm="trained")
    with pytest.raises(InvalidRequest, match="batch_norm frozen"):
        train(build_network(CONVNET, make_generator(0, "w")), samples(), recipe, LocalContext())


def test_ascent_from_a_private_original_takes_private_steps() -> None:
    original, forget = build_network(MLP, make_generator(0, "w")), samples(1)
    params, recipe = (
        gradient_ascent.GradientAscentParams(lr=0.1),
        Recipe(noise_multiplier=1e-12, max_grad_norm=1e-3),
    )
    inputs = UnlearningInputs(clone(original), recipe=recipe)
    after = gradient_ascent.unlearn(inputs, samples(), forget, params, LocalContext())
    moved = torch.cat([
        (b - a).flatten() for a, b in zip(original.parameters(), after.parameters(), strict=True)
    ])  # fmt: skip
    assert moved.norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_epsilon_is_that_of_the_gaussian_mechanism_and_falls_with_noise_and_rarer_samples() -> None:
    def of(noise: float, batch: int = 32, epochs: int = 1) -> float:
        return compute_epsilon(
            Recipe(noise_multiplier=noise, batch_size=batch, epochs=epochs), 32, 1e-5
        )

    # One Gaussian mechanism: order a costs a / (2 sigma^2); the tight bound at sigma 1 is 4.38
    # (Balle and Wang 2018).
    assert 4.38 < of(1.0) < 4.9
    assert of(2.0) < of(1.0) < of(0.5)
    assert of(1.0) < of(1.0, epochs=5)
    assert of(1.0, batch=1) < of(1.0, batch=32, epochs=32)  # as many steps, of fewer samples


def test_a_replaced_sample_is_as_half_the_noise_where_all_samples_are_used() -> None:
    def recipe(noise: float, batch: int = 32) -> Recipe:
        return Recipe(noise_multiplier=noise, batch_size=batch)

    replaced = compute_replacement_epsilon(recipe(1.0), 32, 1e-5)
    assert replaced == pytest.approx(compute_epsilon(recipe(0.5), 32, 1e-5))
    assert replaced is not None
    # the tight bound of the Gaussian mechanism with sensitivity 2 at sigma 1
    assert 10.0 < replaced < 11.5
    assert compute_replacement_epsilon(recipe(1.0, batch=16), 32, 1e-5) is None
