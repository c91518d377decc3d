"""/v1/datasets: data that you upload, declared once and named."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response
from pydantic import BaseModel, Field

from services.gateway.api import _declaring as declaring
from services.gateway.api._blueprint import make_blueprint
from services.gateway.api._declaring import (
    DeclarationBody,
    DeclarationsQuery,
    DeclarationView,
    LabelChanges,
    NamePath,
    VersionPath,
)
from services.gateway.api.artifacts import DeletionQuery, ErasureView
from services.gateway.problems import document_errors
from shared.inspection import MAX_NAMES, DatasetInspection
from shared.jobs.declarations import Kind
from shared.plugin_ref import PluginRef

routes = make_blueprint("datasets", "data that you upload, declared once and named")

STAGE = "inspect_dataset"


class DatasetBody(DeclarationBody):
    """A data set of yours. It is read once to check it."""

    dataset: PluginRef = Field(
        description="a data set of the catalog whose files are uploads: upload:SHA256"
    )
    classes: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(
        None,
        min_length=2,
        max_length=MAX_NAMES,
        description="names of its classes, in the order of their labels",
    )


class DatasetView(DeclarationView):
    """One version of a declared data set."""

    dataset: dict[str, Any]
    classes: list[str] | None
    inspection: DatasetInspection | None = Field(
        description="what was read, once it is ready; null in lists"
    )


class DatasetPage(BaseModel):
    items: list[DatasetView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post(
    "/datasets",
    responses={200: DatasetView, 202: DatasetView, **document_errors(400, 409, 413, 415, 422)},
)
def post_dataset(body: DatasetBody) -> Response:
    """Declare a data set: which plugin reads which of your uploads.

    A job checks it: `state` is `checking`, then `ready` or `rejected`. If the name is taken, this
    becomes its next version; if it is the same as the newest version, that one is returned (200).
    """
    params = {"dataset": body.dataset.model_dump(), "classes": body.classes}
    return declaring.declare(Kind.DATASET, body, STAGE, params, {})


@routes.get("/datasets", responses={200: DatasetPage, **document_errors(422)})
def list_datasets(query: DeclarationsQuery) -> Response:
    """List declared data sets, all versions, newest first."""
    return declaring.list_all(Kind.DATASET, query)


@routes.get("/datasets/<name>", responses={200: DatasetView, **document_errors(404, 409)})
def get_dataset(path: NamePath) -> Response:
    """Show the newest version of a declared data set."""
    return declaring.show(Kind.DATASET, path.valid_name)


@routes.get(
    "/datasets/<name>/versions/<version>",
    responses={200: DatasetView, **document_errors(404, 409)},
)
def get_dataset_version(path: VersionPath) -> Response:
    """Show one version of a declared data set."""
    return declaring.show(Kind.DATASET, path.valid_name, path.valid_version)


@routes.patch(
    "/datasets/<name>/versions/<version>",
    responses={200: DatasetView, **document_errors(400, 404, 409, 413, 415, 422)},
)
def patch_dataset_version(path: VersionPath, body: LabelChanges) -> Response:
    """Change labels of one version."""
    return declaring.change_labels(Kind.DATASET, path.valid_name, path.valid_version, body)


@routes.delete(
    "/datasets/<name>", responses={200: ErasureView, 204: None, **document_errors(404, 409)}
)
def delete_dataset(path: NamePath, query: DeletionQuery) -> Response:
    """Delete all versions of a declared data set.

    204: the uploads stay; 409 while jobs that have not ended need one of them. With `derived=true`
    the files are deleted too, with everything derived from them: 200, or 409 while jobs of them
    have not ended or another declaration refers to them.
    """
    return declaring.delete(Kind.DATASET, path.valid_name, None, derived=query.derived)


@routes.delete(
    "/datasets/<name>/versions/<version>",
    responses={200: ErasureView, 204: None, **document_errors(404, 409)},
)
def delete_dataset_version(path: VersionPath, query: DeletionQuery) -> Response:
    """Delete one version of a declared data set, in the same way as all of them."""
    name, version = path.valid_name, path.valid_version
    return declaring.delete(Kind.DATASET, name, version, derived=query.derived)
