"""What deletions have in common is taken off as slowly computed; surrogate points lie where they
are said to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks import _matching, _plain, feature_recovery, label_inference
from shared.ml.attacks._estimate import GradientEstimate, add_controls, estimate_gradient
from shared.ml.attacks._matching import compute_matching_loss
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.attacks._target import TargetParams, build_gradient_target, remove_shared_part
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, build_network, clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import fine_tune, gradient_ascent
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugin_ref import PluginRef
from tests.support.observations import N, make_samples
from workers.selftest._world import stack

MLP = Architecture(
    model=PluginRef(name="mlp"), input_shape=(1, 9, 9), num_classes=4, mean=(0.5,), std=(0.5,)
)


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


def estimate(vectors: Tensor) -> GradientEstimate:
    """As if these [D, 60] were the directions, in two weights."""
    at = stack(MLP, [build_network(MLP, make_generator(0, "weights"))])
    return GradientEstimate(
        at, {"a": unit(vectors)[:, :24].reshape(-1, 2, 3, 4), "b": unit(vectors)[:, 24:]}
    )


def flat(e: GradientEstimate) -> Tensor:
    return torch.cat([g.flatten(1) for g in e.direction.values()], 1)


def drifting(length: list[float]) -> tuple[Tensor, Tensor]:
    """Updates: one drift of length 100, and of each deletion its own part of that length."""
    source = make_generator(0, "directions")
    own = unit(torch.randn(len(length), 60, generator=source)) * torch.tensor(length).unsqueeze(1)
    return 100 * unit(torch.randn(1, 60, generator=source)) + own, own


def without_the_others(vectors: Tensor, row: int) -> Tensor:
    """Slowly: the others' best combination is taken off."""
    u = unit(vectors).double()
    others = torch.cat([u[:row], u[row + 1 :]]).T
    left = u[row] - others @ torch.linalg.lstsq(others, u[row].unsqueeze(1)).solution.squeeze(1)
    return left / left.norm()


def test_the_filter_is_the_slow_one() -> None:
    vectors = torch.randn(5, 60, generator=make_generator(1, "directions")) + 1
    found = flat(remove_shared_part(estimate(vectors), 5))
    for row in range(5):
        torch.testing.assert_close(
            found[row].double(), without_the_others(vectors, row), atol=1e-6, rtol=0
        )


def test_what_is_a_deletions_own_is_found_under_a_drift_that_hides_it() -> None:
    updates, own = drifting([1.0] * 8)
    raw, found = (
        torch.cosine_similarity(x, own)
        for x in (updates, flat(remove_shared_part(estimate(updates), 8)))
    )
    assert raw.abs().max() < 0.6
    assert found.min() > 0.7


def test_one_long_gradient_does_not_spoil_the_others() -> None:
    updates, own = drifting([1.0] * 7 + [40.0])
    found = torch.cosine_similarity(flat(remove_shared_part(estimate(updates), 8)), own)
    mean = torch.stack([updates[[j for j in range(8) if j != d]].mean(0) for d in range(8)])
    by_mean = torch.cosine_similarity(updates - mean, own)
    assert found.median() > 0.7
    assert by_mean.median() < 0.4


def test_a_control_takes_the_place_of_its_deletion_in_the_filter() -> None:
    updates, _ = drifting([1.0] * 4)
    both = remove_shared_part(add_controls(estimate(updates), 2, make_generator(0, "controls")), 4)
    drawn = flat(add_controls(estimate(updates), 2, make_generator(0, "controls")))
    for control in range(2):
        instead = unit(updates)
        instead[control] = drawn[4 + control]
        torch.testing.assert_close(
            flat(both)[4 + control], flat(remove_shared_part(estimate(instead), 4))[control]
        )
    torch.testing.assert_close(flat(both)[:4], flat(remove_shared_part(estimate(updates), 4)))
    torch.testing.assert_close(flat(both).norm(dim=1), torch.ones(6))


def test_what_is_left_out_is_a_projection_off_the_other_deletions() -> None:
    updates, _ = drifting([1.0] * 5)
    directions = {n: g.double() for n, g in estimate(updates).direction.items()}
    common = SharedSubspace.from_directions(directions, 5, [2, 0])
    drawn = torch.randn(2, 60, generator=make_generator(1, "gradients"), dtype=torch.float64)
    a = {"a": drawn[:, :24].reshape(-1, 2, 3, 4), "b": drawn[:, 24:]}

    def off(a: dict[str, Tensor]) -> Tensor:
        return torch.cat([t.flatten(1) for t in common.project_out(a).values()], 1)

    once, given = off(a), torch.cat([g.flatten(1) for g in directions.values()], 1)
    torch.testing.assert_close(off(common.project_out(a)), once)
    for trial, deletion in enumerate((2, 0)):
        others = given[[d for d in range(5) if d != deletion]]
        assert (others @ once[trial]).abs().max() < 1e-9
        solution = torch.linalg.lstsq(others.T, drawn[trial].unsqueeze(1)).solution.squeeze(1)
        torch.testing.assert_close(once[trial], drawn[trial] - others.T @ solution)
    again = {n: t.flip(0) for n, t in a.items()}
    swapped = SharedSubspace(common.basis, common.residual_direction.flip(0)).project_out(again)
    torch.testing.assert_close(torch.cat([t.flatten(1) for t in swapped.values()], 1), once.flip(0))


