"""What /v1/models and /v1/datasets share: declare, check, show and delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.api._blueprint import PageQuery
from services.gateway.api.artifacts import serialize_erasure
from services.gateway.declared import find_declaration, read_inspection
from services.gateway.deps import current_gateway, current_store, digest_files
from services.gateway.filters import LabelFilter, parse_label
from services.gateway.labels import LabelPatch, Labels
from services.gateway.removal import remove_declarations
from services.gateway.responses import respond_accepted
from services.gateway.schemas import format_rfc3339
from services.gateway.submission import limit_if_large, require_id_format, store_planned
from shared.catalog import CheckedJob
from shared.errors import Conflict, InvalidRequest
from shared.jobs.declarations import Declaration, Kind, NewDeclaration
from shared.jobs.declared_audit import require_ready, resolve_declared
from shared.jobs.declared_refs import DATASET_PREFIX, NAME, VERSION, DatasetRef, parse_reference
from shared.jobs.error_paths import map_error_fields
from shared.jobs.plan import check_posted, plan_checked
from shared.jobs.records import Input
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef
from shared.uploaded_files import parse_upload

TIME_LIMIT_S = 3600.0  # of each attempt to check a declaration
NAME_FORMAT, VERSION_FORMAT = re.compile(NAME), re.compile(VERSION)

DeclaredName = Annotated[
    str, StringConstraints(pattern=rf"^{NAME}$"), Field(description="a name of your choice")
]


class DeclarationBody(BaseModel):
    """What both kinds of declaration have."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: DeclaredName
    labels: Labels | None = Field(None, description="by key, values of your choice")


