"""What the pages of models and of data sets share: the list, one version, its labels, deleting it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console._deletion import Removed, render_removed, survey
from services.gateway.console._findings import describe_findings
from services.gateway.console._labels import join_labels, read_label_changes, read_label_filter
from services.gateway.console._pages import render_page
from services.gateway.declared import find_declaration, read_inspection
from services.gateway.deps import current_store
from services.gateway.removal import remove_declarations
from services.gateway.submission import require_id_format
from shared.errors import InvalidRequest
from shared.jobs.declarations import Declaration, Kind
from shared.jobs.declared_refs import NAME, VERSION
from shared.jobs.paging import Page
from shared.uploaded_files import PREFIX

PAGE_SIZE = 25
MAX_VERSIONS = 50  # listed beside the one that is shown
TITLES: Mapping[Kind, str] = {Kind.MODEL: "Models", Kind.DATASET: "Data sets"}
_NAME, _VERSION = re.compile(NAME), re.compile(VERSION)


def make_path(kind: Kind, name: str, version: int | None = None) -> str:
    """The page of a declaration; without a version, of the newest."""
    return f"/{kind}s/{name}" + ("" if version is None else f"/versions/{version}")


def show_list(kind: Kind) -> Response:
    """A page of all versions, newest first."""
    fields = {name: request.args.get(name, "").strip() for name in ("name", "label")}
    errors = {}
    if fields["name"] and not _NAME.fullmatch(fields["name"]):
        errors["name"] = "A name has letters, digits and . _ - only, at most 64 characters."
    label = None
    try:
        label = read_label_filter(fields["label"])
    except InvalidRequest as error:
        errors["label"] = error.message
    listed: Page[Declaration] = Page([], None)
    if not errors:
        listed = current_store().list_declarations(
            kind,
            name=fields["name"] or None,
            labels=dict([label]) if label else None,
            limit=PAGE_SIZE,
            page=request.args.get("page") or None,
        )
    return render_page(
        "declarations.html",
        422 if errors else 200,
        kind=kind,
        title=TITLES[kind],
        listed=listed,
        filters={name: value for name, value in fields.items() if value},
        is_first="page" not in request.args,
        errors=errors,
        make_path=make_path,
    )


def show_one(kind: Kind, name: str, version: str | None = None) -> Response:
    """One version, by default the newest, with what its check has found."""
    return _render(kind, _find(kind, name, version))


def _render(
    kind: Kind,
    declaration: Declaration,
    labels: list[tuple[str, str]] | None = None,
    error: str = "",
) -> Response:
    """The page; with labels as they were typed, and what is wrong with them."""
    inspection = read_inspection(declaration)
    versions = current_store().list_declarations(
        kind, name=declaration.name, limit=MAX_VERSIONS, page=None
    )
    return render_page(
        "declaration.html",
        422 if error else 200,
        kind=kind,
        title=TITLES[kind],
        declared=declaration,
        uploads=list_uploads(declaration),
        inspection=inspection,
        findings=describe_findings(inspection),
        versions=versions.items,
        labels=join_labels(declaration.labels) if labels is None else labels,
        label_error=error,
        make_path=make_path,
    )


def change_labels(kind: Kind, name: str, version: str) -> AnyResponse:
    """Give a version the labels of the form, and show it."""
    declaration = _find(kind, name, version)
    keys, values = request.form.getlist("key"), request.form.getlist("value")
    try:
        changes = read_label_changes(keys, values, declaration.labels)
    except InvalidRequest as error:
        return _render(kind, declaration, list(zip(keys, values, strict=False)), error.message)
    current_store().change_declaration_labels(kind, name, declaration.version, changes)
    return redirect(make_path(kind, name, declaration.version), 303)


def ask_deletion(kind: Kind, name: str) -> Response:
    """What would be deleted, before it is: of one version, or with none given of all."""
    version = _read_version()
    declaration = find_declaration(kind, _check_name(name), version)
    store = current_store()
    return render_page(
        "deletion.html",
        what=f"the {kind.noun} “{name}" + ("”" if version is None else f"@{version}”"),
        back=make_path(kind, name, version and declaration.version),
        action=f"{make_path(kind, name)}/delete",
        query={} if version is None else {"version": version},
        keeps="Its files stay, and so does everything that jobs have made of them.",
        survey=survey(lambda: store.plan_declaration_erasure(kind, name, version)),
        uses=[],
        only="Delete the declaration",
    )


def delete(kind: Kind, name: str) -> Response:
    """Delete one version, or all; with `derived=true`, with everything that was made of it."""
    version = _read_version()
    erased = remove_declarations(
        kind, _check_name(name), version, derived=request.args.get("derived") == "true"
    )
    return render_removed(
        Removed(f"The {kind.noun} is deleted.", erased, f"/{kind}s", TITLES[kind])
    )


def list_uploads(declaration: Declaration) -> list[str]:
    """The digests of the files that a declaration names, in the order in which it does."""
    digests = [declaration.spec["weights"]] if "weights" in declaration.spec else []
    pending: list[Any] = [declaration.spec.get("dataset")]
    while pending:
        value = pending.pop(0)
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, str) and value.startswith(PREFIX):
            digests.append(value.removeprefix(PREFIX))
    return digests


def _find(kind: Kind, name: str, version: str | None) -> Declaration:
    number = None if version is None else int(require_id_format(version, _VERSION, "version"))
    return find_declaration(kind, _check_name(name), number)


def _check_name(name: str) -> str:
    return require_id_format(name, _NAME, "declaration")


def _read_version() -> int | None:
    """The version in the query, if it has one."""
    text = request.args.get("version")
    return None if text is None else int(require_id_format(text, _VERSION, "version"))
