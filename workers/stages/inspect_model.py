"""Checks a declared model: are the weights those of the architecture?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from shared.errors import InvalidRequest
from shared.inspection import ModelInspection
from shared.ml.metrics.accuracy import accuracy
from shared.plugin_ref import PluginRef, plugin_field
from shared.roles import Role
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._brought import BroughtParams, build_brought_architecture, read_brought
from workers.stages._datasets import open_compatible_dataset, random_subset


class InspectModelParams(BroughtParams):
    test: Annotated[PluginRef | None, plugin_field("dataset")] = Field(
        None, description="the data set on whose test split accuracy is measured; null: none"
    )
    test_samples: int = Field(
        10_000, ge=1, le=1_000_000, description="samples of it that are used at most"
    )


@registry.register(
    "inspect_model",
    params=InspectModelParams,
    needs=(Role.WEIGHTS,),
    produces=(Role.INSPECTION,),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Check the weights of a declared model, first without memory for them, and say what was read.

    Raises:
        InvalidRequest: the architecture cannot be built, the file is not its weights, or the test
            data do not fit.
    """
    params: InspectModelParams = ctx.params
    architecture = build_brought_architecture(params)
    dataset = params.test and open_compatible_dataset(
        params.test, architecture, "the model", "params.test"
    )
    weights = read_brought(ctx, Role.WEIGHTS, architecture)
    network = weights.networks.load_network()
    ctx.report_progress(1, 2)
    test_accuracy, test_samples = None, None
    if dataset:
        samples = random_subset(
            dataset.load("test"), params.test_samples, ctx.make_generator("test")
        )
        if not len(samples.labels):
            raise InvalidRequest(
                "the test split of the data is empty: bring samples", "params.test"
            )
        test_accuracy, test_samples = accuracy(network, samples, ctx.device), len(samples.labels)
    inspection = ModelInspection(
        parameters=_count_parameters(network),
        tensors=len(weights.networks.state),
        dtypes=weights.dtypes,
        resolution=weights.resolution,
        prefixes=list(weights.prefixes),
        tied=sum(len(group) for group in weights.tied),
        filled=len(weights.filled),
        test_accuracy=test_accuracy,
        test_samples=test_samples,
    )
    return {Role.INSPECTION: StageOutput.of_json(inspection.model_dump(mode="json"))}


def _count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