class LabelChanges(BaseModel):
    """Changes of labels (a JSON merge patch, RFC 7396)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    labels: LabelPatch


class NamePath(BaseModel):
    name: str = Field(description="a declared name")

    @property
    def valid_name(self) -> str:
        return require_id_format(self.name, NAME_FORMAT, "declaration")


class VersionPath(NamePath):
    version: str = Field(description="a version of it, from 1")

    @property
    def valid_version(self) -> int:
        return int(require_id_format(self.version, VERSION_FORMAT, "version"))


class DeclarationsQuery(PageQuery):
    """Which declarations."""

    name: DeclaredName | None = Field(None, description="only the versions of this name")
    label: LabelFilter | None = Field(
        None, description="only those with this label: KEY, or KEY=VALUE"
    )


class DeclarationView(BaseModel):
    """One version of a declaration."""

    name: str
    version: int = Field(description="counts from 1 for each name")
    state: str = Field(
        description="checking, ready, rejected (it is not what was declared) or failed (the check "
        "ended without a result: declare it again)"
    )
    reason: str | None = Field(description="why it is rejected or failed, and what to do")
    labels: dict[str, str]
    job: str = Field(description="the job that checks it")
    created_at: str | None
    url: str


def declare(
    kind: Kind,
    body: DeclarationBody,
    stage: str,
    params: Mapping[str, Any],
    weights: Mapping[str, str],
) -> Response:
    """Store a declaration and the job that checks it, and answer with it.

    Args:
        stage: that checks it, with these parameters, which the body has under the same names.
        weights: by role, digests that the body has as `weights`.

    Raises:
        InvalidRequest: by field: something that cannot be declared, or an upload that is not there.
        Conflict: too many declarations, data that are not ready, or no worker to check them.
        TransientError: the gateway is busy.
    """
    store = current_store()
    catalog = current_gateway().catalog_cache.catalog
    if ("stage", stage) not in catalog:
        raise Conflict(
            f"no worker that checks declarations has started: start one that serves {stage}"
        )
    for sha256 in weights.values():
        if not store.has_artifact(sha256):
            raise InvalidRequest(f"you have no upload {sha256}: push the file first", "weights")
    paths = {f"params.{name}": name for name in params}
    paths |= {f"inputs.{role}": "weights" for role in weights}
    with map_error_fields(paths):
        with limit_if_large():
            checked = check_posted(catalog, stage, None, params)
        uploads = frozenset({*_list_uploads(checked), *weights.values()})
        data = digest_files(checked.data_files)
        behind = {
            role: store.data_behind(sha256, digest_files, f"inputs.{role}")
            for role, sha256 in weights.items()
        }
        inputs = tuple(Input(role, sha256=sha256) for role, sha256 in weights.items())
        planned = plan_checked(checked, stage, None, 0, inputs, data=data, behind=behind)
        new = NewDeclaration(
            kind,
            body.name,
            {name: checked.params[name] for name in params}
            | ({"weights": next(iter(weights.values()))} if weights else {}),
            uploads,
        )
        existing = store.find_equal_declaration(new, planned.request_key)
        if existing is not None:
            if body.labels is not None and body.labels != existing.labels:
                store.change_declaration_labels(
                    kind,
                    existing.name,
                    existing.version,
                    dict.fromkeys(existing.labels) | body.labels,
                )
            return jsonify(
                serialize_declaration(find_declaration(kind, existing.name, existing.version))
            )
        submitted = store_planned([planned], None, priority=0, time_limit=TIME_LIMIT_S)
        declared = store.record_declaration(
            new,
            submitted.jobs[planned.request_key],
            planned.request_key,
            body.labels,
        )
    return respond_accepted(serialize_declaration(declared), make_url(declared))


def _list_uploads(checked: CheckedJob) -> list[str]:
    """The uploads that a declared data set is made of.

    Raises:
        InvalidRequest: it also reads files of the data root, which can change.
    """
    digests = []
    for file in checked.data_files:
        sha256 = parse_upload(file.path, file.field)
        if sha256 is None:
            raise InvalidRequest(
                "a declared data set must consist of uploads, which cannot change: push "
                "the file, and refer to it as upload:SHA256",
                file.field,
            )
        digests.append(sha256)
    return digests


def resolve_dataset(choice: DatasetRef, field: str) -> PluginRef:
    """The data set itself, of one that may be a declared name.

    Raises:
        InvalidRequest, Conflict: see `require_ready`.
    """
    reference = parse_reference(choice.name, DATASET_PREFIX)
    if reference is None:
        return choice
    declared = require_ready(find_declaration, Kind.DATASET, reference, field)
    return PluginRef.model_validate(declared.spec["dataset"])


def resolve_names(spec: AuditSpec) -> AuditSpec:
    """The audit without declared names, see `resolve_declared`."""
    catalog = current_gateway().catalog_cache.catalog

    def complete_model(model: PluginRef) -> Mapping[str, Any]:
        return catalog.complete_ref("model", model.model_dump(), "model")

    return resolve_declared(spec, find_declaration, complete_model, read_inspection)


def show(kind: Kind, name: str, version: int | None = None) -> Response:
    """Answer with one version, by default the newest, and what its check has found."""
    shown = find_declaration(kind, name, version)
    return jsonify({**serialize_declaration(shown), "inspection": read_inspection(shown)})


def list_all(kind: Kind, query: DeclarationsQuery) -> Response:
    """Answer with a page of declarations."""
    label = parse_label(query.label)
    page = current_store().list_declarations(
        kind,
        name=query.name,
        labels=dict([label]) if label else None,
        limit=query.limit,
        page=query.page,
    )
    return jsonify({"items": [serialize_declaration(one) for one in page.items], "next": page.next})


def change_labels(kind: Kind, name: str, version: int | None, body: LabelChanges) -> Response:
    """Change labels of one version, by default the newest, and answer with it."""
    changed = current_store().change_declaration_labels(kind, name, version, body.labels)
    return jsonify(serialize_declaration(changed))


def delete(kind: Kind, name: str, version: int | None, *, derived: bool) -> Response:
    """Delete one version, or all of them; with `derived`, with the uploads and what was made of
    them."""
    erased = remove_declarations(kind, name, version, derived=derived)
    return Response(status=204) if erased is None else jsonify(serialize_erasure(erased))


def make_url(declaration: Declaration) -> str:
    """Where one version is shown."""
    return f"/v1/{declaration.kind}s/{declaration.name}/versions/{declaration.version}"


def serialize_declaration(declaration: Declaration) -> dict[str, Any]:
    """A declaration, as the views describe it; `inspection` only where it is shown alone."""
    return {
        "name": declaration.name,
        "version": declaration.version,
        "state": declaration.state,
        "reason": declaration.reason,
        **declaration.spec,
        "labels": dict(declaration.labels),
        "job": declaration.job,
        "created_at": format_rfc3339(declaration.created_at),
        "url": make_url(declaration),
        "inspection": None,
    }
