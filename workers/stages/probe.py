"""Makes the probes that attacks with queries only ask about: once an original model, shared by all of them."""

from __future__ import annotations

import torch
from pydantic import Field

from shared.ml.attacks._oracle import API, Oracle
from shared.ml.attacks._probing import find_probes
from shared.ml.networks import read_networks
from shared.ml.tensors import write_tensors
from workers.context import JobContext, Output
from workers.stages import registry


class ProbeParams(API):
    per_class: int = Field(5, ge=1, le=1000, description="probes of each class")
    confidence: float = Field(0.5, gt=0, lt=1, description="confidence in its class at which a probe is good enough")
    max_queries: int = Field(50_000, ge=1, le=100_000_000, description="queries of the original model, at most")
    resolution: int = Field(7, ge=2, le=64, description="pixels, high and wide, of the coarse images that are sought")
    directions: int = Field(24, ge=1, le=4096, description="coordinates that one estimate of a slope asks about")


@registry.register(
    "probe",
    params=ProbeParams,
    needs=("ORIGINAL",),
    produces=("PROBES",),
    source="after the zeroth-order probes of Hu et al. 2024, arXiv 2404.03233, with fewer queries",
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Find images that the original model takes for each class, by queries alone."""
    params: ProbeParams = ctx.params
    original = read_networks(ctx.input("ORIGINAL"), "ORIGINAL")
    architecture = original.architecture
    oracle = Oracle(original.network(), ctx.device, params)
    probes, confidence = find_probes(
        oracle,
        torch.arange(architecture.num_classes).repeat_interleave(params.per_class),
        architecture.input_shape,
        resolution=params.resolution,
        directions=params.directions,
        confidence=params.confidence,
        max_queries=params.max_queries,
        ctx=ctx,
    )
    shape = (architecture.num_classes, params.per_class)
    tensors = {"images": probes.view(*shape, *architecture.input_shape), "confidence": confidence.view(shape)}
    return {"PROBES": Output(write_tensors(tensors, {"queries": oracle.queries, **params.model_dump(mode="json")}))}
