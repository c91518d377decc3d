"""What stages that read brought weights share: the architecture, and how a file is read."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator

from shared.ml.ingest.weights import ReadWeights, read_weights
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef, plugin_field, validate_model
from shared.plugins import Params
from workers.context import JobContext

Values = Annotated[list[float], Field(min_length=1, max_length=4096)]


class BroughtParams(Params):
    """The architecture of brought weights."""

    model: Annotated[PluginRef, plugin_field("model")] = Field(
        description="the architecture of the weights"
    )
    input_shape: tuple[int, int, int] = Field(
        description="C, H, W of the images that the model takes"
    )
    num_classes: int = Field(ge=2, le=1000, description="classes of the model")
    mean: Values | None = Field(
        None,
        description="per channel, what the model's own code subtracts from images in [0, 1]; null: "
        "nothing",
    )
    std: Values | None = Field(
        None, description="per channel, what it then divides by; null: nothing"
    )

    @model_validator(mode="after")
    def _require_both(self) -> BroughtParams:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or none of them")
        return self


def build_brought_architecture(params: BroughtParams) -> Architecture:
    """The architecture, checked by building it once without memory.

    Raises:
        InvalidRequest: it cannot be built.
    """
    channels = params.input_shape[0]
    architecture = validate_model(
        Architecture,
        {
            "model": params.model,
            "input_shape": params.input_shape,
            "num_classes": params.num_classes,
            "mean": params.mean or [0.0] * channels,
            "std": params.std or [1.0] * channels,
        },
        "the model",
        "params",
    )
    with torch.device("meta"):
        build_network(architecture)
    return architecture


def read_brought(ctx: JobContext, role: str, architecture: Architecture) -> ReadWeights:
    """The weights in that role.

    Raises:
        InvalidRequest: see `read_weights`.
    """
    return read_weights(ctx.read_input(role), role, architecture)


def list_numbered(ctx: JobContext, role: str) -> list[str]:
    """The job's inputs ROLE_1, ROLE_2 and so on, in the order of their numbers."""
    return sorted(
        (name for name in ctx.inputs if name.startswith(f"{role}_")),
        key=lambda name: int(name.rpartition("_")[2]),
    )
