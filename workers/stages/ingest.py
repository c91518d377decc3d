"""Takes in models that a user has brought: checks the files, compares them, and names the truth if it
was brought too."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from shared.comparison import MAX_FINDINGS, Comparison, PairWarning
from shared.errors import InvalidRequest
from shared.ml.ingest.pair import (
    PairFinding,
    WeightComparison,
    check_behaviour,
    check_unrelated,
    compare_weights,
    is_unrelated,
)
from shared.ml.ingest.weights import ReadWeights
from shared.ml.loss import compute_loss
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import Architecture, write_network, write_networks
from shared.ml.records import (
    DefenseRecord,
    DeletionSizes,
    ForgetSets,
    LabelsRecord,
    TestSet,
    TrainingSet,
    UnlearningRecord,
)
from shared.ml.samples import Dataset, Samples, compute_digest
from shared.plugin_ref import PluginRef, plugin_field
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._brought import build_brought_architecture, list_numbered, read_brought
from workers.stages._brought_deletions import (
    BroughtDeletionParams,
    choose_forgotten,
    choose_training,
)
from workers.stages._brought_differences import describe_difference
from workers.stages._datasets import open_compatible_dataset, random_subset


class IngestParams(BroughtDeletionParams):
    release: str = Field("released", max_length=40, description="name of the release")
    with_base: bool = Field(
        False, description="whether the weights that training started from are brought too"
    )
    with_recipe: bool = Field(False, description="whether the recipe of training is given")
    with_public: bool = Field(
        True, description="whether public samples are in the data set's test split"
    )
    exact: bool = Field(
        False, description="whether the release was trained again without the deleted samples"
    )
    stated_method: Annotated[PluginRef | None, plugin_field("unlearning")] = Field(
        None,
        description="the unlearning method that the release was made by, for shadow deletions; "
        "null: not stated",
    )


@registry.register(
    "ingest",
    params=IngestParams,
    needs=(Role.ORIGINAL_WEIGHTS,),
    uses=(Role.BASE_WEIGHTS,),
    many=(Role.RELEASED_WEIGHTS,),
    produces=(
        Role.ORIGINAL, Role.UNLEARNED, Role.DELETION_SIZES, Role.UNLEARNING, Role.DEFENSE,
        Role.COMPARISON, Role.METRICS,
    ),
    produces_when={
        "with_base": {True: (Role.BASE,)},
        "with_deleted": {True: (Role.FORGET_SETS, Role.TRAINING_SET, Role.LABELS)},
        "with_public": {True: (Role.TEST_SET,)},
        "with_recipe": {True: (Role.RECIPE,)},
    },
    wiring=Wiring(
        scopes=(Scope.RELEASE,),
        models=ModelOrigin.BROUGHT,
        params="ingest",
        shared_params=("dataset", "model"),
        release=True,
        reported=True,
    ),
)  # fmt: skip
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Check the weights from before and after, compare them, and name the samples that were brought.

    Raises:
        InvalidRequest: a file that is not the architecture's, models that are no pair, or deleted
            samples that do not exist.
    """
    params: IngestParams = ctx.params
    architecture = build_brought_architecture(params)
    dataset = _open_samples(params, architecture)
    before = read_brought(ctx, Role.ORIGINAL_WEIGHTS, architecture)
    roles = list_numbered(ctx, Role.RELEASED_WEIGHTS)
    if not roles:
        raise InvalidRequest("bring at least one model from after a deletion", "inputs")
    after = []
    for done, role in enumerate(roles, start=1):
        after.append(read_brought(ctx, role, architecture))
        ctx.report_progress(done, 2 * len(roles))
    forgotten = None
    if dataset is not None and params.with_deleted:
        forgotten = choose_forgotten(params, dataset, len(roles))
    base = read_brought(ctx, Role.BASE_WEIGHTS, architecture) if params.with_base else None
    comparisons = []
    for done, one in enumerate(after, start=1):
        comparisons.append(_compare(before, one, base, roles[done - 1]))
        ctx.report_progress(len(roles) + done, 2 * len(roles))
    comparison = _describe_pair(ctx, before, after, comparisons, dataset, forgotten)
    return {
        **_write_models(architecture, before, after, base),
        **_write_samples(params, dataset, forgotten, len(roles)),
        **_write_recipe(params),
        Role.UNLEARNING: StageOutput.of_json(
            UnlearningRecord(
                method=params.release,
                params={},
                stated_method=params.stated_method,
                exact=params.exact,
                weight_change=[_measure_change(before, one) for one in after],
            ).to_dict()
        ),
        Role.DEFENSE: StageOutput.of_json(DefenseRecord(method="none", params={}).to_dict()),
        Role.COMPARISON: StageOutput.of_json(comparison.model_dump(mode="json")),
        Role.METRICS: StageOutput.of_json(_summarise(comparison)),
    }


