"""Takes in models that a user has trained without the deleted samples: what `retraining` makes in
the laboratory."""

from __future__ import annotations

import hashlib

from torch import nn

from shared.errors import InvalidRequest
from shared.forgetting import MAX_SEEDS
from shared.ml.ingest.pair import compare_weights
from shared.ml.networks import Networks, list_parameter_names, write_networks
from shared.ml.records import RetrainingRecord
from shared.ml.samples import compute_digest
from shared.ml.training.sgd import compute_logits
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._brought import build_brought_architecture, list_numbered, read_brought
from workers.stages._brought_deletions import BroughtDeletionParams, choose_forgotten
from workers.stages._datasets import open_compatible_dataset
from workers.stages.retraining import MAX_WEIGHT_BYTES

EQUAL = {"identical", "rounding_only"}  # findings


class IngestRetrainedParams(BroughtDeletionParams):
    pass


@registry.register(
    "ingest_retrained",
    params=IngestRetrainedParams,
    needs=(Role.ORIGINAL_WEIGHTS,),
    many=(Role.RETRAINED_WEIGHTS,),
    produces=(Role.RETRAINED, Role.RETRAINING),
    wiring=Wiring(
        scopes=(Scope.RELEASE,),
        models=ModelOrigin.BROUGHT,
        params="ingest",
        shared_params=("dataset", "model"),
        flag="check_forgetting",
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Check the weights of retrained models, and name the samples that they never saw.

    All releases share this job. Models come by deletion, then by seed; those of the first
    deletions are kept, as many as fit into 2 GiB.

    Raises:
        InvalidRequest: a file that is not the architecture's, models that are the original or each
            other, or another number of models for each deletion.
    """
    params: IngestRetrainedParams = ctx.params
    architecture = build_brought_architecture(params)
    if params.dataset is None or not params.with_deleted:
        raise InvalidRequest(
            "retrained models need the deleted samples: bring them", "params.dataset"
        )
    dataset = open_compatible_dataset(params.dataset, architecture, "the model")
    forgotten = choose_forgotten(params, dataset)
    roles = list_numbered(ctx, Role.RETRAINED_WEIGHTS)
    seeds, rest = divmod(len(roles), len(forgotten))
    if rest or not 1 <= seeds <= MAX_SEEDS:
        raise InvalidRequest(
            f"{len(roles)} retrained models are not 1 to {MAX_SEEDS} for each of {len(forgotten)} "
            "deletions",
            "inputs",
        )
    original = read_brought(ctx, Role.ORIGINAL_WEIGHTS, architecture)
    split = dataset.load("train")
    kept = _count_kept(original.networks, seeds, len(forgotten))
    names: dict[str, str] = {}  # of models by their weights
    models: list[nn.Module] = []
    for place, role in enumerate(roles[: kept * seeds]):
        weights = read_brought(ctx, role, architecture)
        deletion, seed = divmod(place, seeds)
        name = f"retrained model {seed + 1} of deletion {deletion + 1}"
        equal = names.setdefault(_digest(weights.networks), name)
        if {one.code for one in compare_weights(original, weights).findings} & EQUAL:
            equal = "the original"
        if equal != name:
            raise InvalidRequest(
                f"{name} equals {equal}: each must be a training of its own, without the deleted "
                "samples",
                f"inputs.{role}",
            )
        network = weights.networks.load_network()
        deleted = split.pick(forgotten[deletion])
        if not compute_logits(network, deleted.images, ctx.device).isfinite().all():
            raise InvalidRequest(
                f"{name}: its outputs on the deleted samples are not finite: check mean and std, "
                "and that the weights are those of a model that works",
                f"inputs.{role}",
            )
        models.append(network.cpu())
        ctx.report_progress(place + 1, kept * seeds)
    record = RetrainingRecord(
        dataset=params.dataset,
        digest=compute_digest(split),
        indices=forgotten[:kept].tolist(),
        labels=split.labels[forgotten[:kept]].tolist(),
        seeds=seeds,
        successive=False,
    )
    return {
        Role.RETRAINED: StageOutput(write_networks(architecture, models)),
        Role.RETRAINING: StageOutput.of_json(record.to_dict()),
    }


def _digest(networks: Networks) -> str:
    """Of the trained weights, in their order."""
    state = hashlib.sha256()
    for name in list_parameter_names(networks):
        state.update(networks.state[name].contiguous().numpy().tobytes())
    return state.hexdigest()


def _count_kept(original: Networks, seeds: int, deletions: int) -> int:
    """Of how many deletions the retrained models fit into one artifact.

    Raises:
        InvalidRequest: not even of one.
    """
    model_bytes = sum(t.numel() * t.element_size() for t in original.state.values())
    fitting = MAX_WEIGHT_BYTES // max(1, seeds * model_bytes)
    if not fitting:
        raise InvalidRequest(
            f"{seeds} retrained models of {model_bytes >> 20} MiB take more than "
            f"{MAX_WEIGHT_BYTES >> 20} MiB: bring fewer seeds, or turn check_forgetting off",
            "inputs",
        )
    return min(deletions, fitting)
