"""What deletions have in common is taken off as slowly computed; surrogate points lie where they are said to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.ml.attacks import feature_recovery, label_inference
from shared.ml.attacks._estimate import Estimate, gradient_direction, with_controls
from shared.ml.attacks._matching import mismatch
from shared.ml.attacks._observation import Observation
from shared.ml.attacks._target import Aim, aimed, filtered
from shared.ml.context import LocalContext, generator
from shared.ml.datasets._base import Samples
from shared.ml.networks import Architecture, build, clone
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import fine_tune, gradient_ascent
from shared.ml.unlearning._inputs import UnlearningInputs
from tests.support.observed import N, samples, stack

MLP = Architecture(model=Choice(name="mlp"), input_shape=(1, 9, 9), num_classes=4, mean=(0.5,), std=(0.5,))


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


def estimate(vectors: Tensor) -> Estimate:
    """As if these [D, 12] were the directions, in two weights."""
    at = stack([build(MLP, generator(0, "weights"))], MLP)
    return Estimate(at, {"a": unit(vectors)[:, :6].reshape(-1, 2, 3), "b": unit(vectors)[:, 6:]})


def flat(e: Estimate) -> Tensor:
    return torch.cat([g.flatten(1) for g in e.direction.values()], 1)


def drifting(length: list[float]) -> tuple[Tensor, Tensor]:
    """Updates: one drift of length 100, and of each deletion its own part of that length."""
    source = generator(0, "directions")
    own = unit(torch.randn(len(length), 12, generator=source)) * torch.tensor(length).unsqueeze(1)
    return 100 * unit(torch.randn(1, 12, generator=source)) + own, own


def without_the_median(vectors: Tensor, row: int) -> Tensor:
    """Slowly: the point of the least summed distance to the others, found by walking down; then its part removed."""
    u = unit(vectors).double()
    others = torch.cat([u[:row], u[row + 1 :]])
    point = others.mean(0).requires_grad_()
    optimiser = torch.optim.LBFGS([point], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def summed() -> Tensor:
        optimiser.zero_grad()
        loss = (others - point).norm(dim=1).sum()
        loss.backward()
        return loss

    optimiser.step(summed)
    common = point.detach() / point.detach().norm()
    left = u[row] - (u[row] @ common) * common
    return left / left.norm()


def test_the_filter_is_the_slow_one() -> None:
    vectors = torch.randn(5, 12, generator=generator(1, "directions")) + 1
    found = flat(filtered(estimate(vectors), 5))
    for row in range(5):
        torch.testing.assert_close(found[row].double(), without_the_median(vectors, row), atol=1e-4, rtol=0)


def test_what_is_a_deletions_own_is_found_under_a_drift_that_hides_it() -> None:
    updates, own = drifting([1.0] * 8)
    raw, found = (torch.cosine_similarity(x, own) for x in (updates, flat(filtered(estimate(updates), 8))))
    assert raw.abs().max() < 0.6
    assert found.min() > 0.7


def test_one_long_gradient_does_not_spoil_the_others() -> None:
    updates, own = drifting([1.0] * 7 + [40.0])
    found = torch.cosine_similarity(flat(filtered(estimate(updates), 8)), own)
    mean = torch.stack([updates[[j for j in range(8) if j != d]].mean(0) for d in range(8)])
    by_mean = torch.cosine_similarity(updates - mean, own)
    assert found.median() > 0.7
    assert by_mean.median() < 0.4


def test_a_control_takes_the_place_of_its_deletion_in_the_filter() -> None:
    updates, _ = drifting([1.0] * 4)
    both = filtered(with_controls(estimate(updates), 2, generator(0, "controls")), 4)
    drawn = flat(with_controls(estimate(updates), 2, generator(0, "controls")))
    for control in range(2):
        instead = unit(updates)
        instead[control] = drawn[4 + control]
        torch.testing.assert_close(flat(both)[4 + control], flat(filtered(estimate(instead), 4))[control])
    torch.testing.assert_close(flat(both)[:4], flat(filtered(estimate(updates), 4)))
    torch.testing.assert_close(flat(both).norm(dim=1), torch.ones(6))


def test_one_deletion_or_equal_ones_cannot_be_compared() -> None:
    updates, _ = drifting([1.0] * 3)
    with pytest.raises(InvalidRequest, match="here is one") as refused:
        filtered(estimate(updates[:1]), 1)
    assert refused.value.field == "params.target"
    with pytest.raises(InvalidRequest, match="nothing of deletion 0 is its own"):
        filtered(estimate(updates[[0, 0, 0]]), 3)


def observe(method: str, deletions: int = 5) -> tuple[Observation, Samples]:
    """Updates of ten steps each, and the truth."""
    data, ctx = samples(MLP), LocalContext()
    original = build(MLP, generator(0, "weights"))
    train(original, data, Recipe(lr=1e-2), ctx)
    unlearned = []
    for gone in range(deletions):
        kept = [place for place in range(N) if place != gone]
        given = UnlearningInputs(clone(original)), data.pick(kept), data.pick([gone])
        if method == "fine_tune":
            unlearned.append(fine_tune.unlearn(*given, fine_tune.FineTuneParams(), ctx))
        else:
            params = gradient_ascent.GradientAscentParams(steps=10, lr=0.3)
            unlearned.append(gradient_ascent.unlearn(*given, params, ctx))
    truth = data.pick(list(range(deletions)))
    return Observation(stack([original], MLP), stack(unlearned, MLP), labels=truth.labels.view(-1, 1)), truth


def cosines(seen: Observation, truth: Samples, found: Estimate) -> Tensor:
    """Of each deletion's direction with the true gradient where the estimate says it is one."""
    told = []
    for i, direction in enumerate(flat(found)):
        network, one = found.at.network(i if found.at.count > 1 else 0), truth.pick([i])
        gradient = torch.autograd.grad(cross_entropy(network(one.images), one.labels), [*network.parameters()])
        told.append(torch.cosine_similarity(direction, torch.cat([g.flatten() for g in gradient]), dim=0))
    return torch.stack(told)