def _open_samples(params: IngestParams, architecture: Architecture) -> Dataset | None:
    """The data set that was brought; None if there is none.

    Raises:
        InvalidRequest: samples are asked for that are not there, or that do not fit the model.
    """
    if params.dataset is not None:
        return open_compatible_dataset(params.dataset, architecture, "the model")
    if params.with_deleted or params.with_public or params.rows is not None:
        raise InvalidRequest(
            "without a data set there are no deleted samples, public samples or rows: name one, or "
            "turn with_deleted and with_public off",
            "params.dataset",
        )
    return None


def _compare(
    before: ReadWeights, after: ReadWeights, base: ReadWeights | None, role: str
) -> WeightComparison:
    comparison = compare_weights(before, after, base)
    _refuse(comparison.findings, f"inputs.{role}")
    return comparison


def _refuse(findings: Sequence[PairFinding], field: str) -> None:
    refused = next((one for one in findings if one.severity == "refused"), None)
    if refused is not None:
        raise InvalidRequest(refused.message, field)


def _describe_exact(finding: PairFinding) -> PairFinding:
    """A model that was trained again may come from other initial weights: nothing is wrong with it."""
    if finding.code != "unrelated":
        return finding
    return PairFinding(
        severity="note",
        code="trained_anew",
        message="the retrained models come from other initial weights than the original: attacks "
        "on them measure the difference of two trainings, in which a deleted sample hardly shows",
    )


def _write_models(
    architecture: Architecture,
    before: ReadWeights,
    after: Sequence[ReadWeights],
    base: ReadWeights | None,
) -> dict[str, StageOutput]:
    released = [one.networks.load_network() for one in after]
    models: dict[str, StageOutput] = {
        Role.ORIGINAL: StageOutput(write_network(architecture, before.networks.load_network())),
        Role.UNLEARNED: StageOutput(write_networks(architecture, released)),
    }
    if base is not None:
        models[Role.BASE] = StageOutput(write_network(architecture, base.networks.load_network()))
    return models


def _write_samples(
    params: IngestParams, dataset: Dataset | None, forgotten: Tensor | None, deletions: int
) -> dict[str, StageOutput]:
    """The truth, as far as it was brought, and which samples are public. `forgotten` [D, k]."""
    written: dict[str, StageOutput] = {}
    sizes = DeletionSizes(N=params.training_set or deletions * params.size, k=params.size)
    if dataset is not None and params.dataset is not None and forgotten is not None:
        split = dataset.load("train")
        labels, digest = split.labels[forgotten].tolist(), compute_digest(split)
        classes = {len({*row}) for row in labels}
        trained = choose_training(params, dataset, forgotten)
        if params.training_set is not None and params.training_set < len(trained):
            raise InvalidRequest(
                f"training_set is {params.training_set}, but {len(trained)} samples were brought "
                "that the original was trained on: correct one of them",
                "params.training_set",
            )
        sizes = DeletionSizes(
            N=params.training_set or len(trained),
            k=forgotten.shape[1],
            classes=1 if classes == {1} else None,
        )
        forget_sets = ForgetSets(
            dataset=params.dataset, digest=digest, indices=forgotten.tolist(), labels=labels
        )
        training_set = TrainingSet(
            dataset=params.dataset, digest=digest, indices=trained, non_members_from="test"
        )
        written |= {
            Role.FORGET_SETS: StageOutput.of_json(forget_sets.to_dict()),
            Role.TRAINING_SET: StageOutput.of_json(training_set.to_dict()),
            Role.LABELS: StageOutput.of_json(LabelsRecord(labels=labels).to_dict()),
        }
    if dataset is not None and params.dataset is not None and params.with_public:
        test_set = TestSet(dataset=params.dataset, digest=compute_digest(dataset.load("test")))
        written[Role.TEST_SET] = StageOutput.of_json(test_set.to_dict())
    return written | {Role.DELETION_SIZES: StageOutput.of_json(sizes.to_dict())}