def test_a_deletion_that_left_the_same_as_another_spoils_no_third() -> None:
    updates, _ = drifting([1.0] * 4)
    found = flat(remove_shared_part(estimate(updates[[0, 1, 2, 3, 3]]), 5))
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(
        found[:3], flat(remove_shared_part(estimate(updates), 4))[:3], atol=1e-5, rtol=0
    )


def test_candidates_lose_what_the_direction_has_lost_in_both_arithmetics() -> None:
    seen, truth = observe("fine_tune", deletions=3)
    found = build_gradient_target(seen, "pair", TargetParams(target="filtered"))
    assert found.shared_subspace is not None
    network, common = (
        found.evaluation_point.load_network().double(),
        found.shared_subspace.to(torch.zeros((), dtype=torch.float64)),
    )
    weights = {n: w.detach() for n, w in network.named_parameters()}
    length = flat(found).double().norm(dim=1)  # 1 but for rounding
    direction = {
        n: g.double() / length.view(-1, *[1] * (g.dim() - 1)) for n, g in found.direction.items()
    }
    images, labels = truth.images.double().unsqueeze(1) * 0.5, truth.labels.view(-1, 1)
    x = images.clone().requires_grad_()
    distances = []
    for trial in range(3):  # slowly, by double backward
        g = torch.autograd.grad(
            cross_entropy(network(x[trial]), labels[trial]),
            [*network.parameters()],
            create_graph=True,
        )
        left = common.select(slice(trial, trial + 1)).project_out(
            {n: t.unsqueeze(0) for n, t in zip(weights, g, strict=True)}
        )
        target = torch.cat([direction[n][trial].flatten() for n in weights])
        distances.append(
            1
            - torch.cosine_similarity(
                torch.cat([t.flatten() for t in left.values()]), target, dim=0
            )
        )
    loss = torch.stack(distances)
    (expected,) = torch.autograd.grad(loss.sum(), x)
    for way, chunk in ((_matching, None), (_matching, 2), (_plain, None)):
        gradient, told = way.build_matcher(network, weights, chunk)(
            images, labels, direction, 0.0, None, common
        )
        torch.testing.assert_close(told, loss.detach(), atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=1e-8)
        told = way.compute_matching_loss(
            network, weights, images, labels, direction, chunk, subspace=common
        )
        torch.testing.assert_close(told, loss.detach(), atol=1e-12, rtol=1e-9)


def test_one_deletion_or_equal_ones_cannot_be_compared() -> None:
    updates, _ = drifting([1.0] * 3)
    with pytest.raises(InvalidRequest, match="got one") as refused:
        remove_shared_part(estimate(updates[:1]), 1)
    assert refused.value.field == "params.target"
    with pytest.raises(InvalidRequest, match="filtering leaves nothing"):
        remove_shared_part(estimate(updates[[0, 0, 0]]), 3)


def observe(method: str, deletions: int = 5) -> tuple[WhiteBoxView, Samples]:
    """Updates of ten steps each, and the truth."""
    data, ctx = make_samples(MLP), LocalContext()
    original = build_network(MLP, make_generator(0, "weights"))
    train(original, data, Recipe(lr=1e-2), ctx)
    unlearned = []
    for gone in range(deletions):
        kept = [place for place in range(N) if place != gone]
        given = UnlearningInputs(clone(original)), data.pick(kept), data.pick([gone])
        if method == "fine_tune":
            settings = fine_tune.FineTuneParams(
                epochs=10, lr=1e-2, batch_size=32, momentum=0.9, weight_decay=5e-4
            )
            unlearned.append(fine_tune.unlearn(*given, settings, ctx))
        else:
            params = gradient_ascent.GradientAscentParams(steps=10, lr=0.3)
            unlearned.append(gradient_ascent.unlearn(*given, params, ctx))
    truth = data.pick(list(range(deletions)))
    return WhiteBoxView(
        stack(MLP, [original]), stack(MLP, unlearned), labels=truth.labels.view(-1, 1)
    ), truth


