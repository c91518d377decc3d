"""/v1/models: weights that you upload, declared once with their architecture and named."""

from __future__ import annotations

from typing import Any

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
from shared.inspection import ModelInspection
from shared.jobs.declarations import Kind
from shared.jobs.declared_refs import DatasetRef, Digest
from shared.plugin_ref import PluginRef
from shared.roles import Role

routes = make_blueprint("models", "weights that you upload, declared once and named")

STAGE = "inspect_model"


class ModelBody(DeclarationBody):
    """A model of yours. Its weights are checked against the architecture."""

    weights: Digest
    model: PluginRef = Field(description="the architecture, as the catalog describes it")
    input_shape: list[int] = Field(
        min_length=3, max_length=3, description="C, H, W of the images that the model takes"
    )
    num_classes: int
    mean: list[float] | None = Field(
        None,
        description="per channel, what the model's own code subtracts from images in [0, 1]",
    )
    std: list[float] | None = Field(None, description="per channel, what it then divides by")
    test: DatasetRef | None = Field(
        None, description="data set on whose test split accuracy is measured, declared or not"
    )


class ModelView(DeclarationView):
    """One version of a declared model."""

    weights: str = Field(description="sha256 of the upload")
    model: dict[str, Any]
    input_shape: list[int]
    num_classes: int
    mean: list[float] | None
    std: list[float] | None
    test: dict[str, Any] | None
    inspection: ModelInspection | None = Field(
        description="what was read, once it is ready; null in lists"
    )


class ModelPage(BaseModel):
    items: list[ModelView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post(
    "/models",
    responses={200: ModelView, 202: ModelView, **document_errors(400, 409, 413, 415, 422)},
)
def post_model(body: ModelBody) -> Response:
    """Declare a model: which upload holds its weights, and which architecture it has.

    A job checks it: `state` is `checking`, then `ready` or `rejected`. If the name is taken, this
    becomes its next version; if it is the same as the newest version, that one is returned (200).
    """
    params: dict[str, Any] = {
        "model": body.model.model_dump(),
        "input_shape": body.input_shape,
        "num_classes": body.num_classes,
        "mean": body.mean,
        "std": body.std,
        "test": body.test and declaring.resolve_dataset(body.test, "test").model_dump(),
    }
    return declaring.declare(Kind.MODEL, body, STAGE, params, {Role.WEIGHTS: body.weights})


@routes.get("/models", responses={200: ModelPage, **document_errors(422)})
def list_models(query: DeclarationsQuery) -> Response:
    """List declared models, all versions, newest first."""
    return declaring.list_all(Kind.MODEL, query)


@routes.get("/models/<name>", responses={200: ModelView, **document_errors(404, 409)})
def get_model(path: NamePath) -> Response:
    """Show the newest version of a declared model."""
    return declaring.show(Kind.MODEL, path.valid_name)


@routes.get(
    "/models/<name>/versions/<version>", responses={200: ModelView, **document_errors(404, 409)}
)
def get_model_version(path: VersionPath) -> Response:
    """Show one version of a declared model."""
    return declaring.show(Kind.MODEL, path.valid_name, path.valid_version)


@routes.patch(
    "/models/<name>/versions/<version>",
    responses={200: ModelView, **document_errors(400, 404, 409, 413, 415, 422)},
)
def patch_model_version(path: VersionPath, body: LabelChanges) -> Response:
    """Change labels of one version."""
    return declaring.change_labels(Kind.MODEL, path.valid_name, path.valid_version, body)


@routes.delete(
    "/models/<name>", responses={200: ErasureView, 204: None, **document_errors(404, 409)}
)
def delete_model(path: NamePath, query: DeletionQuery) -> Response:
    """Delete all versions of a declared model.

    204: the uploads stay; 409 while jobs that have not ended need one of them. With `derived=true`
    the weights are deleted too, with everything derived from them: 200, or 409 while jobs of them
    have not ended or another declaration refers to them.
    """
    return declaring.delete(Kind.MODEL, path.valid_name, None, derived=query.derived)


@routes.delete(
    "/models/<name>/versions/<version>",
    responses={200: ErasureView, 204: None, **document_errors(404, 409)},
)
def delete_model_version(path: VersionPath, query: DeletionQuery) -> Response:
    """Delete one version of a declared model, in the same way as all of them."""
    name, version = path.valid_name, path.valid_version
    return declaring.delete(Kind.MODEL, name, version, derived=query.derived)
