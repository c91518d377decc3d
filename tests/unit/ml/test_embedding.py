"""The input of the last layer, read off a gradient, as a second term of the search's objective."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._embedding import read_embeddings
from shared.ml.attacks._estimate import estimate_gradient
from shared.ml.context import make_generator
from shared.ml.networks import Architecture
from shared.plugin_ref import PluginRef
from tests.support.observations import make_observation

ARCHITECTURE = Architecture(
    model=PluginRef(name="convnet", params={"width": 2}),
    input_shape=(1, 9, 9),
    num_classes=4,
    mean=(0.5,),
    std=(0.5,),
)


def embed(network: nn.Module, images: Tensor) -> Tensor:
    """The input of the last layer."""
    body = network.network
    assert isinstance(body, nn.Sequential)
    features: Tensor = body[:-1]((images - network.mean) / network.std)
    return features


def test_the_gradient_of_one_sample_shows_its_embedding() -> None:
    view, truth = make_observation(ARCHITECTURE, "gradient_ascent")
    found = read_embeddings(estimate_gradient(view, "pair"), 0.3)
    assert found is not None
    network = view.original.load_network()
    torch.testing.assert_close(found.values, embed(network, truth.images), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(found.weight, torch.full((3,), 0.3))


def test_what_is_not_one_samples_gradient_shows_none() -> None:
    view, _ = make_observation(ARCHITECTURE, "gradient_ascent")
    estimate = estimate_gradient(view, "pair")
    noise = {
        name: torch.randn(t.shape, generator=make_generator(0, name))
        for name, t in estimate.direction.items()
    }
    noisy = read_embeddings(estimate._replace(direction=noise), 0.3)
    assert noisy is not None
    assert noisy.weight.tolist() == [0, 0, 0]
    weights = {name: torch.ones_like(t) for name, t in noise.items()}
    assert read_embeddings(estimate._replace(coordinate_weights=weights), 0.3) is None


@pytest.mark.parametrize("implementation", [_matching, _plain])
def test_the_objective_with_an_embedding_is_the_one_written_out(implementation: ModuleType) -> None:
    view, truth = make_observation(ARCHITECTURE, "gradient_ascent")
    estimate = estimate_gradient(view, "pair")
    target = read_embeddings(estimate, 0.3)
    assert target is not None
    network = view.original.load_network()
    weights = {name: w.detach() for name, w in network.named_parameters()}
    images = torch.rand(3, 1, 1, 9, 9, generator=make_generator(0, "start"))
    labels = truth.labels.view(3, 1)
    gradient, loss = implementation.build_matcher(network, weights, 2)(
        images, labels, estimate.direction, 0.0, embedding=target
    )
    parameters = list(network.parameters())
    for trial in range(3):
        x = images[trial].clone().requires_grad_()
        g = torch.autograd.grad(
            cross_entropy(network(x), labels[trial]), parameters, create_graph=True
        )
        flat, aim = (
            torch.cat([t.flatten() for t in some])
            for some in (g, [d[trial] for d in estimate.direction.values()])
        )
        distance = 1 - torch.cosine_similarity(flat, aim, dim=0)
        wanted = target.values[trial]
        off = (embed(network, x)[0] - wanted).square().sum() / wanted.square().sum()
        (expected,) = torch.autograd.grad(distance + 0.3 * off, x)
        torch.testing.assert_close(gradient[trial], expected, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(loss[trial], distance.detach())
