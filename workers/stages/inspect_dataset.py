"""Checks a declared data set: can it be read, and what is in it?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.errors import InvalidRequest
from shared.evaluation import ClassName
from shared.inspection import MAX_NAMES, DatasetInspection, SplitInspection
from shared.ml.samples import MAX_NAME, Samples, class_names, compute_digest, open_dataset
from shared.plugin_ref import PluginRef, plugin_field
from shared.plugins import Params
from shared.roles import Role
from workers.context import JobContext, StageOutput
from workers.stages import registry


class InspectDatasetParams(Params):
    dataset: Annotated[PluginRef, plugin_field("dataset")] = Field(
        description="the data set that was declared"
    )
    classes: list[ClassName] | None = Field(
        None,
        min_length=2,
        max_length=MAX_NAMES,
        description="names of its classes, in the order of their labels; null: those that it has",
    )


@registry.register("inspect_dataset", params=InspectDatasetParams, produces=(Role.INSPECTION,))
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Read a declared data set, and say what is in it.

    Raises:
        InvalidRequest: it cannot be read, or has another number of classes than names were given.
    """
    params: InspectDatasetParams = ctx.params
    dataset = open_dataset(params.dataset)
    train, test = dataset.load("train"), dataset.load("test")
    ctx.report_progress(1, 2)
    if dataset.num_classes > MAX_NAMES:
        raise InvalidRequest(
            f"{params.dataset.name} has {dataset.num_classes:,} classes: declare a data set of at "
            f"most {MAX_NAMES:,}",
            "params.dataset",
        )
    if params.classes is not None and len(params.classes) != dataset.num_classes:
        raise InvalidRequest(
            f"{len(params.classes)} names of classes were given, but the data set has "
            f"{dataset.num_classes} classes: name each of them once",
            "params.classes",
        )
    names = params.classes or [name[:MAX_NAME] for name in class_names(dataset)]
    inspection = DatasetInspection(
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        classes=names,
        train=_inspect_split(train),
        test=_inspect_split(test),
    )
    return {Role.INSPECTION: StageOutput.of_json(inspection.model_dump(mode="json"))}


def _inspect_split(samples: Samples) -> SplitInspection:
    labels = samples.labels
    return SplitInspection(
        samples=len(labels),
        digest=compute_digest(samples),
        lowest_label=int(labels.min()) if len(labels) else None,
        highest_label=int(labels.max()) if len(labels) else None,
    )
