"""What an attacker gains who knows the defense: held against the true gradient, which no attacker
has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks import analytic_inversion
from shared.ml.attacks._estimate import add_controls, estimate_gradient
from shared.ml.attacks._grouping import group_by_start_model
from shared.ml.attacks._target import TargetParams, build_gradient_target
from shared.ml.context import Context, LocalContext, make_generator
from shared.ml.defenses import registry
from shared.ml.networks import Architecture, Networks
from shared.ml.records import PublicSets
from shared.ml.samples import Samples, compute_digest, open_dataset
from shared.plugin_ref import PluginRef
from shared.plugins import Params
from tests.support.observations import N, make_samples
from tests.unit.ml.test_attacks import CONVNET, observe, true_gradient

NOBODY = PublicSets(
    dataset=PluginRef(name="npz", params={"path": "none.npz"}), digest="0" * 64, sets=[]
)


def defended(
    name: str,
    params: Params,
    seen: WhiteBoxView,
    ctx: Context,
    architecture: Architecture = CONVNET,
) -> WhiteBoxView:
    """The observation of what was released: each deletion's model defended, the others kept."""
    states = []
    for i in range(seen.unlearned.count):
        kept = make_samples(architecture).pick([place for place in range(N) if place != i])
        states.append(
            registry.get(name)
            .target(seen.unlearned.load_network(i), kept, params, ctx)
            .state_dict()
        )
    state = {n: torch.stack([s[n] for s in states]) for n in states[0]}
    return replace(seen, unlearned=Networks(seen.unlearned.architecture, state, len(states)))


def fits(seen: WhiteBoxView, truth: Samples) -> list[float]:
    """Cosine of each deletion's estimate and the true gradient, on the coordinates that are
    trusted, as they are."""
    at, direction, trust, _ = estimate_gradient(seen, "pair")
    found = []
    for i in range(seen.unlearned.count):
        true = true_gradient(at, truth.pick([i]), double=False)
        worth = (
            [torch.ones_like(t) for t in true] if trust is None else [t[i] for t in trust.values()]
        )
        flat = torch.cat([(t * w).flatten() for t, w in zip(true, worth, strict=True)])
        aim = torch.cat([t[i].flatten() for t in direction.values()])
        assert aim.norm() == pytest.approx(1, abs=1e-5)
        found.append(torch.cosine_similarity(flat, aim, dim=0).item())
    return found


def knowing(
    name: str, params: Params, seen: WhiteBoxView, public: PublicSets = NOBODY
) -> WhiteBoxView:
    counter = registry.get(name).adaptive_view
    assert counter is not None
    known: WhiteBoxView = counter(seen, params, public, LocalContext(seed=9))
    return known


def test_what_pruning_leaves_is_the_exact_change() -> None:
    seen, truth = observe("gradient_ascent")
    params = registry.get("pruning").params(share=0.5)
    released = defended("pruning", params, seen, LocalContext())
    known = knowing("pruning", params, released)
    assert max(fits(released, truth)) < 0.5
    assert min(fits(known, truth)) > 0.98
    assert known.coordinate_weights is not None
    for name, trust in known.coordinate_weights.items():
        gone = released.unlearned.state[name] == 0
        assert torch.equal(trust == 0, gone if gone.dim() > 2 else torch.zeros_like(gone))


def test_weighing_by_the_noise_finds_the_change_under_it_and_where_there_is_none_looks_at_all_alike() -> (
    None
):
    seen, truth = observe("gradient_ascent")
    params = registry.get("obfuscation").params(noise=3e-3)
    released = defended("obfuscation", params, seen, LocalContext())
    known = knowing("obfuscation", params, released)
    for plain, adaptive in zip(fits(released, truth), fits(known, truth), strict=True):
        assert adaptive > plain + 0.05
    little = registry.get("obfuscation").params(noise=1e-9)
    trust = knowing(
        "obfuscation", little, defended("obfuscation", little, seen, LocalContext())
    ).coordinate_weights
    assert trust is not None
    assert min(t.min().item() for t in trust.values()) > 0.99


def test_a_tensor_without_size_got_no_noise_and_gets_most_weight() -> None:
    seen, _ = observe("gradient_ascent")
    names = [name for name, _ in seen.original.load_network().named_parameters()]
    still = {
        n: torch.zeros_like(t) if n == names[-1] else t for n, t in seen.original.state.items()
    }
    original = Networks(CONVNET, still, 1)
    trust = knowing(
        "obfuscation",
        registry.get("obfuscation").params(noise=0.1),
        replace(seen, original=original),
    ).coordinate_weights
    assert trust is not None
    assert trust[names[-1]].min() == 1
    assert max(trust[n].max().item() for n in names[:-1]) < 1


@pytest.fixture
def kept_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicSets:
    """Public sets that are the retain sets of the first deletion, twice: the most that public data
    can be like them."""
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    images, labels = (torch.cat([t, t]).numpy() for t in make_samples(CONVNET))
    np.savez(
        tmp_path / "same.npz", images=images, labels=labels, test_images=images, test_labels=labels
    )
    choice = PluginRef(name="npz", params={"path": "same.npz"})
    kept = [*range(1, N)]
    return PublicSets(
        dataset=choice, digest=compute_digest(open_dataset(choice).load("train")), sets=[kept, kept]
    )