def cosines(seen: WhiteBoxView, truth: Samples, found: GradientEstimate) -> Tensor:
    """Of each deletion's direction with the true gradient where the estimate says it is one."""
    told = []
    for i, direction in enumerate(flat(found)):
        network, one = (
            found.evaluation_point.load_network(i if found.evaluation_point.count > 1 else 0),
            truth.pick([i]),
        )
        gradient = torch.autograd.grad(
            cross_entropy(network(one.images), one.labels), [*network.parameters()]
        )
        told.append(
            torch.cosine_similarity(direction, torch.cat([g.flatten() for g in gradient]), dim=0)
        )
    return torch.stack(told)


def test_what_fine_tuning_forgot_is_seen_by_comparing_deletions() -> None:
    seen, truth = observe("fine_tune")
    raw = cosines(seen, truth, build_gradient_target(seen, "pair", TargetParams()))
    compared = cosines(
        seen, truth, build_gradient_target(seen, "pair", TargetParams(target="filtered"))
    )
    assert raw.max() < 0.5
    assert compared.median() > 0.7
    answers = label_inference.run(
        seen, label_inference.LabelInferenceParams(target="filtered"), LocalContext()
    )
    assert answers.labels.flatten().tolist() == truth.labels.tolist()
    assert answers.releases_compared == 5
    plain = label_inference.run(seen, label_inference.LabelInferenceParams(), LocalContext())
    assert plain.labels.flatten().tolist() != truth.labels.tolist()
    assert plain.releases_compared == 1


def test_the_gradient_of_several_steps_is_one_somewhere_on_the_way() -> None:
    seen, truth = observe("gradient_ascent")
    start, on_the_way = (
        cosines(seen, truth, build_gradient_target(seen, "pair", TargetParams(evaluation_point=a)))
        for a in (0.0, 0.5)
    )
    assert bool((on_the_way > start).all())


def test_a_surrogate_point_lies_between_before_and_after() -> None:
    seen, _ = observe("gradient_ascent", deletions=2)
    assert build_gradient_target(seen, "pair", TargetParams()).evaluation_point is seen.original
    quarter = build_gradient_target(
        seen, "pair", TargetParams(evaluation_point=0.25), 1, make_generator(0, "controls")
    ).evaluation_point
    assert quarter.count == 3
    for name, weight in quarter.state.items():
        before, after = seen.original.state[name], seen.unlearned.state[name]
        torch.testing.assert_close(weight, (0.75 * before + 0.25 * after)[[0, 1, 0]])


def run(seen: WhiteBoxView, ctx: LocalContext, **params: object) -> feature_recovery.Reconstruction:
    return feature_recovery.run(
        seen, feature_recovery.FeatureRecoveryParams(iterations=12, **params), ctx
    )


AIMED = {"evaluation_point": 0.5, "target": "filtered", "restarts": 2, "controls": 1}


def test_each_deletion_is_matched_at_its_own_point() -> None:
    seen, truth = observe("gradient_ascent", deletions=3)
    found = run(seen, LocalContext(), **AIMED)
    assert found.releases_compared == 3
    estimate = build_gradient_target(
        seen, "pair", TargetParams(evaluation_point=0.5, target="filtered")
    )
    for i in range(3):
        network = estimate.evaluation_point.load_network(i)
        weights = {n: w.detach() for n, w in network.named_parameters()}
        direction = {n: g[i : i + 1] for n, g in estimate.direction.items()}
        assert estimate.shared_subspace is not None
        common = estimate.shared_subspace.select(slice(i, i + 1))
        labels = truth.labels[i].view(1, 1)
        loss = compute_matching_loss(
            network, weights, found.images[i : i + 1], labels, direction, subspace=common
        )
        torch.testing.assert_close(loss[0], found.matching_loss[i])


def test_a_resumed_search_ends_bit_equal() -> None:
    seen, _ = observe("gradient_ascent", deletions=3)
    whole, first, later = (
        run(seen, LocalContext(), **AIMED),
        LocalContext(checkpoint_every=5),
        LocalContext(),
    )
    run(seen, first, **AIMED)
    later.checkpoint = first.checkpoint
    resumed = run(seen, later, **AIMED)
    assert later.progress_reports[0][0] == 11
    assert torch.equal(whole.images, resumed.images)
    assert torch.equal(whole.controls["random_direction"], resumed.controls["random_direction"])


def test_by_default_the_target_is_the_estimate() -> None:
    seen, _ = observe("gradient_ascent", deletions=2)
    plain, same = (
        estimate_gradient(seen, "pair"),
        build_gradient_target(seen, "pair", TargetParams()),
    )
    assert all(torch.equal(g, same.direction[n]) for n, g in plain.direction.items())
    one = replace(seen, unlearned=seen.unlearned.pick([0]), labels=None)
    with pytest.raises(InvalidRequest, match="at least two deletions"):
        run(one, LocalContext(), target="filtered", labels="inferred")
