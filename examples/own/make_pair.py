"""Train a network, let it forget, and save what an audit needs. Plain PyTorch: nothing of Palimpsest
but the function that builds the network.

    python examples/own/make_pair.py FOLDER [--model own_cnn | resnet18]

Writes before.safetensors, after-1.safetensors to after-4.safetensors (one per deletion),
deleted.npz and public.npz.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from own_cnn import build
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from shared.plugins import Params

DIGITS = Path(__file__).resolve().parents[2] / "shared/ml/datasets/files/mnist_5k.npz"
TRAINED, DELETIONS, PUBLIC = 1000, 4, 2000


def load_digits(model: str) -> tuple[Tensor, Tensor]:
    """Digits in random order; for resnet18 as 32 x 32 pixels with three equal channels."""
    with np.load(DIGITS) as arrays:
        images = torch.from_numpy(arrays["images"]).float().div(255).unsqueeze(1)
        labels = torch.from_numpy(arrays["labels"]).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    if model == "resnet18":
        images = functional.pad(images, (2, 2, 2, 2)).expand(-1, 3, -1, -1)
    return images, labels


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(32):
            optimiser.zero_grad()
            functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
    network.eval()


def unlearn(network: nn.Module, images: Tensor, labels: Tensor, lr: float = 0.05) -> nn.Module:
    """A copy that has taken one step of gradient ascent on the deleted samples."""
    forgetful = copy.deepcopy(network)
    loss = functional.cross_entropy(forgetful(images), labels)
    for weight, gradient in zip(
        forgetful.parameters(), torch.autograd.grad(loss, [*forgetful.parameters()]), strict=True
    ):
        weight.data += lr * gradient
    return forgetful


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=["own_cnn", "resnet18"], default="own_cnn")
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = load_digits(options.model)
    network = (
        resnet18(num_classes=10)
        if options.model == "resnet18"
        else build((1, 28, 28), 10, Params())
    )
    train(network, images[:TRAINED], labels[:TRAINED], epochs=5)
    options.folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), options.folder / "before.safetensors")
    for n in range(DELETIONS):
        forgetful = unlearn(network, images[n : n + 1], labels[n : n + 1])
        save_file(forgetful.state_dict(), options.folder / f"after-{n + 1}.safetensors")
    for name, part in (("deleted", slice(DELETIONS)), ("public", slice(-PUBLIC, None))):
        np.savez(
            options.folder / f"{name}.npz", images=images[part].numpy(), labels=labels[part].numpy()
        )
    accuracy = (network(images[-PUBLIC:]).argmax(1) == labels[-PUBLIC:]).float().mean()
    print(f"test accuracy {accuracy:.3f}; the files are in {options.folder}")


if __name__ == "__main__":
    main()
