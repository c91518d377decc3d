"""Cosines of candidates' gradients are those of a loop over samples, whatever is done to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks import _candidate_cosines, membership_gradient
from shared.ml.attacks._candidate_cosines import compute_candidate_cosines
from shared.ml.attacks._estimate import GradientEstimate
from shared.ml.attacks._target import TargetParams, build_gradient_target
from shared.ml.attacks.membership_gradient import MembershipGradientParams
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, Networks
from shared.ml.samples import Samples
from shared.plugin_ref import PluginRef
from tests.support.observations import make_observation, make_samples

CANDIDATES, DELETIONS = 8, 3


def architecture(model: str) -> Architecture:
    return Architecture(
        model=PluginRef(name=model),
        input_shape=(1, 12, 12),
        num_classes=4,
        mean=(0.5,),
        std=(0.5,),
    )


def observe(model: str) -> tuple[WhiteBoxView, Samples]:
    view, _ = make_observation(architecture(model), "gradient_ascent", DELETIONS)
    return view, make_samples(architecture(model), CANDIDATES)


def flatten(tensors: dict[str, Tensor], row: int) -> Tensor:
    return torch.cat([t[row].double().flatten() for t in tensors.values()])


def differentiate(networks: Networks, which: int, samples: Samples, one: int) -> Tensor:
    """One sample's gradient, by itself."""
    network = networks.load_network(which).double()
    loss = cross_entropy(
        network(samples.images[one : one + 1].double()), samples.labels[one : one + 1]
    )
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, [*network.parameters()])]
    ).detach()


def compute_slowly(estimate: GradientEstimate, samples: Samples) -> Tensor:
    """Sample by sample, with every projection computed."""
    rows = []
    for d in range(DELETIONS):
        which = d if estimate.evaluation_point.count > 1 else 0
        row = []
        for one in range(len(samples.labels)):
            g = differentiate(estimate.evaluation_point, which, samples, one)
            if estimate.coordinate_weights is not None:
                g = g * flatten(estimate.coordinate_weights, d)
            if estimate.shared_subspace is not None:
                sizes = [t[0].numel() for t in estimate.direction.values()]
                parts = {
                    n: part.view(1, *t.shape[1:])
                    for (n, t), part in zip(estimate.direction.items(), g.split(sizes), strict=True)
                }
                subspace = estimate.shared_subspace.select(slice(d, d + 1)).to(g)
                g = flatten(subspace.project_out(parts), 0)
            row.append(torch.cosine_similarity(g, flatten(estimate.direction, d), dim=0))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("model", ["mlp", "convnet"])
@pytest.mark.parametrize("evaluation_point", [0.0, 0.5])
@pytest.mark.parametrize("target", ["raw", "filtered"])
def test_cosines_are_those_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, model: str, target: str, evaluation_point: float
) -> None:
    monkeypatch.setattr(_candidate_cosines, "MAX_CHUNK_SIZE", 3)  # the last chunk is shorter
    view, candidates = observe(model)
    params = TargetParams.model_validate({"target": target, "evaluation_point": evaluation_point})
    estimate = build_gradient_target(view, "pair", params)
    ctx = LocalContext()
    found = compute_candidate_cosines(estimate, candidates, ctx)
    assert (found.shape, found.dtype) == ((DELETIONS, CANDIDATES), torch.float64)
    # an ascent step's direction is its sample's gradient: nothing of it is left in other deletions
    slowly = compute_slowly(estimate, candidates)
    kept = torch.ones(DELETIONS, CANDIDATES, dtype=torch.bool)
    if target == "filtered":
        kept[:, :DELETIONS] = torch.eye(DELETIONS, dtype=torch.bool)
        assert evaluation_point or found[~kept].abs().max() < 0.01
    torch.testing.assert_close(found[kept], slowly[kept], atol=1e-4, rtol=0)
    done, total, _ = ctx.progress_reports[-1]
    assert done == total
    assert len(ctx.progress_reports) == 3 * (DELETIONS if evaluation_point else 1)


def test_weighted_coordinates_count_in_the_gradient_too() -> None:
    view, candidates = observe("mlp")
    source = make_generator(0, "coordinate weights")
    weights = {
        name: torch.rand(DELETIONS, *view.original.state[name].shape[1:], generator=source).round()
        for name, _ in view.original.load_network().named_parameters()
    }
    estimate = build_gradient_target(
        replace(view, coordinate_weights=weights), "pair", TargetParams()
    )
    found = compute_candidate_cosines(estimate, candidates, LocalContext())
    torch.testing.assert_close(found, compute_slowly(estimate, candidates), atol=1e-4, rtol=0)


def test_after_one_ascent_step_the_forgotten_sample_explains_all() -> None:
    view, candidates = observe("convnet")
    result = membership_gradient.run(
        replace(view, candidates=candidates), MembershipGradientParams(), LocalContext()
    )
    assert result.scores.argmax(1).tolist() == [0, 1, 2]
    assert result.scores.diagonal().min() > 0.999


def test_a_sample_known_by_heart_still_has_a_direction() -> None:
    """In float32 its probability is 1 and its gradient partly 0."""
    view, candidates = observe("mlp")
    last = [name for name, _ in view.original.load_network().named_parameters()][-1]
    sure = dict(view.original.state)
    sure[last] = sure[last] + 20 * torch.eye(4)[candidates.labels[0]]
    original = Networks(view.original.architecture, sure, 1)
    moved = {name: t.expand_as(view.unlearned.state[name]).clone() for name, t in sure.items()}
    moved[last][:, candidates.labels[0]] -= 0.1
    seen = replace(
        view,
        original=original,
        unlearned=Networks(view.original.architecture, moved, DELETIONS),
        candidates=candidates,
    )
    scores = membership_gradient.run(seen, MembershipGradientParams(), LocalContext()).scores
    assert bool(torch.isfinite(scores).all())
    estimate = build_gradient_target(seen, "pair", TargetParams())
    torch.testing.assert_close(scores, compute_slowly(estimate, candidates), atol=1e-4, rtol=0)
    assert scores[0, 0] > 0.1


def test_without_candidates_it_is_refused() -> None:
    view, _ = observe("mlp")
    with pytest.raises(InvalidRequest, match="needs CANDIDATES"):
        membership_gradient.run(view, MembershipGradientParams(), LocalContext())
