"""What the cases are about: images of four classes, small models, deletions from them, all made in
a moment."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared.evaluation import Evaluation
from shared.ml import attacks, unlearning
from shared.ml.attack_io import Reconstruction, WhiteBoxView
from shared.ml.baselines import compute_class_means
from shared.ml.context import LocalContext, SeededSubContext, make_generator
from shared.ml.findings.images import identify_truths, score_images
from shared.ml.networks import Architecture, Networks, build_network, clone
from shared.ml.records import DeletionSizes
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning.api import UnlearningInputs
from shared.plugin_ref import PluginRef
from shared.reporting.findings import decide_row
from shared.reporting.kinds import collect_scores
from shared.reporting.models import Finding

CLASSES, SIDE = 4, 9
RECIPE = Recipe(lr=1e-2)


def architecture(model: str, **params: int) -> Architecture:
    """A small network's."""
    choice = PluginRef(name=model, params=params)
    return Architecture(
        model=choice, input_shape=(1, SIDE, SIDE), num_classes=CLASSES, mean=(0.5,), std=(0.25,)
    )


def samples(purpose: str, n: int) -> Samples:
    """Every class has a pattern of its own, and every image its own noise over it. Classes take
    turns."""
    labels = torch.arange(n) % CLASSES
    patterns = torch.rand(CLASSES, 1, SIDE, SIDE, generator=make_generator(0, "patterns"))
    noise = torch.rand(n, 1, SIDE, SIDE, generator=make_generator(0, purpose))
    return Samples(0.5 * patterns[labels] + 0.5 * noise, labels)


def pretrained(made: Architecture, epochs: int = 2) -> nn.Module:
    """The base model."""
    network = build_network(made, make_generator(0, "weights"))
    train(
        network,
        samples("pretraining", 128),
        Recipe(lr=0.1, epochs=epochs, batch_size=32),
        LocalContext(),
    )
    return network


def stack(made: Architecture, networks: list[nn.Module]) -> Networks:
    """Several networks as an artifact holds them."""
    states = [network.state_dict() for network in networks]
    return Networks(
        made, {name: torch.stack([s[name] for s in states]) for name in states[0]}, len(networks)
    )


def observe(
    made: Architecture, base: nn.Module, data: Samples, method: str, deletions: int, k: int = 1
) -> WhiteBoxView:
    """What a server sees of the first `deletions` forget sets of k, forgotten one by one; in the
    data's own type."""
    plugin, n, ctx = unlearning.registry.get(method), len(data.labels), LocalContext()
    original = clone(base)
    train(original, data, RECIPE, ctx)
    after = []
    for i in range(deletions):
        gone = list(range(i * k, (i + 1) * k))
        kept = [place for place in range(n) if place not in gone]
        inputs = UnlearningInputs(clone(original), clone(base), RECIPE)
        part = SeededSubContext(ctx, i, deletions)
        after.append(plugin.target(inputs, data.pick(kept), data.pick(gone), plugin.params(), part))
    labels = data.labels[: deletions * k].view(deletions, k)
    before, base_ = stack(made, [original]), stack(made, [base])
    return WhiteBoxView(before, stack(made, after), base_, DeletionSizes(N=n, k=k), labels)


def recover(seen: WhiteBoxView, iterations: int) -> Reconstruction:
    """Feature recovery's default search."""
    plugin = attacks.registry.get("feature_recovery")
    found: Reconstruction = plugin.target(
        seen, plugin.params.model_validate({"iterations": iterations}), LocalContext()
    )
    return found


def decide_reconstruction(
    images: Tensor, truth: Samples, public: Samples, baselines: Mapping[str, Tensor] | None = None
) -> tuple[Finding, Evaluation]:
    """What a report says of these reconstructions [D, 1, C, H, W]: scored beside baselines, ranked
    among 50 decoys.

    `baselines` like the images; none: the mean image of the class.
    """
    true, labels = truth.images.unsqueeze(1), truth.labels.unsqueeze(1)
    baselines = (
        {"class_mean": compute_class_means(public, labels)} if baselines is None else baselines
    )
    evaluation = Evaluation.model_validate(
        {
            "seed": 0,
            "deletions": len(labels),
            "size": 1,
            "metrics": score_images(images, true, baselines),
            "identification": identify_truths(
                images, true, labels, public, 50, make_generator(0, "decoys")
            ),
        }
    )
    return decide_row(evaluation, collect_scores(evaluation)), evaluation
