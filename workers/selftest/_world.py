"""Fixtures of the cases: images of four classes, small models and deletions, all made quickly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared.evaluation import Evaluation
from shared.ml import attacks, unlearning
from shared.ml.attack_io import Reconstruction, WhiteBoxView
from shared.ml.baselines import compute_class_means
from shared.ml.context import LocalContext, SeededSubContext, make_generator
from shared.ml.decoys import DecoySource
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
ASCENT = {"steps": 1, "lr": 1e-3}  # the paper's single step


def make_architecture(model: str, **params: int) -> Architecture:
    """The architecture of a small network."""
    choice = PluginRef(name=model, params=params)
    return Architecture(
        model=choice, input_shape=(1, SIDE, SIDE), num_classes=CLASSES, mean=(0.5,), std=(0.25,)
    )


def draw_samples(purpose: str, n: int) -> Samples:
    """Images with one pattern per class and noise of their own. Classes alternate."""
    labels = torch.arange(n) % CLASSES
    patterns = torch.rand(CLASSES, 1, SIDE, SIDE, generator=make_generator(0, "patterns"))
    noise = torch.rand(n, 1, SIDE, SIDE, generator=make_generator(0, purpose))
    return Samples(0.5 * patterns[labels] + 0.5 * noise, labels)


def pretrain(architecture: Architecture, epochs: int = 2) -> nn.Module:
    """Pretrain the base model."""
    network = build_network(architecture, make_generator(0, "weights"))
    train(
        network,
        draw_samples("pretraining", 128),
        Recipe(lr=0.1, epochs=epochs, batch_size=32),
        LocalContext(),
    )
    return network


def stack(architecture: Architecture, networks: list[nn.Module]) -> Networks:
    """Stack several networks, as artifacts do."""
    states = [network.state_dict() for network in networks]
    return Networks(
        architecture,
        {name: torch.stack([s[name] for s in states]) for name in states[0]},
        len(networks),
    )


def observe(
    architecture: Architecture,
    base: nn.Module,
    data: Samples,
    method: str,
    deletions: int,
    k: int = 1,
) -> WhiteBoxView:
    """What a server sees of the first `deletions` forget sets of k, unlearned one by one, in the
    data's dtype."""
    plugin, n, ctx = unlearning.registry.get(method), len(data.labels), LocalContext()
    params = plugin.params.model_validate(ASCENT if method == "gradient_ascent" else {})
    original = clone(base)
    train(original, data, RECIPE, ctx)
    after = []
    for i in range(deletions):
        forgotten = list(range(i * k, (i + 1) * k))
        kept = [place for place in range(n) if place not in forgotten]
        inputs = UnlearningInputs(clone(original), clone(base), RECIPE)
        part = SeededSubContext(ctx, i, deletions)
        after.append(plugin.target(inputs, data.pick(kept), data.pick(forgotten), params, part))
    labels = data.labels[: deletions * k].view(deletions, k)
    before, base_ = stack(architecture, [original]), stack(architecture, [base])
    return WhiteBoxView(before, stack(architecture, after), base_, DeletionSizes(N=n, k=k), labels)


def recover(view: WhiteBoxView, iterations: int) -> Reconstruction:
    """Feature recovery's default search."""
    plugin = attacks.registry.get("feature_recovery")
    reconstruction: Reconstruction = plugin.target(
        view, plugin.params.model_validate({"iterations": iterations}), LocalContext()
    )
    return reconstruction


def decide_reconstruction(
    images: Tensor, truth: Samples, public: Samples, baselines: Mapping[str, Tensor] | None = None
) -> tuple[Finding, Evaluation]:
    """The finding of these reconstructions [D, 1, C, H, W]: scored against baselines, ranked among
    50 decoys.

    `baselines` are like the images; by default the mean image of the class.
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
                images,
                true,
                labels,
                DecoySource(public, public.pick([])),
                50,
                make_generator(0, "decoys"),
            ),
        }
    )
    return decide_row(evaluation, collect_scores(evaluation)), evaluation