def test_a_fine_tune_on_like_data_is_taken_off_again(kept_twice: PublicSets) -> None:
    seen, truth = observe("gradient_ascent", deletions=1)
    params = registry.get("fine_tune").params(epochs=1, lr=0.002, batch_size=N)
    released = defended("fine_tune", params, seen, LocalContext())
    known = knowing("fine_tune", params, released, kept_twice)
    assert fits(released, truth)[0] < 0.9
    assert fits(known, truth)[0] > 0.98
    assert known.original is released.original
    with pytest.raises(InvalidRequest, match="no public samples"):
        knowing("fine_tune", params, released)


def doubled(networks: Networks, architecture: Architecture) -> Networks:
    """Each network beside an original that never moves, as two that answer together."""
    state = {f"members.{m}.{n}": t for m in range(2) for n, t in networks.state.items()}
    return Networks(architecture, state, networks.count)


def test_coordinate_weights_follow_their_deletion_and_member() -> None:
    seen, _ = observe("gradient_ascent", deletions=3)
    pair = CONVNET.model_copy(update={"members": 2})
    original, unlearned = doubled(seen.original, pair), doubled(seen.unlearned, pair)
    still = {n: seen.original.state[n].expand_as(t) for n, t in seen.unlearned.state.items()}
    for d, member in enumerate((1, 0, 1)):  # the other member of each deletion stays, but is pruned
        for name, t in still.items():
            unlearned.state[f"members.{1 - member}.{name}"] = torch.where(
                torch.arange(3).view(-1, *[1] * (t.dim() - 1)) == d,
                t,
                unlearned.state[f"members.{1 - member}.{name}"],
            )
    whole = WhiteBoxView(original, unlearned)
    params = registry.get("pruning").params(share=0.7)
    released = defended("pruning", params, whole, LocalContext())
    known = knowing("pruning", params, released)
    groups = {tuple(rows): part for rows, part in group_by_start_model(known)}
    # by what moved where it is trusted: pruning moved all members
    assert set(groups) == {(0, 2), (1,)}
    for rows, part in groups.items():
        member = 1 if rows == (0, 2) else 0
        assert part.coordinate_weights is not None
        assert known.coordinate_weights is not None
        for name, trust in part.coordinate_weights.items():
            assert torch.equal(
                trust, known.coordinate_weights[f"members.{member}.{name}"][list(rows)]
            )
        estimate_gradient(part, "pair")


def test_controls_are_weighted_like_their_deletions() -> None:
    seen, _ = observe("gradient_ascent")
    params = registry.get("pruning").params(share=0.5)
    known = knowing("pruning", params, defended("pruning", params, seen, LocalContext()))
    estimate = add_controls(estimate_gradient(known, "pair"), 2, make_generator(0, "controls"))
    assert estimate.coordinate_weights is not None
    total: Tensor = torch.zeros(5)
    for name, g in estimate.direction.items():
        assert torch.equal(
            estimate.coordinate_weights[name][3:], estimate.coordinate_weights[name][:2]
        )
        assert bool((g[estimate.coordinate_weights[name] == 0] == 0).all())
        total = total + g.flatten(1).square().sum(1)
    torch.testing.assert_close(total, torch.ones(5))


def test_a_deletions_residual_stays_where_it_has_weight() -> None:
    """Others are pruned elsewhere: what they have in common reaches where this one knows
    nothing."""
    seen, _ = observe("gradient_ascent")
    params = registry.get("pruning").params(share=0.5)
    known = knowing("pruning", params, defended("pruning", params, seen, LocalContext()))
    assert known.coordinate_weights is not None
    moved = {
        n: torch.where(torch.rand(t.shape, generator=make_generator(0, n)) < 0.5, 0, t)
        for n, t in known.coordinate_weights.items()
    }
    estimate = build_gradient_target(
        replace(known, coordinate_weights=moved), "pair", TargetParams(target="filtered")
    )
    total: Tensor = torch.zeros(3)
    for name, g in estimate.direction.items():
        assert bool((g[moved[name] == 0] == 0).all())
        total = total + g.flatten(1).square().sum(1)
    torch.testing.assert_close(total, torch.ones(3))


def test_pruned_weights_are_taken_to_be_the_originals() -> None:
    """So that a point on the way to the release is no half-pruned network."""
    seen, _ = observe("gradient_ascent")
    params = registry.get("pruning").params(share=0.5)
    released = defended("pruning", params, seen, LocalContext())
    known = knowing("pruning", params, released)
    assert known.coordinate_weights is not None
    for name, trust in known.coordinate_weights.items():
        before, after = seen.original.state[name].expand_as(trust), known.unlearned.state[name]
        assert torch.equal(after, torch.where(trust == 0, before, released.unlearned.state[name]))


def test_a_dense_first_layer_is_read_through_pruning() -> None:
    mlp = CONVNET.model_copy(update={"model": PluginRef(name="mlp", params={"hidden": 64})})
    seen, truth = observe("gradient_ascent", architecture=mlp)
    params = registry.get("pruning").params(share=0.5)
    released = defended("pruning", params, seen, LocalContext(), mlp)
    known = knowing("pruning", params, released)
    run, plain = analytic_inversion.run, analytic_inversion.AnalyticInversionParams()
    errors = [
        (run(o, plain, LocalContext()).images[:, 0] - truth.images).abs().max()
        for o in (released, known)
    ]
    assert errors[0] > 0.1
    assert errors[1] < 1e-3
