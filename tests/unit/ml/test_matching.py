"""The gradient-matching step against finite differences and against plain double backward, on odd
networks too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, relu

from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._batched_gradients import BatchedGradients
from shared.ml.attacks._matching import build_matcher, compute_matching_loss, total_variation
from shared.ml.attacks._search import harden_logits
from shared.ml.context import make_generator
from shared.ml.networks import Architecture, build_network
from shared.ml.second_derivatives import copy_with_weights, set_smoothing
from shared.plugin_ref import PluginRef

Tensors = dict[str, Tensor]


class Residual(nn.Module):
    """A stride, a 1x1 shortcut, depthwise and dilated convolutions, in-place changes, one layer
    used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
        self.shortcut = nn.Conv2d(4, 4, 1)
        self.activation = nn.ReLU(inplace=True)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.first(x)))
        y = self.norm(self.depthwise(x))
        y += self.shortcut(x)
        tokens = self.activation(y).flatten(2).mT
        logits: Tensor = self.linear(relu(self.linear(tokens)).mean(1))
        return logits


class Own(nn.Module):
    """Weights outside any layer, and of a kind that has no class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.bend = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.PReLU(4), Squared()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bend(x).mean((2, 3))
        return out


class Squared(nn.Module):
    """Not linear in its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 1.5]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.square().view(-1, 1, 1)


def product(name: str, **params: Any) -> nn.Module:
    choice = PluginRef(name=name, params=params)
    return build_network(
        Architecture(model=choice, input_shape=(1, 9, 9), num_classes=4, mean=(0.5,), std=(0.5,)),
        make_generator(0, "weights"),
    )


CASES = {
    "convnet early": lambda: product("convnet", width=2),
    "convnet late": lambda: product("convnet", width=2, pooling="late"),
    "mlp": lambda: product("mlp", hidden=8, depth=2),
    "logistic": lambda: product("mlp", depth=0),
    "resnet20": lambda: product("resnet20", width=2),
    "vgg11_bn": lambda: product("vgg11_bn", width=1),
    "residual": Residual,
    "own weights": Own,
}


def network(name: str, dtype: torch.dtype) -> nn.Module:
    """With BatchNorm statistics and weights that are not the identity."""
    torch.manual_seed(0)
    made = CASES[name]().to(dtype)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    made.train()
    made(torch.rand(16, 1, 9, 9, dtype=dtype))
    return made.eval()


def problem(
    made: nn.Module, trials: int, k: int, dtype: torch.dtype
) -> tuple[Tensors, Tensor, Tensor, Tensors]:
    source = make_generator(0, "problem")
    weights = {name: w.detach() for name, w in made.named_parameters()}
    raw = {
        n: torch.randn(trials, *w.shape, generator=source, dtype=dtype) for n, w in weights.items()
    }
    norm = torch.cat([t.flatten(1) for t in raw.values()], 1).norm(dim=1)
    direction = {n: t / norm.view(-1, *[1] * (t.dim() - 1)) for n, t in raw.items()}
    images = torch.rand(trials, k, 1, 9, 9, generator=source, dtype=dtype)
    return weights, images, torch.randint(0, 4, (trials, k), generator=source), direction


