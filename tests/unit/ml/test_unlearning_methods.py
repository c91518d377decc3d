"""The approximate methods of the field, each against its definition, and all against each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from shared.errors import JobFailed
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, build_network, clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams, draw_wrong_labels, take_cyclic_batch
from shared.ml.unlearning.fisher import compute_fisher_information
from shared.plugin_ref import PluginRef
from shared.plugins import UnlearningPlugin

MLP = Architecture(
    model=PluginRef(name="mlp"), input_shape=(1, 3, 3), num_classes=3, mean=(0.5,), std=(0.5,)
)
LINEAR = MLP.model_copy(update={"model": PluginRef(name="mlp", params={"depth": 0})})


def data(n: int, purpose: str = "samples") -> Samples:
    source = make_generator(n, purpose)
    return Samples(
        torch.rand(n, 1, 3, 3, generator=source), torch.randint(0, 3, (n,), generator=source)
    )


RETAIN, FORGET, HELD_OUT = data(30, "retain"), data(2, "forget"), data(40, "held out")
RECIPE = Recipe(epochs=100, lr=0.1, batch_size=8)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    network = build_network(MLP, make_generator(0, "w"))
    both = Samples(*(torch.cat(pair) for pair in zip(RETAIN, FORGET, strict=True)))
    train(network, both, RECIPE, LocalContext())
    return network


# of unlearning, where a test says nothing else; training was as long and had no momentum
SETTINGS = {"epochs": 10, "lr": 0.01, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4}


def unlearned(name: str, original: nn.Module, **params: object) -> nn.Module:
    plugin = registry.get(name)
    if issubclass(plugin.params, StepParams) and name != "amnesiac":
        params = SETTINGS | params
    base = build_network(MLP, make_generator(0, "w"))
    undo = {  # as if one step in ten had seen them
        name: 0.1 * (after.detach() - before.detach())
        for (name, after), before in zip(
            original.named_parameters(), base.parameters(), strict=True
        )
    }
    inputs = UnlearningInputs(
        clone(original), base, RECIPE, changes_to_undo=undo, held_out=HELD_OUT
    )
    network: nn.Module = plugin.target(
        inputs, RETAIN, FORGET, plugin.params(**params), LocalContext()
    )
    return network


def flat(network: nn.Module) -> Tensor:
    return torch.cat([w.detach().flatten() for w in network.parameters()])


def methods() -> Iterator[UnlearningPlugin]:
    yield from registry


def test_every_method_differs_from_doing_nothing_and_from_its_siblings(trained: nn.Module) -> None:
    # several networks are no one's sibling
    alike = [plugin for plugin in methods() if "SHARDS" not in plugin.needs]
    made = {plugin.name: flat(unlearned(plugin.name, trained)) for plugin in alike}
    made["doing nothing"] = flat(trained)
    for (one, a), (other, b) in combinations(made.items(), 2):
        assert (a - b).norm() > 1e-6, f"{one} and {other} end at the same weights"


@pytest.mark.parametrize(
    "name", ["neggrad_plus", "random_labels", "salun", "scrub", "first_order", "second_order"]
)
def test_the_forgotten_are_known_less_well(name: str, trained: nn.Module) -> None:
    def loss(network: nn.Module) -> float:
        return cross_entropy(network(FORGET.images), FORGET.labels).item()

    assert loss(unlearned(name, trained)) > loss(trained)


def test_batch_norm_statistics_move_where_that_is_asked_for() -> None:
    """In a network whose statistics are all that is looked at."""
    normalised = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
    ).eval()
    steps = [plugin.name for plugin in methods() if "batch_norm" in plugin.params.model_fields]
    assert {"fine_tune", "scrub", "salun", "amnesiac"} <= set(steps)
    for name in steps:
        for mode, moves in (("frozen", False), ("trained", True)):
            plugin, network = registry.get(name), clone(normalised)
            undo = {n: 0 * w for n, w in network.named_parameters()}
            params = plugin.params(epochs=1, batch_size=8, batch_norm=mode)
            inputs = UnlearningInputs(network, clone(normalised), changes_to_undo=undo)
            after = plugin.target(inputs, RETAIN, data(8, "forget"), params, LocalContext())
            assert moves == (not torch.equal(after[2].running_mean, normalised[2].running_mean)), (
                name,
                mode,
            )
            assert not after.training, name


def test_neggrad_plus_without_ascent_is_fine_tuning(trained: nn.Module) -> None:
    assert torch.equal(
        flat(unlearned("neggrad_plus", trained, alpha=1.0, epochs=1)),
        flat(unlearned("fine_tune", trained, epochs=1)),
    )


def test_salun_over_all_weights_is_random_labels_and_else_moves_its_share_only(
    trained: nn.Module,
) -> None:
    assert torch.equal(
        flat(unlearned("salun", trained, share=1.0)), flat(unlearned("random_labels", trained))
    )
    moved = (flat(unlearned("salun", trained, share=0.2)) != flat(trained)).float().mean()
    assert 0 < moved <= 0.2 + 1e-3


def test_what_salun_may_not_move_is_not_moved_by_weight_decay_or_momentum_either(
    trained: nn.Module,
) -> None:
    after = unlearned("salun", trained, share=0.2, weight_decay=0.1, momentum=0.9)
    assert 0 < (flat(after) != flat(trained)).float().mean() <= 0.2 + 1e-3


def test_scrub_goes_up_over_the_forget_set_and_then_down_over_the_retain_set(
    trained: nn.Module,
) -> None:
    """Algorithm 1 by hand, with one of torch's own optimisers, whose momentum lasts from pass to
    pass; 2 forgotten and 30 retained samples, batches of 8."""
    student, settings = clone(trained), {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.01}
    optimiser = torch.optim.SGD(student.parameters(), **settings)

    def apart(images: Tensor) -> Tensor:
        told, soft = (log_softmax(n(images) / 2.0, dim=1) for n in (trained, student))
        return (told.exp() * (told - soft)).sum(1).mean() * 4

    for epoch, climbs in ((0, True), (0, False), (1, True), (1, False), (2, False)):
        n, purpose = (2, "away") if climbs else (30, "close")
        order = torch.randperm(n, generator=make_generator(0, f"epoch {epoch}, {purpose}"))
        for picked in order.split(8):
            if climbs:
                loss = -apart(FORGET.images[picked])
            else:
                images, labels = RETAIN.pick(picked)
                loss = cross_entropy(student(images), labels) + 0.3 * apart(images)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    more = {"epochs": 3, "max_epochs": 2, "batch_size": 8, "alpha": 0.3, "rewind": False}
    after = unlearned("scrub", trained, **more, **settings)
    torch.testing.assert_close(flat(after), flat(student))


def test_scrub_leaves_its_teacher_on_the_forget_set_more_than_on_the_retain_set(
    trained: nn.Module,
) -> None:
    student = unlearned("scrub", trained, lr=0.05, rewind=False)

    def apart(images: Tensor) -> float:
        ours, theirs = (log_softmax(n(images), dim=1) for n in (student, trained))
        return kl_div(ours, theirs, reduction="batchmean", log_target=True).item()

    assert apart(FORGET.images) > apart(RETAIN.images) > 0


def test_a_first_order_step_is_the_difference_of_two_gradients(trained: nn.Module) -> None:
    network, tau = clone(trained), 0.05
    chances = log_softmax(network(FORGET.images), dim=1)
    own = chances.gather(1, FORGET.labels.view(-1, 1)).sum()
    change = torch.autograd.grad(own - chances.mean(1).sum(), list(network.parameters()))
    expected = flat(trained) - tau * torch.cat([g.flatten() for g in change])
    torch.testing.assert_close(flat(unlearned("first_order", trained, tau=tau)), expected)


def test_a_second_order_step_solves_newton_s_equation() -> None:
    """Logistic regression: there the Gauss-Newton matrix is the Hessian, and small enough to be
    solved."""
    network = build_network(LINEAR, make_generator(0, "w")).double()
    retain, forget = (Samples(images.double(), labels) for images, labels in (RETAIN, FORGET))
    weights = {name: w.detach() for name, w in network.named_parameters()}
    names, shapes = list(weights), [w.shape for w in weights.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([s.numel() for s in shapes])
        given = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        return cross_entropy(functional_call(network, given, (retain.images,)), retain.labels)

    start = torch.cat([w.flatten() for w in weights.values()])
    curvature = hessian(loss)(start) + 0.01 * torch.eye(len(start), dtype=torch.float64)
    climb = cross_entropy(network(forget.images), forget.labels, reduction="sum") / len(
        retain.labels
    )
    right = torch.cat([g.flatten() for g in torch.autograd.grad(climb, list(network.parameters()))])
    plugin = registry.get("second_order")
    params = plugin.params(damping=0.01, iterations=200, tolerance=1e-10)
    after = plugin.target(UnlearningInputs(clone(network)), retain, forget, params, LocalContext())
    torch.testing.assert_close(
        flat(after) - start, torch.linalg.solve(curvature, right), rtol=1e-6, atol=1e-9
    )


def test_the_fisher_information_is_that_of_the_network_s_own_answers(trained: nn.Module) -> None:
    """One gradient at a time, and not of the labels: where those are known by heart, no gradient is
    left."""
    expected = torch.zeros_like(flat(trained))
    for i in range(len(RETAIN.labels)):
        told = log_softmax(trained(RETAIN.images[i : i + 1]), dim=1)[0]
        for one in told:
            gradient = torch.autograd.grad(one, list(trained.parameters()), retain_graph=True)
            expected += (
                one.detach().exp()
                * torch.cat([g.flatten() for g in gradient]).square()
                / len(RETAIN.labels)
            )
    found = compute_fisher_information(clone(trained), RETAIN, LocalContext())
    torch.testing.assert_close(torch.cat([f.flatten() for f in found.values()]), expected)
    others = Samples(RETAIN.images, (RETAIN.labels + 1) % 3)
    again = compute_fisher_information(clone(trained), others, LocalContext())
    assert all(torch.equal(again[name], f) for name, f in found.items())


def test_fisher_noise_has_the_stated_variance_and_never_more_than_the_largest(
    trained: nn.Module,
) -> None:
    alpha, largest = 1e-4, 0.5
    information = compute_fisher_information(clone(trained), RETAIN, LocalContext())
    source = LocalContext().make_generator("noise")
    after = dict(unlearned("fisher", trained, alpha=alpha, largest=largest).named_parameters())
    bounded = 0
    for name, weight in trained.named_parameters():
        noise = torch.randn(weight.shape, generator=source)
        variance, most = (
            alpha / (information[name] + 1e-8).sqrt(),
            largest * weight.abs().median().item(),
        )
        bounded += int((variance.sqrt() > most).sum())
        torch.testing.assert_close(
            after[name] - weight, noise * variance.sqrt().clamp(max=most), atol=1e-5, rtol=1e-3
        )
    assert 0 < bounded < len(flat(trained))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(
            (name, {"lr": 10, "weight_decay": 1, "epochs": 100})
            for name in ("fine_tune", "neggrad_plus", "random_labels", "salun", "scrub")
        ),
        ("gradient_ascent", {"lr": 10, "steps": 10_000}),
    ],
)
def test_a_method_that_diverges_on_its_way_says_at_which_step(
    name: str, params: dict[str, object], trained: nn.Module
) -> None:
    with pytest.raises(JobFailed, match=r"step [1-9]") as caught:
        unlearned(name, trained, **params)
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fine_tune", {"lr": 10, "epochs": 1, "batch_size": 30}),
        ("gradient_ascent", {"lr": 10, "steps": 1}),
        ("first_order", {"tau": 10}),
    ],
)
def test_weights_that_the_last_step_spoils_are_refused(
    name: str, params: dict[str, object]
) -> None:
    """All answers are finite, the one step is too long for float32, and no loss is looked at after
    it."""
    network = build_network(LINEAR, make_generator(0, "w"))
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    bright = [
        Samples(torch.full_like(s.images, 1e38), torch.zeros_like(s.labels))
        for s in (RETAIN, FORGET)
    ]
    plugin = registry.get(name)
    with pytest.raises(
        JobFailed, match=r"after step 0 'network\.1\.weight' is not finite"
    ) as caught:
        plugin.target(UnlearningInputs(network), *bright, plugin.params(**params), LocalContext())
    assert caught.value.kind == "invalid"


def test_wrong_labels_are_never_the_truth_and_every_other_class(trained: nn.Module) -> None:
    many = data(300)
    wrong = draw_wrong_labels(trained, many, LocalContext())
    assert not bool((wrong == many.labels).any())
    assert {int(shift) for shift in (wrong - many.labels) % 3} == {1, 2}


def test_small_forget_sets_come_round_and_round() -> None:
    few = data(5)
    assert torch.equal(take_cyclic_batch(few, 0, 3).labels, few.labels[[0, 1, 2]])
    assert torch.equal(take_cyclic_batch(few, 1, 3).labels, few.labels[[3, 4, 0]])
    assert torch.equal(take_cyclic_batch(few, 7, 64).images, few.images)
