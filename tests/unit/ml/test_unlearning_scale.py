"""Unlearning goes as far as training went: settings from its recipe, a rule that says when to stop,
steps that one sample of many makes short."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, build_network, clone
from shared.ml.records import StopRecord
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._curvature import (
    compute_damping,
    dot,
    measure_curvature,
    multiply_curvature,
)
from shared.ml.unlearning._held_out import ClosestEpoch, HeldOutRule, draw_held_out
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams
from shared.plugin_ref import PluginRef

ARCHITECTURE = Architecture(
    model=PluginRef(name="mlp", params={"hidden": 32}),
    input_shape=(1, 6, 6), num_classes=4, mean=(0.5,), std=(0.3,),
)  # fmt: skip
PATTERNS = torch.rand(4, 1, 6, 6, generator=make_generator(0, "patterns"))
RECIPE = Recipe(epochs=40, lr=0.05, batch_size=8, momentum=0.5, weight_decay=1e-4)


def draw(purpose: str, n: int) -> Samples:
    """Noisy patterns, of which some look like another class: a loss remains on what is not
    known by heart."""
    labels = torch.arange(n) % 4
    noise = torch.rand(n, 1, 6, 6, generator=make_generator(0, purpose))
    return Samples(0.25 * PATTERNS[labels] + 0.75 * noise, labels)


TRAINING, REST, PUBLIC = draw("training", 60), draw("rest", 200), draw("public", 80)


@pytest.fixture(scope="module")
def original() -> nn.Module:
    network = build_network(ARCHITECTURE, make_generator(0, "weights"))
    train(network, TRAINING, RECIPE, LocalContext())
    return network


def split(forgotten: list[int]) -> tuple[Samples, Samples]:
    kept = [i for i in range(len(TRAINING.labels)) if i not in forgotten]
    return TRAINING.pick(kept), TRAINING.pick(forgotten)


def unlearn(
    name: str, original: nn.Module, forgotten: list[int], recipe: Recipe = RECIPE, **params: Any
) -> tuple[nn.Module, list[StopRecord]]:
    retain, forget = split(forgotten)
    held_out = draw_held_out(REST, PUBLIC, forget.labels, make_generator(0, "held out"))
    inputs = UnlearningInputs(clone(original), recipe=recipe, held_out=held_out)
    plugin = registry.get(name)
    network = plugin.target(inputs, retain, forget, plugin.params(**params), LocalContext())
    return network, inputs.stops


def loss(network: nn.Module, samples: Samples) -> float:
    return cross_entropy(network(samples.images), samples.labels).item()


def flat(network: nn.Module) -> Tensor:
    return torch.cat([w.detach().flatten() for w in network.parameters()])


def distance(one: nn.Module, other: nn.Module) -> float:
    return (flat(one) - flat(other)).norm().item()


@pytest.mark.parametrize(
    "name", [p.name for p in registry if issubclass(p.params, StepParams) and p.name != "amnesiac"]
)
def test_what_is_null_is_as_in_training_and_what_is_set_stays(name: str) -> None:
    params = registry.get(name).params
    recipe = params().to_recipe(RECIPE)
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == (8, 0.5, 1e-4)
    assert (recipe.schedule, recipe.noise_multiplier) == ("constant", 0.0)
    assert recipe.epochs == (8 if name in ("salun", "random_labels") else 40)
    assert recipe.lr == pytest.approx(0.15 if name == "fine_tune" else 0.05)
    own = {"epochs": 3, "lr": 0.2, "batch_size": 5, "momentum": 0.0, "weight_decay": 0.0}
    assert params(**own, batch_norm="trained").to_recipe(RECIPE) == Recipe(
        **own, batch_norm="trained"
    )
    assert params().to_recipe(RECIPE.model_copy(update={"batch_norm": "trained"})).batch_norm == (
        "trained"
    )
    for field in own:
        assert "null" in params.model_fields[field].description


@pytest.mark.parametrize(
    "name",
    # Fisher noise is as strong as accuracy allows, whatever training did
    [p.name for p in registry if not p.exact and p.name != "fisher"],
)
def test_little_training_is_unlearned_by_little(name: str) -> None:
    """One step of 1e-3 on 32 samples was once unlearned by ten epochs of 1e-2."""
    base = build_network(ARCHITECTURE, make_generator(0, "weights"))
    pretraining = RECIPE.model_copy(update={"epochs": 5})
    train(base, REST, pretraining, LocalContext())
    recipe, original = Recipe(), clone(base)
    train(original, TRAINING.pick(list(range(32))), recipe, LocalContext())
    trained = distance(base, original)
    retain, forget = TRAINING.pick(list(range(1, 32))), TRAINING.pick([0])
    undo = {
        n: (w - b).detach()
        for (n, w), b in zip(original.named_parameters(), base.parameters(), strict=True)
    }
    inputs = UnlearningInputs(
        clone(original), clone(base), recipe, changes_to_undo=undo, held_out=PUBLIC
    )
    plugin = registry.get(name)
    after = plugin.target(inputs, retain, forget, plugin.params(), LocalContext())
    assert 0 < distance(original, after) <= 10 * trained


def test_held_out_samples_are_of_the_forgotten_classes_and_of_the_pool_where_it_has_them() -> None:
    few = REST.pick([0, *range(1, 200, 4)])  # one of class 0, fifty of class 1
    labels = torch.tensor([0, 1, 1])
    drawn = draw_held_out(few, PUBLIC, labels, make_generator(0, "held out"))
    assert {*drawn.labels.tolist()} == {0, 1}

    def come_from(samples: Samples, label: int) -> bool:
        known = {image.numpy().tobytes() for image in samples.images}
        return all(i.numpy().tobytes() in known for i in drawn.images[drawn.labels == label])

    assert come_from(PUBLIC, 0)
    assert come_from(few, 1)
    many = draw("many", 2000)
    assert len(draw_held_out(many, PUBLIC, labels, make_generator(0, "x")).labels) == 256
    none = many.pick([])
    assert not len(draw_held_out(none, none, labels, make_generator(0, "x")).labels)


def class_loss(network: nn.Module, samples: Samples, label: int) -> float:
    return loss(network, samples.pick((samples.labels == label).nonzero().flatten()))


def test_the_goal_is_the_loss_of_held_out_samples_at_the_forget_set_s_difficulty(
    original: nn.Module,
) -> None:
    retain, forget = split([0, 1, 5])  # classes 0, 1, 1
    inputs = UnlearningInputs(original, held_out=REST)
    rule = HeldOutRule(original, inputs, retain, forget, LocalContext())
    held_out, trained = (
        (class_loss(original, samples, 0) + 2 * class_loss(original, samples, 1)) / 3
        for samples in (REST, retain)
    )
    assert rule.goal == pytest.approx(held_out * loss(original, forget) / trained)
    assert rule.measure_loss(original) == pytest.approx(loss(original, forget))
    assert not HeldOutRule(
        original, UnlearningInputs(original), retain, forget, LocalContext()
    ).has_goal


def test_the_goal_of_a_hard_sample_is_higher_and_bounded(original: nn.Module) -> None:
    """A network that was trained without a sample finds it as hard as one that was trained on
    it finds it, compared with others."""

    def measure_goal(network: nn.Module, place: int) -> float:
        retain, forget = split([place])
        inputs = UnlearningInputs(network, held_out=REST)
        return HeldOutRule(network, inputs, retain, forget, LocalContext()).goal

    of_class = list(range(0, 60, 4))
    goals = [measure_goal(original, place) for place in of_class]
    retrained = []
    for place in of_class:
        network = build_network(ARCHITECTURE, make_generator(0, "weights"))
        train(network, split([place])[0], RECIPE, LocalContext(1))
        retrained.append(loss(network, TRAINING.pick([place])))
    held_out = class_loss(original, REST, 0)
    log_errors = [
        [abs(math.log(goal / truth)) for goal, truth in zip(found, retrained, strict=True)]
        for found in (goals, [held_out] * len(goals))
    ]
    assert fmean(log_errors[0]) < 0.7 * fmean(log_errors[1])
    mislabelled = Samples(TRAINING.images, TRAINING.labels.clone())
    mislabelled.labels[1] = 0
    retain, forget = TRAINING.pick(of_class), mislabelled.pick([1])
    inputs = UnlearningInputs(original, held_out=REST)
    rule = HeldOutRule(original, inputs, retain, forget, LocalContext())
    assert rule.goal == pytest.approx(10 * held_out)


def test_the_goal_for_a_whole_class_is_how_unlikely_others_are_to_be_of_it(
    original: nn.Module,
) -> None:
    retain, forget = split(list(range(2, 60, 4)))
    inputs = UnlearningInputs(original, held_out=REST)
    rule = HeldOutRule(original, inputs, retain, forget, LocalContext())
    expected = -log_softmax(original(retain.images), dim=1)[:, 2].mean().item()
    assert rule.goal == pytest.approx(expected)
    assert rule.goal > loss(original, REST.pick((REST.labels == 2).nonzero().flatten()))


@pytest.mark.parametrize("forgotten", [[0], [0, 1, 2, 3, 4]])
def test_ascent_stops_where_the_forgotten_are_known_as_little_as_others(
    original: nn.Module, forgotten: list[int]
) -> None:
    retain, forget = split(forgotten)
    held_out = draw_held_out(REST, PUBLIC, forget.labels, make_generator(0, "held out"))
    inputs = UnlearningInputs(original, held_out=held_out)
    goal = HeldOutRule(original, inputs, retain, forget, LocalContext()).goal
    after, stops = unlearn("gradient_ascent", original, forgotten)
    assert loss(original, forget) < goal / 2
    assert goal <= loss(after, forget) <= 1.1 * goal
    (stop,) = stops
    assert stop.reason == "held_out_loss"
    assert 1 <= stop.steps < RECIPE.count_steps(60)


def test_ascent_takes_no_more_steps_than_training_and_at_least_one(original: nn.Module) -> None:
    short = RECIPE.model_copy(update={"epochs": 1, "batch_size": 20, "lr": 1e-6})
    after, stops = unlearn("gradient_ascent", original, [0], short)
    assert stops == [StopRecord(steps=3, reason="as_training")]
    assert distance(original, after) > 0
    # as unknown as others already: still the one step of the paper
    base = build_network(ARCHITECTURE, make_generator(0, "weights"))
    train(base, REST, RECIPE, LocalContext())
    hardest = max(range(60), key=lambda i: loss(base, TRAINING.pick([i])))
    after, stops = unlearn("gradient_ascent", base, [hardest])
    assert stops == [StopRecord(steps=1, reason="held_out_loss")]
    (own, _) = unlearn("gradient_ascent", base, [hardest], steps=1)
    assert torch.equal(flat(after), flat(own))
    assert distance(base, after) > 0


def test_the_paper_s_single_step_is_a_setting(original: nn.Module) -> None:
    retain, forget = split([0, 1])
    gradient = torch.autograd.grad(
        cross_entropy(original(forget.images), forget.labels), list(original.parameters())
    )
    after, stops = unlearn("gradient_ascent", original, [0, 1], steps=1)
    for old, new, g in zip(original.parameters(), after.parameters(), gradient, strict=True):
        torch.testing.assert_close(new, old + RECIPE.lr * g)
    assert stops == [StopRecord(steps=1, reason="asked_for")]
    del retain


def test_without_held_out_samples_ascent_takes_the_paper_s_step(original: nn.Module) -> None:
    retain, forget = split([0])
    inputs = UnlearningInputs(clone(original), recipe=RECIPE)
    plugin = registry.get("gradient_ascent")
    plugin.target(inputs, retain, forget, plugin.params(), LocalContext())
    assert inputs.stops == [StopRecord(steps=1, reason="no_held_out")]


@pytest.mark.parametrize("name", ["neggrad_plus", "scrub"])
@pytest.mark.parametrize("forgotten", [[0], [4], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_the_epoch_is_released_that_comes_closest_to_held_out_samples(
    original: nn.Module, name: str, forgotten: list[int]
) -> None:
    """With one sample, neggrad_plus once diverged: nothing bounded its ascent."""
    retain, forget = split(forgotten)
    held_out = draw_held_out(REST, PUBLIC, forget.labels, make_generator(0, "held out"))
    inputs = UnlearningInputs(original, held_out=held_out)
    goal = HeldOutRule(original, inputs, retain, forget, LocalContext()).goal
    after, (stop,) = unlearn(name, original, forgotten)
    assert stop.reason == "closest_epoch"
    assert 0 < stop.steps <= 40 * (8 + 8)
    assert loss(after, forget) < 3 * goal
    if len(forgotten) > 1:  # the gradient of one that is known by heart hardly moves anything
        assert abs(loss(after, forget) - goal) < abs(loss(original, forget) - goal)
    accuracy = (after(retain.images).argmax(1) == retain.labels).float().mean()
    assert accuracy > 0.9


def test_rewinding_keeps_the_closest_epoch_and_without_a_goal_the_last(
    original: nn.Module,
) -> None:
    retain, forget = split([0])
    for held_out, reason, kept in ((REST, "closest_epoch", 2), (None, "no_held_out", 3)):
        inputs = UnlearningInputs(original, held_out=held_out)
        rule = HeldOutRule(original, inputs, retain, forget, LocalContext())
        closest, networks = ClosestEpoch(rule), []
        for scale in (1.0, 0.9, 0.5):  # of all weights: the less, the less is known
            network = clone(original)
            with torch.no_grad():
                for weight in network.parameters():
                    weight.mul_(scale)
            closest.observe(network, len(networks) + 1)
            networks.append(network)
        distances = [abs(rule.measure_loss(n) - rule.goal) for n in networks]
        if held_out is not None:
            assert min(distances) == distances[1]
        last = networks[-1]
        closest.rewind(last, inputs)
        assert torch.equal(flat(last), flat(networks[kept - 1]))
        assert inputs.stops == [StopRecord(steps=kept, reason=reason)]


def test_curvature_is_the_quadratic_form_of_the_gauss_newton_matrix(original: nn.Module) -> None:
    """Against the difference of gradients in a model whose logits are linear in its weights, where
    the matrix is the Hessian."""
    linear = ARCHITECTURE.model_copy(update={"model": PluginRef(name="mlp", params={"depth": 0})})
    network = build_network(linear, make_generator(0, "w")).double()
    samples = Samples(TRAINING.images.double(), TRAINING.labels)
    direction = {n: torch.ones_like(w) * 1e-4 for n, w in network.named_parameters()}

    def gradient(shift: float) -> dict[str, Tensor]:
        moved = clone(network)
        with torch.no_grad():
            for name, weight in moved.named_parameters():
                weight.add_(direction[name], alpha=shift)
        value = cross_entropy(moved(samples.images), samples.labels)
        return dict(
            zip(direction, torch.autograd.grad(value, list(moved.parameters())), strict=True)
        )

    up, down = gradient(1.0), gradient(-1.0)
    product = multiply_curvature(network, samples, direction, LocalContext())
    for name, p in product.items():
        torch.testing.assert_close(p, (up[name] - down[name]) / 2, rtol=1e-4, atol=1e-12)
    expected = dot(direction, product) / dot(direction, direction)
    found = measure_curvature(network, samples, direction, LocalContext())
    assert found == pytest.approx(expected)
    zero = {n: 0 * d for n, d in direction.items()}
    assert measure_curvature(network, samples, zero, LocalContext()) == 0


def test_less_training_damps_more() -> None:
    """One step of lr on the mean loss is what one step of ascent undoes: 1 / lr. Momentum and more
    epochs go further."""
    one = Recipe(lr=0.01, batch_size=60)
    assert compute_damping(one, 60) == pytest.approx(1 / 0.01)
    assert compute_damping(one.model_copy(update={"momentum": 0.9}), 60) == pytest.approx(1 / 0.1)
    assert compute_damping(one.model_copy(update={"epochs": 5}), 120) == pytest.approx(1 / 0.1)
    cycle = one.model_copy(update={"epochs": 100, "schedule": "one_cycle", "weight_decay": 0.5})
    assert compute_damping(cycle, 60) == pytest.approx(0.5 + 1 / 0.5, rel=0.05)


def compute_full_step(network: nn.Module, forgotten: list[int], recipe: Recipe) -> Tensor:
    """What the first-order update subtracts where its step is not halved."""
    retain, forget = split(forgotten)
    logits = network(forget.images)
    uniform = torch.full_like(logits, 0.25)
    change = cross_entropy(logits, uniform, reduction="sum") - cross_entropy(
        logits, forget.labels, reduction="sum"
    )
    gradients = torch.autograd.grad(change, list(network.parameters()))
    direction = {n: g for (n, _), g in zip(network.named_parameters(), gradients, strict=True)}
    curvature = measure_curvature(network, retain, direction, LocalContext())
    tau = 1 / (60 * (curvature + compute_damping(recipe, 60)))
    return tau * torch.cat([g.flatten() for g in gradients])


def test_a_first_order_step_is_one_over_n_and_the_curvature(original: nn.Module) -> None:
    short = RECIPE.model_copy(update={"epochs": 2})
    after, _ = unlearn("first_order", original, [0, 1], short)
    expected = flat(original) - compute_full_step(original, [0, 1], short)
    torch.testing.assert_close(flat(after), expected)


def test_a_first_order_step_that_goes_too_far_is_halved() -> None:
    """Around a network that knows its samples by heart, the curvature says little of what is
    further away: a convolutional network once ended at chance."""
    long = RECIPE.model_copy(update={"epochs": 150, "lr": 0.1, "momentum": 0.9, "weight_decay": 0})
    network = build_network(ARCHITECTURE, make_generator(0, "weights"))
    train(network, TRAINING, long, LocalContext())
    forgotten = [0, 1, 2, 3]
    retain, forget = split(forgotten)

    def measure_replaced_loss(of: nn.Module) -> float:
        without_class = -log_softmax(of(forget.images), dim=1).mean(1).sum().item()
        return len(retain.labels) * loss(of, retain) + without_class

    step = compute_full_step(network, forgotten, long)
    full = clone(network)
    torch.nn.utils.vector_to_parameters(flat(network) - step, full.parameters())
    after, _ = unlearn("first_order", network, forgotten, long)
    start = measure_replaced_loss(network)
    assert measure_replaced_loss(full) > start > measure_replaced_loss(after)
    halvings = math.log2(step.norm().item() / distance(network, after))
    assert halvings == pytest.approx(round(halvings), abs=1e-3)
    assert halvings > 0.5


def test_fisher_noise_is_as_strong_as_two_points_of_accuracy_allow(original: nn.Module) -> None:
    retain, _ = split([0, 1])

    def accuracy(network: nn.Module) -> float:
        return (network(retain.images).argmax(1) == retain.labels).float().mean().item()

    after, _ = unlearn("fisher", original, [0, 1])
    assert accuracy(after) >= accuracy(original) - 0.02
    weak, _ = unlearn("fisher", original, [0, 1], alpha=1e-7)
    assert distance(original, after) > distance(original, weak)