def _write_recipe(params: IngestParams) -> dict[str, StageOutput]:
    if params.recipe is None:
        return {}
    return {Role.RECIPE: StageOutput.of_json(params.recipe.model_dump(mode="json"))}


def _describe_pair(
    ctx: JobContext,
    before: ReadWeights,
    after: Sequence[ReadWeights],
    comparisons: Sequence[WeightComparison],
    dataset: Dataset | None,
    forgotten: Tensor | None,
) -> Comparison:
    params: IngestParams = ctx.params
    original = before.networks.load_network()
    test_accuracy, majority_share, public = None, 0.0, None
    if dataset is not None and params.with_public:
        public = random_subset(
            dataset.load("test"), params.test_samples, ctx.make_generator("test")
        )
        test_accuracy = accuracy(original, public, ctx.device)
        majority_share = int(torch.bincount(public.labels).max()) / len(public.labels)
    losses: list[list[float]] = [[], []]
    if dataset is not None and forgotten is not None:
        deleted = dataset.load("train")
        for row, one in zip(forgotten, after, strict=True):
            samples = deleted.pick(row)
            for kept, network in zip(losses, (original, one.networks.load_network()), strict=True):
                kept += _compute_losses(network.to(ctx.device), samples, ctx.device)
    behaviour = check_behaviour(
        losses[0],
        losses[1],
        test_accuracy,
        params.num_classes,
        max(one.resolution for one in comparisons),
        majority_share,
    )
    _refuse(behaviour, "inputs")
    for place, (comparison, one) in enumerate(zip(comparisons, after, strict=True), start=1):
        if public is not None and test_accuracy is not None and is_unrelated(comparison):
            own = accuracy(one.networks.load_network(), public, ctx.device)
            broken = check_unrelated(test_accuracy, own, params.num_classes, majority_share)
            _refuse([broken] if broken else [], f"inputs.{Role.RELEASED_WEIGHTS}_{place}")
    findings = [finding for one in comparisons for finding in one.findings] + behaviour
    if params.exact:
        findings = [_describe_exact(finding) for finding in findings]
    distinct = {finding.message: finding for finding in findings}
    return Comparison(
        release=params.release,
        with_deleted=forgotten is not None,
        with_public=test_accuracy is not None,
        with_base=params.with_base,
        dtypes=sorted({name for one in (before, *after) for name in one.dtypes}),
        prefixes=list(dict.fromkeys(name for one in (before, *after) for name in one.prefixes)),
        original_test_accuracy=test_accuracy,
        deletions=[describe_difference(one, len(comparisons)) for one in comparisons],
        findings=[PairWarning.model_validate(finding.to_dict()) for finding in distinct.values()][
            :MAX_FINDINGS
        ],
    )


def _compute_losses(
    network: torch.nn.Module, samples: Samples, device: torch.device
) -> list[float]:
    with torch.no_grad():
        logits = network(samples.images.to(device)).cpu()
    losses: list[float] = compute_loss(logits, samples.labels, "none").tolist()
    return losses


def _measure_change(before: ReadWeights, after: ReadWeights) -> float:
    """Euclidean length of the change of all weights."""
    names = [name for name, _ in before.networks.load_network().named_parameters()]
    squares = [
        (after.networks.state[name].double() - before.networks.state[name].double()).square().sum()
        for name in names
    ]
    return float(torch.stack(squares).sum().sqrt())


def _summarise(comparison: Comparison) -> dict[str, Any]:
    """Numbers for the report's table of measurements."""
    deletions = comparison.deletions
    return {
        "relative weight change": fmean(one.relative_change for one in deletions),
        "share of weights that did not move": fmean(one.unchanged_share for one in deletions),
    } | (
        {}
        if comparison.original_test_accuracy is None
        else {"test accuracy of the original": comparison.original_test_accuracy}
    )
