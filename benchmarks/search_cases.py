"""Networks and targets of `benchmarks.search`: trained here, on samples that no target is among.

Settings of the search are chosen on `tuning` targets; figures are those of `test` targets. CIFAR-10
images from 40,000 up are never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import make_generator
from shared.ml.networks import (
    Architecture,
    Networks,
    build_network,
    read_networks,
    stack_networks,
    write_network,
)
from shared.ml.samples import Samples, open_dataset
from shared.plugin_ref import PluginRef

Part = Literal["tuning", "test"]
MAX_TRAIN_SAMPLES = 40_000
UNLEARNING_LR = 1e-3  # of the ascent step that is attacked
MAX_ROUNDING = 0.2  # of that step, relative to its length
BATCH_SIZE = 128


@dataclass(frozen=True)
class SearchCase:
    """A data set, a model and how it is trained; ranges are positions in the train split."""

    dataset: str
    model: PluginRef
    trained_on: range
    tuning: range
    test: range
    epochs: int
    augmented: bool = False  # batches are flipped and moved by up to two pixels
    shuffled: bool = False  # positions are those of a seeded permutation: the split is sorted

    def get_targets(self, part: Part) -> range:
        return self.tuning if part == "tuning" else self.test


CONVNET = PluginRef(name="convnet", params={})
# Tuning targets are kept out of training, as test targets are: so both are alike.
CASES = {
    "cifar10": SearchCase(
        "cifar10", CONVNET, range(28_000), range(28_000, 30_000), range(30_000, 40_000), 14, True
    ),
    "fashion_mnist": SearchCase(
        "fashion_mnist", CONVNET, range(28_000), range(28_000, 30_000), range(30_000, 40_000), 4
    ),
    "mnist_5k": SearchCase(
        "mnist_5k", CONVNET, range(3000), range(3000, 3500), range(3500, 4000), 8, shuffled=True
    ),
    "breast_cancer": SearchCase(
        "breast_cancer",
        PluginRef(name="mlp", params={}),
        range(256),
        range(256, 356),
        range(356, 456),
        30,
        shuffled=True,
    ),
}


@dataclass(frozen=True)
class Targets:
    """What is attacked: the view of the attacker, the truth, and public samples."""

    view: WhiteBoxView
    truth: Samples
    public: Samples
    accuracy: float


def load_targets(name: str, part: Part, count: int, folder: Path, seed: int = 0) -> Targets:
    """The first `count` of a seeded permutation of the case's range that leave a trace, each
    unlearned by one ascent step."""
    case = CASES[name]
    dataset = open_dataset(PluginRef(name=case.dataset))
    split, public = dataset.load("train"), dataset.load("test")
    split = Samples(split.images[:MAX_TRAIN_SAMPLES], split.labels[:MAX_TRAIN_SAMPLES])
    if case.shuffled:
        split = split.pick(
            torch.randperm(len(split.labels), generator=make_generator(0, "order of the split"))
        )
    architecture = Architecture(
        model=case.model,
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        mean=dataset.mean,
        std=dataset.std,
    )
    network = _load_or_train(architecture, case, split, folder / f"{name}.{seed}.safetensors", seed)
    positions = torch.tensor(list(case.get_targets(part)))
    order = torch.randperm(len(positions), generator=make_generator(seed, f"{part} targets"))
    positions, unlearned = _find_visible(architecture, network, split, positions[order], count)
    truth = split.pick(positions)
    view = WhiteBoxView(
        original=stack_networks(architecture, [network]),
        unlearned=unlearned,
        labels=truth.labels.unsqueeze(1),
    )
    return Targets(view, truth, public, measure_accuracy(network, public))


def _find_visible(
    architecture: Architecture, network: nn.Module, samples: Samples, order: Tensor, count: int
) -> tuple[Tensor, Networks]:
    """The first `count` positions of `order` whose unlearning is seen in the weights, and the
    unlearned networks.

    Of a sample of which the network is nearly certain, the step is lost as float32 rounds the
    weights: there is nothing to search for.
    """
    positions, unlearned = [], []
    for position in order.tolist():
        after, rounding = _unlearn(architecture, network, samples.pick([position]))
        if rounding <= MAX_ROUNDING:
            positions.append(position)
            unlearned.append(after)
        if len(positions) == count:
            break
    return torch.tensor(positions), stack_networks(architecture, unlearned)


def _unlearn(
    architecture: Architecture, network: nn.Module, sample: Samples
) -> tuple[nn.Module, float]:
    """The network, moved up the sample's loss: the paper's approximate unlearning. And the
    rounding error of the move, relative to its length."""
    loss = cross_entropy(network(sample.images), sample.labels)
    steps = [UNLEARNING_LR * g for g in torch.autograd.grad(loss, list(network.parameters()))]
    after = build_network(architecture)
    after.load_state_dict(network.state_dict())
    errors = []
    with torch.no_grad():
        for moved, weight, step in zip(
            after.parameters(), network.parameters(), steps, strict=True
        ):
            moved.add_(step)
            errors.append((moved.double() - weight.double() - step.double()).flatten())
    length = torch.cat([step.double().flatten() for step in steps]).norm().clamp_min(1e-300)
    return after, float(torch.cat(errors).norm() / length)


def _load_or_train(
    architecture: Architecture, case: SearchCase, split: Samples, path: Path, seed: int
) -> nn.Module:
    if path.exists():
        return read_networks(path.read_bytes(), "BASE", like=architecture).load_network()
    network = build_network(architecture, make_generator(seed, "weights"))
    _train(network, split.pick(list(case.trained_on)), case, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_network(architecture, network))
    return network


def _train(network: nn.Module, samples: Samples, case: SearchCase, seed: int) -> None:
    """SGD with momentum, one cycle of the learning rate, BatchNorm trained. In bfloat16, which
    halves the time and is as accurate."""
    generator, n = make_generator(seed, "training"), len(samples.labels)
    total = case.epochs * (n // BATCH_SIZE)
    weights = list(network.parameters())
    optimiser = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total)
    network.train().to(memory_format=torch.channels_last)
    for step in range(total):
        batch_index = step % (n // BATCH_SIZE)
        if batch_index == 0:
            order = torch.randperm(n, generator=generator)
        batch = samples.pick(order[batch_index * BATCH_SIZE :][:BATCH_SIZE])
        images = _augment(batch.images, generator) if case.augmented else batch.images
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(network(images), batch.labels)
        gradients = torch.autograd.grad(loss, weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimiser.step()
        schedule.step()
    network.eval().to(memory_format=torch.contiguous_format)


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image flipped or not, the batch moved by up to two pixels."""
    flipped = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flipped, images.flip(3), images)
    down, across = torch.randint(5, (2,), generator=generator).tolist()
    height, width = images.shape[2:]
    return pad(images, (2, 2, 2, 2))[..., down : down + height, across : across + width]


@torch.no_grad()
def measure_accuracy(network: nn.Module, samples: Samples) -> float:
    """Accuracy: the share of samples that are classified correctly."""
    predictions = [network(images).argmax(1) for images in torch.split(samples.images, 500)]
    return (torch.cat(predictions) == samples.labels).double().mean().item()
