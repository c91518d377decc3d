"""Operations on data sets that several stages share."""

from __future__ import annotations

import torch

from shared.errors import InvalidRequest
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import Architecture, build_network
from shared.ml.samples import Dataset, Samples, open_dataset
from shared.plugin_ref import PluginRef
from workers.context import JobContext


def open_compatible_dataset(
    choice: PluginRef, architecture: Architecture, role: str, field: str = "params.dataset"
) -> Dataset:
    """Open the data set, if its samples fit the architecture.

    Args:
        role: what the architecture is, for messages.
        field: where the data set was chosen.

    Raises:
        InvalidRequest: other image shape or number of classes.
    """
    dataset = open_dataset(choice)
    if (dataset.input_shape, dataset.num_classes) != (
        architecture.input_shape,
        architecture.num_classes,
    ):
        raise InvalidRequest(
            f"{role} takes {list(architecture.input_shape)} images of {architecture.num_classes} "
            f"classes, but {choice.name} has {list(dataset.input_shape)} of {dataset.num_classes}",
            field,
        )
    return dataset


def measure_test_accuracy(network: torch.nn.Module, dataset: Dataset, ctx: JobContext) -> float:
    """Accuracy of the network on the test split."""
    return accuracy(network, dataset.load("test"), ctx.device)


def build_architecture(dataset: Dataset, model: PluginRef) -> Architecture:
    """The architecture of a network for that data set, checked by building it once without memory.

    Raises:
        InvalidRequest: the model does not fit the data.
    """
    architecture = Architecture(
        model=model,
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        mean=dataset.mean,
        std=dataset.std,
    )
    with torch.device("meta"):
        build_network(architecture)
    return architecture


def random_subset(samples: Samples, n: int, generator: torch.Generator) -> Samples:
    """At most `n` random samples."""
    order = torch.randperm(len(samples.labels), generator=generator)[:n]
    return samples.pick(order)
