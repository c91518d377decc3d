"""Makes probes for query-only attacks, once per original model."""

from __future__ import annotations

from dataclasses import asdict
from math import prod
from typing import Literal

import structlog
import torch
from pydantic import Field

from shared.ml.attacks.api import find_probes, find_published_probes
from shared.ml.networks import read_networks
from shared.ml.oracles import Oracle, OracleParams
from shared.ml.tensors import write_tensors
from shared.probes import build_search
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry

log = structlog.get_logger()


class ProbeParams(OracleParams):
    preset: Literal["coarse", "paper"] = Field(
        "coarse",
        description=(
            "the search: coarse is ours, on coarse images; paper is the published one, with "
            "millions of queries"
        ),
    )
    per_class: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="m, probes of each class; null: set by the preset (5; paper 10)",
    )
    confidence: float | None = Field(
        None, gt=0, lt=1,
        description=(
            "confidence in its class at which a probe is finished; null: set by the preset (0.5; "
            "paper 0.9995)"
        ),
    )  # fmt: skip
    max_queries: int | None = Field(
        None, ge=1, le=10_000_000_000,
        description=(
            "maximum number of queries of the original model; null: set by the preset (50,000; "
            "paper 100,000,000)"
        ),
    )  # fmt: skip
    directions: int | None = Field(
        None, ge=1, le=4096,
        description=(
            "coordinates per estimate of a slope, two queries each; null: set by the preset (24; "
            "paper 1024)"
        ),
    )  # fmt: skip
    resolution: int | None = Field(
        None, ge=2, le=64,
        description="height and width in pixels of the coarse images; null: 7 (preset coarse only)",
    )  # fmt: skip
    candidates: int | None = Field(
        None,
        ge=1,
        le=1000,
        description=(
            "candidate probes per class, of which per_class are kept; null: 20 (paper only)"
        ),
    )
    tries: int | None = Field(
        None, ge=1, le=1000, description="tries for each candidate; null: 10 (paper only)"
    )
    rounds: int | None = Field(
        None, ge=1, le=10_000, description="steps of each try; null: 20 (paper only)"
    )


@registry.register(
    "probe",
    params=ProbeParams,
    needs=(Role.ORIGINAL,),
    produces=(Role.PROBES,),
    source="Hu et al. 2024, arXiv 2404.03233 (preset paper); after it, with fewer queries (coarse)",
    wiring=Wiring(
        models=ModelOrigin.TRAINED,
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.ATTACK,
        params="probe",
        on_demand=True,
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Find images that the original model assigns to each class, using queries only.

    Raises:
        InvalidRequest: a parameter that the preset does not have, or the published search could
            exceed `max_queries`.
    """
    params: ProbeParams = ctx.params
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
    architecture = original.architecture
    classes, input_shape = architecture.num_classes, architecture.input_shape
    search = build_search(params.model_dump())
    max_queries = search.check_query_budget(classes, prod(input_shape))
    log.info("probing begins", preset=params.preset, at_most=max_queries)
    oracle = Oracle(original.load_network(), ctx.device, params)
    if search.resolution is None:
        probes, confidence = find_published_probes(oracle, classes, input_shape, search, ctx)
    else:
        probes, confidence = find_probes(
            oracle,
            torch.arange(classes).repeat_interleave(search.per_class),
            input_shape,
            resolution=search.resolution,
            directions=search.directions,
            confidence=search.confidence,
            max_queries=search.max_queries,
            ctx=ctx,
        )
    log.info("probing ended", queries=oracle.query_count, at_most=max_queries)
    shape = (classes, search.per_class)
    tensors = {"images": probes.view(*shape, *input_shape), "confidence": confidence.view(shape)}
    about = {
        **params.model_dump(mode="json"),
        **asdict(search),
        "queries": oracle.query_count,
        "at_most": max_queries,
    }
    return {Role.PROBES: StageOutput(write_tensors(tensors, about))}
