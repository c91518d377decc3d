"""How far does each unlearning method go towards retraining, with its default settings?

    OMP_NUM_THREADS=1 python -m benchmarks.unlearning --models mlp

Each network is trained from scratch on N samples. Per deletion: the loss on the forget set of the
original, of the release and of models retrained without it (three seeds), in nats. The way to
retraining is the share of the distance that the release has gone: (mean release - mean original) /
(mean retrained - mean original), means over the deletions. It is not measurable where retraining
moves the mean loss by less than its own spread over the seeds. Also the test accuracy, beside that
of retraining. The settings of the methods were chosen on mnist_5k with the seeds 100 and up; the
figures in docs/measurements.md are of other seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import JobFailed
from shared.ml.context import LocalContext, make_generator
from shared.ml.loss import compute_loss
from shared.ml.networks import (
    Architecture,
    build_network,
    clone,
    read_networks,
    write_networks,
)
from shared.ml.reproducibility import collect_conditions
from shared.ml.samples import Samples, open_dataset
from shared.ml.training.deltas import BatchDeltas
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import compute_logits, train
from shared.ml.unlearning import registry
from shared.ml.unlearning.api import UnlearningInputs, draw_held_out
from shared.plugin_ref import PluginRef
from shared.roles import Role

TEST = 2000  # at most so many samples of the test split
NEARLY = 2.0  # standard errors of the retrained mean that its distance must exceed
RECIPE = Recipe(
    epochs=10, lr=0.01, batch_size=32, momentum=0.9, weight_decay=5e-4, schedule="one_cycle"
)
MODELS: dict[str, tuple[PluginRef, Recipe]] = {
    "mlp": (PluginRef(name="mlp"), RECIPE),
    "convnet": (
        PluginRef(name="convnet", params={"width": 8}),
        RECIPE.model_copy(update={"lr": 0.05, "batch_norm": "trained"}),
    ),
}
# sisa unlearns an ensemble, whose original and retraining are others
METHODS = [plugin.name for plugin in registry if Role.SHARDS not in plugin.needs]


@dataclass(frozen=True)
class World:
    """A trained original, what it was trained by and on, and samples that it never saw."""

    architecture: Architecture
    base: nn.Module
    original: nn.Module
    recipe: Recipe
    deltas: BatchDeltas
    training: Samples
    rest: Samples
    test: Samples
    seed: int


@dataclass(frozen=True)
class Deletion:
    """One forget set, its positions in the training set, and the models that never saw it."""

    retain: Samples
    forget: Samples
    positions: Tensor
    retrained: list[nn.Module]


@dataclass(frozen=True)
class Row:
    """What is printed of a method, pooled over the deletions."""

    dataset: str
    model: str
    forget: str
    method: str
    original: float
    release: float
    retrained: float
    way: float | None
    test: float
    test_retrained: float
    failed: int
    steps: float
    seconds: float


def build_world(dataset: str, model: str, n: int, seed: int) -> World:
    """Draw n samples of the train split and train on them from a new initialisation."""
    opened = open_dataset(PluginRef(name=dataset))
    choice, recipe = MODELS[model]
    split, test = opened.load("train"), opened.load("test")
    order = torch.randperm(len(split.labels), generator=make_generator(seed, "benchmark"))
    training, rest = split.pick(order[:n]), split.pick(order[n : 2 * n])
    architecture = Architecture(
        model=choice,
        input_shape=opened.input_shape,
        num_classes=opened.num_classes,
        mean=opened.mean,
        std=opened.std,
    )
    base = build_network(architecture, make_generator(seed, "weights"))
    original, deltas = clone(base), BatchDeltas()
    train(original, training, recipe, LocalContext(seed), deltas.record_step)
    picked = torch.randperm(len(test.labels), generator=make_generator(0, "test"))[:TEST]
    return World(
        architecture, base, original, recipe, deltas, training, rest, test.pick(picked), seed
    )


def draw_deletions(
    world: World, size: str, deletions: int, retrainings: int, folder: Path | None = None
) -> Iterator[Deletion]:
    """Disjoint forget sets: of `size` samples in order of the training set, or of a class each.

    Args:
        folder: where retrained models are kept; what lies there is not trained again.
    """
    labels = world.training.labels
    for index in range(deletions):
        positions = (
            (labels == index).nonzero().flatten()
            if size == "class"
            else torch.arange(index * int(size), (index + 1) * int(size))
        )
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[positions] = False
        retain = world.training.pick(kept.nonzero().flatten())
        file = folder / f"{index}-{retrainings}.safetensors" if folder else None
        if file and file.exists():
            read = read_networks(file.read_bytes(), "RETRAINED", world.architecture)
            retrained = [read.load_network(again) for again in range(retrainings)]
        else:
            retrained = [_retrain(world, retain, again) for again in range(retrainings)]
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(write_networks(world.architecture, retrained))
        yield Deletion(retain, world.training.pick(positions), positions, retrained)


def _retrain(world: World, retain: Samples, again: int) -> nn.Module:
    network = clone(world.base)
    train(network, retain, world.recipe, LocalContext(1000 + again))
    return network


def unlearn(
    world: World, deletion: Deletion, method: str, params: dict[str, Any]
) -> tuple[nn.Module, int]:
    """The release of one deletion, and the number of steps if the method says it, else 0."""
    plugin = registry.get(method)
    inputs = UnlearningInputs(
        original=clone(world.original),
        base=clone(world.base),
        recipe=world.recipe,
        changes_to_undo=world.deltas.sum_changes({*deletion.positions.tolist()})
        if Role.BATCH_DELTAS in plugin.needs
        else None,
        held_out=draw_held_out(
            world.rest, world.test, deletion.forget.labels, make_generator(world.seed, "held out")
        ),
    )
    network: nn.Module = plugin.target(
        inputs,
        deletion.retain,
        deletion.forget,
        plugin.params(**params),
        LocalContext(world.seed),
    )
    return network, inputs.stops[-1].steps if inputs.stops else 0


def measure_loss(network: nn.Module, samples: Samples) -> float:
    """Mean cross-entropy, in nats."""
    logits = compute_logits(network, samples.images, torch.device("cpu"))
    return compute_loss(logits, samples.labels).item()


def measure_accuracy(network: nn.Module, samples: Samples) -> float:
    """Share of the samples that are classified correctly."""
    logits = compute_logits(network, samples.images, torch.device("cpu"))
    return (logits.argmax(1) == samples.labels).float().mean().item()


def compute_way(
    original: list[float], release: list[float], retrained: list[list[float]]
) -> float | None:
    """The way to retraining; None where retraining moves the mean loss by less than its spread.

    Args:
        original, release: by deletion.
        retrained: by deletion, then seed.
    """
    start = fmean(original)
    by_seed = [fmean(each) for each in zip(*retrained, strict=True)]
    distance = fmean(by_seed) - start
    if abs(distance) <= NEARLY * stdev(by_seed) / math.sqrt(len(by_seed)):
        return None
    return (fmean(release) - start) / distance


def run_setting(
    dataset: str, model: str, size: str, options: argparse.Namespace, seed: int
) -> Iterator[Row]:
    """Every method on the same deletions of one original."""
    world = build_world(dataset, model, options.n, seed)
    folder = options.retrained and options.retrained.joinpath(
        f"{dataset}-{model}-{options.n}-{seed}-{size}"
    )
    drawn = list(draw_deletions(world, size, options.deletions, options.retrainings, folder))
    original = [measure_loss(world.original, d.forget) for d in drawn]
    retrained = [[measure_loss(n, d.forget) for n in d.retrained] for d in drawn]
    test_retrained = fmean(measure_accuracy(n, world.test) for d in drawn for n in d.retrained)
    for method in options.methods:
        began, release, test, steps, failed = time.perf_counter(), [], [], [], 0
        for deletion in drawn:
            try:
                network, taken = unlearn(world, deletion, method, options.params.get(method, {}))
            except JobFailed:
                failed += 1
                network, taken = world.original, 0
            release.append(measure_loss(network, deletion.forget))
            test.append(measure_accuracy(network, world.test))
            steps.append(taken)
        yield Row(
            dataset=dataset,
            model=model,
            forget=size if size == "class" else f"k = {size}",
            method=method,
            original=fmean(original),
            release=fmean(release),
            retrained=fmean(fmean(each) for each in retrained),
            way=compute_way(original, release, retrained),
            test=fmean(test),
            test_retrained=test_retrained,
            failed=failed,
            steps=fmean(steps),
            seconds=(time.perf_counter() - began) / len(drawn),
        )


def format_row(row: Row) -> str:
    way = "not measurable" if row.way is None else f"{row.way:.2f}"
    return (
        f"| {row.dataset} | {row.model} | {row.forget} | {row.method} | {row.original:.3f} "
        f"| {row.release:.3f} | {row.retrained:.3f} | {way} | {row.test:.3f} "
        f"| {row.test_retrained:.3f} | {row.failed} | {row.steps:.0f} | {row.seconds:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", default=["mnist_5k", "fashion_mnist"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--sizes", nargs="+", default=["1", "20", "class"], help="k, or class")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--params", type=json.loads, default={}, help="JSON, by method")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--deletions", type=int, default=8)
    parser.add_argument("--retrainings", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--retrained", type=Path, help="folder that keeps retrained models, for runs of one version"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| data | model | forget | method | original | release | retrained | way | test "
        "| test of retraining | failed | steps | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for dataset in options.datasets:
        for model in options.models:
            for size in options.sizes:
                for row in run_setting(dataset, model, size, options, options.seed):
                    rows.append(asdict(row))
                    print(format_row(row), flush=True)
    if options.out:
        body = {"conditions": collect_conditions(torch.device("cpu")), "rows": rows}
        options.out.write_text(json.dumps(body, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