def test_what_fine_tuning_forgot_is_seen_by_comparing_deletions() -> None:
    seen, truth = observe("fine_tune")
    raw = cosines(seen, truth, aimed(seen, "pair", Aim()))
    compared = cosines(seen, truth, aimed(seen, "pair", Aim(target="filtered")))
    assert raw.max() < 0.5
    assert compared.median() > 0.7
    answers = label_inference.run(seen, label_inference.LabelInferenceParams(target="filtered"), LocalContext())
    assert answers.labels.flatten().tolist() == truth.labels.tolist()
    assert answers.compares == 5
    plain = label_inference.run(seen, label_inference.LabelInferenceParams(), LocalContext())
    assert plain.labels.flatten().tolist() != truth.labels.tolist()
    assert plain.compares == 1


def test_the_gradient_of_several_steps_is_one_somewhere_on_the_way() -> None:
    seen, truth = observe("gradient_ascent")
    start, on_the_way = (cosines(seen, truth, aimed(seen, "pair", Aim(gradient_at=a))) for a in (0.0, 0.5))
    assert bool((on_the_way > start).all())


def test_a_surrogate_point_lies_between_before_and_after() -> None:
    seen, _ = observe("gradient_ascent", deletions=2)
    assert aimed(seen, "pair", Aim()).at is seen.original
    quarter = aimed(seen, "pair", Aim(gradient_at=0.25), 1, generator(0, "controls")).at
    assert quarter.count == 3
    for name, weight in quarter.state.items():
        before, after = seen.original.state[name], seen.unlearned.state[name]
        torch.testing.assert_close(weight, (0.75 * before + 0.25 * after)[[0, 1, 0]])


def run(seen: Observation, ctx: LocalContext, **params: object) -> feature_recovery.Reconstruction:
    return feature_recovery.run(seen, feature_recovery.FeatureRecoveryParams(iterations=12, **params), ctx)


AIMED = {"gradient_at": 0.5, "target": "filtered", "restarts": 2, "controls": 1}


def test_each_deletion_is_matched_at_its_own_point() -> None:
    seen, truth = observe("gradient_ascent", deletions=3)
    found = run(seen, LocalContext(), **AIMED)
    assert found.compares == 3
    estimate = aimed(seen, "pair", Aim(gradient_at=0.5, target="filtered"))
    for i in range(3):
        network = estimate.at.network(i)
        weights = {n: w.detach() for n, w in network.named_parameters()}
        direction = {n: g[i : i + 1] for n, g in estimate.direction.items()}
        loss = mismatch(network, weights, found.images[i : i + 1], truth.labels[i].view(1, 1), direction)
        torch.testing.assert_close(loss[0], found.matching_loss[i])


def test_a_resumed_search_ends_bit_equal() -> None:
    seen, _ = observe("gradient_ascent", deletions=3)
    whole, first, later = run(seen, LocalContext(), **AIMED), LocalContext(save_every=5), LocalContext()
    run(seen, first, **AIMED)
    later.checkpoint = first.checkpoint
    resumed = run(seen, later, **AIMED)
    assert later.steps[0][0] == 11
    assert torch.equal(whole.images, resumed.images)
    assert torch.equal(whole.controls["random_direction"], resumed.controls["random_direction"])


def test_by_default_nothing_is_aimed() -> None:
    seen, _ = observe("gradient_ascent", deletions=2)
    plain, same = gradient_direction(seen, "pair"), aimed(seen, "pair", Aim())
    assert all(torch.equal(g, same.direction[n]) for n, g in plain.direction.items())
    one = replace(seen, unlearned=seen.unlearned.pick([0]), labels=None)
    with pytest.raises(InvalidRequest, match="compares deletions"):
        run(one, LocalContext(), target="filtered", labels="inferred")
