"""Relearning on a few forgotten samples: a class that only the head lost comes back at once, and no
retrained model's does."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from shared.errors import JobFailed
from shared.ml.context import LocalContext, SeededSubContext, make_generator
from shared.ml.forgetting.relearning_forgotten import (
    RelearningTest,
    compare_relearning,
    relearn_from_forgotten,
)
from shared.ml.loss import compute_loss
from shared.ml.networks import Architecture, build_network, clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import compute_logits, train
from shared.plugin_ref import PluginRef

CLASSES, SEEDS, STEPS = 6, 3, 3
RECIPE = Recipe(lr=0.05, momentum=0.9, epochs=8, batch_size=8)
CPU = torch.device("cpu")


def draw(purpose: str, n: int) -> Samples:
    labels = torch.arange(n) % CLASSES
    patterns = torch.rand(CLASSES, 1, 9, 9, generator=make_generator(0, "patterns"))
    noise = torch.rand(n, 1, 9, 9, generator=make_generator(0, purpose))
    return Samples(0.5 * patterns[labels] + 0.5 * noise, labels)


def learn(samples: Samples, seed: int) -> nn.Module:
    architecture = Architecture(
        model=PluginRef(name="mlp", params={"hidden": 32}), input_shape=(1, 9, 9),
        num_classes=CLASSES, mean=(0.5,), std=(0.25,),
    )  # fmt: skip
    network = build_network(architecture, make_generator(seed, "weights"))
    train(network, samples, RECIPE, LocalContext(seed))
    return network


def hide_class(network: nn.Module, label: int, bias: float) -> nn.Module:
    """The same features; the last layer hardly answers this class."""
    hidden = clone(network)
    heads = [layer for layer in hidden.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        heads[-1].bias[label] -= bias
    return hidden


class Curves(NamedTuple):
    """Losses on the rest: original and hidden [steps + 1, D], retrained by seed [..., 2 S]."""

    original: Tensor
    hidden: Tensor
    retrained: Tensor


@pytest.fixture(scope="module")
def curves() -> Curves:
    """One deletion per class: all its samples."""
    data = draw("training", 20 * CLASSES)
    original = learn(data, 0)

    def relearn(network: nn.Module, label: int) -> list[float]:
        forget = data.pick((data.labels == label).nonzero().flatten())
        few, rest = forget.pick(list(range(5))), forget.pick(list(range(5, 20)))
        ctx = SeededSubContext(LocalContext(), label, CLASSES)
        return relearn_from_forgotten(network, few, rest, RECIPE, STEPS, ctx)

    of_original, of_hidden, of_retrained = [], [], []
    for label in range(CLASSES):
        kept = data.pick((data.labels != label).nonzero().flatten())
        of_original.append(relearn(original, label))
        of_hidden.append(relearn(hide_class(original, label, 18), label))
        of_retrained.append(
            [relearn(learn(kept, 1 + 10 * label + s), label) for s in range(2 * SEEDS)]
        )
    return Curves(
        torch.tensor(of_original).T,
        torch.tensor(of_hidden).T,
        torch.tensor(of_retrained).permute(2, 0, 1),
    )


def compare(curves: Curves, release: Tensor) -> RelearningTest:
    return compare_relearning(
        curves.original, release, curves.retrained[..., :SEEDS], make_generator(0, "swaps")
    )


def test_a_class_that_only_the_head_lost_comes_back(curves: Curves) -> None:
    found = compare(curves, curves.hidden)
    assert found.before.value is not None
    assert found.before.value > 0.8  # at first it looks forgotten
    assert found.after.value is not None
    assert found.after.value < 0.25
    assert found.not_forgotten is True


def test_nothing_done_is_not_forgotten(curves: Curves) -> None:
    found = compare(curves, curves.original)
    assert found.before.value == found.after.value == 0
    assert found.not_forgotten is True


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_retrained_model_of_another_seed_is_never_flagged(curves: Curves, seed: int) -> None:
    found = compare(curves, curves.retrained[..., SEEDS + seed])
    assert found.not_forgotten is False
    assert found.after.value is not None
    assert found.after.value > 0.5


def test_hardly_any_simulated_retrained_model_is_flagged() -> None:
    """Losses of eight forget sets of unequal difficulty, those of the original lower by a factor;
    chance alone flags at most 1 in 500."""
    draws, flagged = make_generator(0, "simulated"), 0

    def lognormal(spread: float, *shape: int) -> Tensor:
        return torch.exp(spread * torch.randn(*shape, generator=draws, dtype=torch.float64))

    for noise in (0.3, 1.0):
        for factor in (0.05, 0.4, 0.8):
            for _ in range(25):
                losses = lognormal(0.7, 8, 1) * lognormal(noise, 8, SEEDS + 2)
                both = torch.stack([losses, losses])  # relearning changes nothing
                original, release, retrained = both[..., 0] * factor, both[..., 1], both[..., 2:]
                found = compare_relearning(original, release, retrained, draws)
                flagged += found.not_forgotten is True
    assert flagged <= 1


def test_where_the_original_is_like_retraining_it_cannot_decide(curves: Curves) -> None:
    found = compare_relearning(
        curves.retrained[..., 0], curves.hidden, curves.retrained[..., 1:], make_generator(0, "")
    )
    assert found.not_forgotten is None
    assert found.reason


def test_four_deletions_are_too_few(curves: Curves) -> None:
    found = compare_relearning(
        curves.original[:, :4], curves.hidden[:, :4], curves.retrained[:, :4], make_generator(0, "")
    )
    assert (found.not_forgotten, found.reason) == (None, "the test needs at least 5 deletions")
    assert found.after.value is not None


def test_the_curve_starts_at_the_release_and_follows_plain_steps() -> None:
    data = draw("training", 24)
    network = learn(data, 0)
    before = clone(network).state_dict()
    few, rest = data.pick([0, 1]), data.pick(list(range(2, 24)))
    private = RECIPE.model_copy(update={"noise_multiplier": 50.0, "schedule": "one_cycle"})
    curve = relearn_from_forgotten(network, few, rest, private, 2, LocalContext())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())

    tuned = clone(network)
    optimiser = torch.optim.SGD(tuned.parameters(), RECIPE.lr, RECIPE.momentum)
    expected = []
    for _ in range(3):
        expected.append(compute_loss(compute_logits(tuned, rest.images, CPU), rest.labels).item())
        optimiser.zero_grad()
        compute_loss(tuned(few.images), few.labels).backward()
        optimiser.step()
    assert curve == pytest.approx(expected, rel=1e-4)


def test_steps_that_diverge_fail() -> None:
    data = draw("training", 12)
    network = learn(data, 0)
    wild = RECIPE.model_copy(update={"lr": 1e30})
    with pytest.raises(JobFailed, match="diverged"):
        relearn_from_forgotten(network, data.pick([0]), data.pick([1, 2]), wild, 5, LocalContext())