def objective(
    made: nn.Module,
    x: Tensor,
    labels: Tensor,
    aim: list[Tensor],
    tv: float,
    trust: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Plain autograd on one trial: the objective, with a graph, and 1 - cos."""
    g = torch.autograd.grad(
        cross_entropy(made(x), labels), list(made.parameters()), create_graph=True
    )
    flat = torch.cat([t.flatten() for t in g])
    if trust is not None:
        flat = flat * torch.cat([t.flatten() for t in trust])
    distance = 1 - torch.cosine_similarity(flat, torch.cat([t.flatten() for t in aim]), dim=0)
    return distance + tv * total_variation(x), distance


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_plain_double_backwards_in_float64(name: str, k: int) -> None:
    made = network(name, torch.float64)
    weights, images, labels, direction = problem(made, 3, k, torch.float64)
    for chunk in (None, 2):
        gradient, loss = build_matcher(made, weights, chunk)(images, labels, direction, 0.1)
        for trial in range(3):
            x = images[trial].clone().requires_grad_()
            total, distance = objective(
                made, x, labels[trial], [d[trial] for d in direction.values()], 0.1
            )
            torch.testing.assert_close(
                gradient[trial], torch.autograd.grad(total, x)[0], atol=1e-12, rtol=1e-9
            )
            torch.testing.assert_close(loss[trial], distance.detach(), atol=1e-12, rtol=1e-9)
        found = compute_matching_loss(made, weights, images, labels, direction, chunk)
        torch.testing.assert_close(found, loss, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_coordinates_count_by_their_weight(name: str) -> None:
    made = network(name, torch.float64)
    weights, images, labels, raw = problem(made, 3, 1, torch.float64)
    source = make_generator(0, "trust")
    trust = {n: torch.rand(t.shape, generator=source, dtype=t.dtype) for n, t in raw.items()}
    trust = {n: t * (t > 0.5) for n, t in trust.items()}
    weighed = {n: t * trust[n] for n, t in raw.items()}
    norm = torch.cat([t.flatten(1) for t in weighed.values()], 1).norm(dim=1)
    direction = {n: t / norm.view(-1, *[1] * (t.dim() - 1)) for n, t in weighed.items()}
    for way in (_matching, _plain):
        gradient, loss = way.build_matcher(made, weights, 2)(images, labels, direction, 0.1, trust)
        found = way.compute_matching_loss(made, weights, images, labels, direction, 2, trust)
        torch.testing.assert_close(found, loss, atol=1e-12, rtol=1e-9)
        for trial in range(3):
            x = images[trial].clone().requires_grad_()
            aim, worth = ([t[trial] for t in given.values()] for given in (direction, trust))
            total, distance = objective(made, x, labels[trial], aim, 0.1, worth)
            torch.testing.assert_close(
                gradient[trial], torch.autograd.grad(total, x)[0], atol=1e-12, rtol=1e-9
            )
            torch.testing.assert_close(loss[trial], distance.detach(), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_finite_difference(name: str) -> None:
    made = network(name, torch.float64)
    weights, images, labels, direction = problem(made, 2, 1, torch.float64)
    gradient, _ = build_matcher(made, weights)(images, labels, direction, 0.1)
    aside = torch.randn(images.shape, generator=make_generator(0, "aside"), dtype=torch.float64)
    step = 1e-7  # small: ReLU and pooling have kinks
    ends = []
    for sign in (1, -1):
        moved = images + sign * step * aside
        distance = compute_matching_loss(made, weights, moved, labels, direction)
        ends.append(distance + 0.1 * torch.stack([total_variation(image) for image in moved]))
    slope = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close((gradient * aside).flatten(1).sum(1), slope, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", ["convnet early", "residual", "own weights"])
def test_classes_that_are_sought_too_have_the_gradient_of_plain_double_backward(name: str) -> None:
    made = network(name, torch.float64)
    weights, images, _, direction = problem(made, 3, 2, torch.float64)
    logits = torch.randn(3, 2, 4, generator=make_generator(0, "logits"), dtype=torch.float64)
    for way, chunk in ((_matching, None), (_matching, 2), (_plain, None)):
        gradient, loss, theirs = way.build_matcher(made, weights, chunk)(
            images, logits, direction, 0.1
        )
        for trial in range(3):
            x, y = images[trial].clone().requires_grad_(), logits[trial].clone().requires_grad_()
            total, distance = objective(
                made, x, y.softmax(1), [d[trial] for d in direction.values()], 0.1
            )
            expected = torch.autograd.grad(total, [x, y])
            torch.testing.assert_close(
                (gradient[trial], theirs[trial]), expected, atol=1e-12, rtol=1e-9
            )
            torch.testing.assert_close(loss[trial], distance.detach(), atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(
            way.compute_matching_loss(made, weights, images, logits, direction, chunk), loss
        )


def smooth(step: nn.Module, x: Tensor, smoothing: float) -> Tensor:
    """The second derivative of sum(y^3) in each x, by autograd."""
    set_smoothing(step, smoothing)
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(step(z).pow(3).sum(), z, create_graph=True)
    return torch.autograd.grad(slope.sum(), z)[0]


@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 3, 4)])
def test_a_smoothed_relu_adds_a_triangle_about_the_step(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=make_generator(0, "relu"), dtype=torch.float64)
    step = copy_with_weights(nn.Sequential(nn.ReLU(inplace=True)), {})
    torch.testing.assert_close(smooth(step, x, 0.0), 6 * x.relu())
    scale = x.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (len(shape) - 1))
    triangle = (1 - x.abs() / scale).relu() / scale
    expected = 6 * x.relu() + 0.7 * 3 * x.relu().square() * triangle
    torch.testing.assert_close(smooth(step, x, 0.7), expected)
    assert torch.isfinite(smooth(step, torch.zeros_like(x), 0.7)).all()


@pytest.mark.parametrize("name", ["convnet early", "mlp", "residual", "own weights"])
def test_smoothed_steps_are_those_of_plain_autograd_whoever_shares_the_pass(name: str) -> None:
    made = network(name, torch.float64)
    weights, images, labels, direction = problem(made, 3, 2, torch.float64)
    exact, loss = build_matcher(made, weights)(images, labels, direction, 0.1)
    alone, _ = _plain.build_matcher(made, weights)(images, labels, direction, 0.1, smoothing=0.7)
    for chunk in (None, 2):
        match = build_matcher(made, weights, chunk)
        smoothed, same_loss = match(images, labels, direction, 0.1, smoothing=0.7)
        torch.testing.assert_close(smoothed, alone, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(same_loss, loss)
        assert torch.equal(match(images, labels, direction, 0.1)[0], exact) or chunk
    has_relu = any(isinstance(layer, nn.ReLU) for layer in made.modules())
    assert torch.allclose(smoothed, exact) != has_relu


def test_a_class_that_is_settled_is_as_good_as_known() -> None:
    made = network("convnet early", torch.float64)
    weights, images, labels, direction = problem(made, 3, 2, torch.float64)
    known = build_matcher(made, weights)(images, labels, direction, 0.1)
    certain = harden_logits(one_hot(labels, 4).double() / 10)
    gradient, loss, theirs = build_matcher(made, weights)(images, certain, direction, 0.1)
    torch.testing.assert_close((gradient, loss), known)
    assert not theirs.any()


@pytest.mark.parametrize("margin", [40.0, 60.0, 200.0])
def test_an_image_of_which_the_network_is_too_sure_still_has_a_gradient(margin: float) -> None:
    network = build_network(
        Architecture(
            model=PluginRef(name="convnet", params={"width": 2}),
            input_shape=(1, 9, 9),
            num_classes=3,
            mean=(0.5,),
            std=(0.25,),
        ),
        make_generator(0, "weights"),
    )
    weights = {name: w.detach() for name, w in network.named_parameters()}
    bias = list(weights)[-1]
    weights[bias] = torch.tensor([margin, 0.0, 0.0])
    direction = {name: torch.randn(2, *w.shape) for name, w in weights.items()}
    total = torch.stack([t.square().flatten(1).sum(1) for t in direction.values()]).sum(0).sqrt()
    direction = {n: t / total.view(-1, *[1] * (t.dim() - 1)) for n, t in direction.items()}
    images, labels = torch.rand(2, 1, 1, 9, 9), torch.zeros(2, 1, dtype=torch.long)
    gradient, loss = build_matcher(network, weights)(images, labels, direction, 0.1)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).norm(dim=1).min() > 0
    assert ((loss >= 0) & (loss <= 2)).all()


def test_lanes_are_alone() -> None:
    made = network("convnet early", torch.float64)
    weights, images, labels, direction = problem(made, 3, 2, torch.float64)
    among, _ = build_matcher(made, weights)(images, labels, direction, 0.1)
    other = images.clone()
    other[1] = 1 - other[1]
    changed, _ = build_matcher(made, weights)(other, labels, direction, 0.1)
    torch.testing.assert_close(changed[[0, 2]], among[[0, 2]], atol=1e-14, rtol=1e-12)
    assert (changed[1] - among[1]).abs().max() > 1e-4


def test_a_step_repeats_bit_by_bit_and_changes_nothing_given() -> None:
    made = network("residual", torch.float32)
    weights, images, labels, direction = problem(made, 4, 2, torch.float32)
    before = copy.deepcopy((made.state_dict(), images, direction))
    match = build_matcher(made, weights, 3)
    first, again = match(images, labels, direction, 0.1), match(images, labels, direction, 0.1)
    fresh = build_matcher(made, weights, 3)(images, labels, direction, 0.1)
    assert all(
        torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, again, fresh, strict=True)
    )
    assert not any(t.requires_grad for t in first)
    state, pixels, aims = before
    assert all(torch.equal(made.state_dict()[n], t) for n, t in state.items())
    assert torch.equal(images, pixels)
    assert all(torch.equal(direction[n], t) for n, t in aims.items())
    assert isinstance(made, Residual)
    assert type(made.norm) is nn.BatchNorm2d


def test_the_weights_given_count_not_the_networks() -> None:
    made, other = network("mlp", torch.float64), network("mlp", torch.float64)
    weights, images, labels, direction = problem(made, 2, 1, torch.float64)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    expected, found = (
        build_matcher(m, weights)(images, labels, direction, 0.1) for m in (made, other)
    )
    assert torch.equal(expected[0], found[0])


def test_an_input_changed_in_place_is_detected() -> None:
    class Spoils(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(81, 4)

        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1) * 1
            y: Tensor = self.linear(flat)
            flat.zero_()
            return y

    with pytest.raises(AssertionError, match="in place"):
        BatchedGradients(Spoils(), dict(Spoils().named_parameters())).forward_backward(
            torch.rand(2, 1, 9, 9, requires_grad=True), torch.zeros(2, 1, dtype=torch.int64)
        )
