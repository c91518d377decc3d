"""/audits/new: the form of an audit, drawn from the catalog; /audits/draft: what is wrong with it,
what it will cost, and the same audit as text, while somebody fills it in."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Response, redirect, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as AnyResponse

from services.audit_text import AuditTextError, parse_audit_text
from services.gateway.access_logging import changes_nothing, set_subject
from services.gateway.api.audit_planning import (
    MAX_WORKERS,
    describe_submission,
    plan_audit,
    submit_audit,
)
from services.gateway.auth import get_origin
from services.gateway.console._audit_check import FormMessage, is_small, try_form
from services.gateway.console._audit_form import (
    CHOICES,
    OWN,
    FilledForm,
    Values,
    brings_samples,
    fill_form,
    read_form,
    read_rows,
    read_way,
    split_variant,
)
from services.gateway.console._audit_page import FormView, build_form, describe_source
from services.gateway.console._examples import FIRST, load_examples
from services.gateway.console._pages import make_pages, render_page
from services.gateway.console.audit_texts import AuditText, write_texts
from services.gateway.deps import current_gateway, current_store
from services.gateway.scopes import require_scope
from services.gateway.submission import AUDIT_ID, require_id_format
from shared.catalog import Catalog
from shared.jobs.declarations import DeclarationState, Kind
from shared.jobs.keys import SUBMIT
from shared.jobs.submit import IdempotencyKey

pages = make_pages("new_audit")

PATH = "/audits/new"
MAX_UPLOADS, MAX_DECLARED, MAX_SOURCES = 100, 50, 20  # in menus
MAX_YAML_BYTES = 64 << 10  # of a file that is read here: a second of parsing
MAX_FORM_BYTES = 128 << 10  # more than such a file, and than a form with all its fields
MAX_TEXT_BYTES = 32 << 10  # of an audit that is shown as text
WORKER_COUNTS = (1, 2, 4, 8, 16, 32)
CHECK = "check"  # the button that only asks what is wrong
OWN_ATTACKS = ("feature_recovery", "label_inference")
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class DraftView:
    """What comes of the form as it is: a quote, or messages; and its body as text."""

    messages: Sequence[FormMessage]
    dry_run: Mapping[str, Any] | None
    texts: Sequence[AuditText]


@pages.get(PATH)
@require_scope(SUBMIT)
def show() -> Response:
    """The form: of an example, of an earlier audit (`from`), or for models that are brought."""
    catalog = current_gateway().catalog_cache.catalog
    source = request.args.get("from", "")
    is_own = request.args.get("way") == OWN or "pair" in request.args
    left_out: list[str] = []
    if not source:
        values = _begin(catalog, is_own)
    elif source in load_examples():
        values, left_out = fill_form(load_examples()[source].spec, catalog)
    else:
        audit = current_store().get_audit(require_id_format(source, AUDIT_ID, "audit"))
        values, left_out = fill_form(describe_submission(audit), catalog)
    return _respond_form(values, left_out=left_out, source=source, is_quiet=True)


@pages.post(PATH)
def submit() -> AnyResponse:
    """Submit the audit and go to its page. Other buttons of the form lead back to it: one that reads
    a YAML file, and those that add a row."""
    _refuse_large_form()
    if "yaml" in request.files:
        return _read_file()
    values: Values = request.form.copy()
    if values.get("grow"):
        _grow(values)
        return _respond_form(values, is_quiet=values.get("grow") != CHECK)
    filled = read_form(values, current_gateway().catalog_cache.catalog)
    submitted = try_form(filled, lambda body: submit_audit(body, _make_key(values, filled)))
    if isinstance(submitted, list):
        return _respond_form(values, messages=submitted, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    set_subject(str(submitted.audit))
    return redirect(f"/audits/{submitted.audit}", 303)


@pages.post("/audits/draft")
@changes_nothing
def draft() -> Response:
    """What is to stand beside the form."""
    _refuse_large_form()
    values = request.form
    return render_page("_draft.html", **_describe_draft(values, _check(values)))


def _refuse_large_form() -> None:
    """Refuse what no form has: a MiB of text in one field takes seconds to check, which all other
    requests would wait for."""
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise RequestEntityTooLarge(
            f"a form may have at most {MAX_FORM_BYTES >> 10} KiB: write a larger audit as a YAML "
            "file, and submit it with palimpsest audit"
        )


def _begin(catalog: Catalog, is_own: bool) -> Values:
    """The form as it is offered: three choices are made already."""
    if is_own:
        values, _ = fill_form({"original": "", "releases": []}, catalog)
        values["way"] = OWN
        names = catalog.list_names("dataset")
        values["dataset"] = next((name for name in names if brings_samples(catalog, name)), "")
        known = catalog.list_names("attack")
        values.setlist("attacks", [name for name in OWN_ATTACKS if name in known] or known[:1])
        return values
    spec = load_examples()[FIRST].spec if FIRST in load_examples() else {}
    values, left_out = fill_form({**spec, "name": ""}, catalog)
    if left_out or not spec:  # other plugins than ours
        values, _ = fill_form({}, catalog)
        for choice in CHOICES:
            names = catalog.list_names(choice.kind)
            if choice.field != "defenses":
                values.setlist(choice.field, names[: 2 if choice.field == "unlearning" else 1])
    if not values.getlist("defenses") and ("defense", "none") in catalog:
        values["defenses"] = "none"
    return values


def _read_file() -> Response:
    """The form as a YAML file fills it in."""
    file = request.files["yaml"]
    name = re.sub(r"[^\w.-]", "_", (file.filename or "audit.yaml")[-60:])
    catalog = current_gateway().catalog_cache.catalog
    data = file.stream.read(MAX_YAML_BYTES + 1)
    try:
        if len(data) > MAX_YAML_BYTES:
            raise AuditTextError(
                f"{name} is larger than {MAX_YAML_BYTES >> 10} KiB: submit it with palimpsest audit"
            )
        with current_gateway().planning_limiter.acquire():
            parsed = parse_audit_text(data, name)
    except AuditTextError as error:
        return _respond_form(
            _begin(catalog, False), file_error=str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY
        )
    values, left_out = fill_form(parsed.spec, catalog)
    return _respond_form(values, left_out=left_out, is_quiet=True)


def _grow(values: Values) -> None:
    """Add a row of releases or deletions, or a method once more, to be given other settings."""
    wanted = values.get("grow", "")
    rows = dict(zip(("releases", "deletions"), read_rows(values), strict=True))
    if wanted in rows:
        values[wanted] = str(rows[wanted] + 1)
        return
    field, _, key = wanted.partition("/")
    if field not in {choice.field for choice in CHOICES if choice.is_list}:
        return
    name, selected = split_variant(key), values.getlist(field)
    free = [f"{name}~{n}" for n in range(2, 33) if f"{name}~{n}" not in selected]
    if name and free:
        values.setlist(field, [*selected, *([] if name in selected else [name]), free[0]])


def _check(values: Values) -> DraftView:
    """A dry run of the form."""
    filled = read_form(values, current_gateway().catalog_cache.catalog)
    text = values.get("workers", "")
    workers = int(text) if text.isdecimal() and len(text) < 5 else None
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        workers = None
    outcome = try_form(
        filled, lambda body: plan_audit(body, require_uploads=False).describe_dry_run(workers)
    )
    texts = write_texts(filled.body, get_origin()) if is_small(filled, MAX_TEXT_BYTES) else []
    if isinstance(outcome, list):
        return DraftView(outcome, None, texts)
    return DraftView([], outcome, texts)


def _describe_draft(values: Values, draft: DraftView, is_quiet: bool = False) -> dict[str, Any]:
    return {
        "draft": draft,
        "is_quiet": is_quiet,
        "workers": values.get("workers", ""),
        "worker_counts": WORKER_COUNTS,
        "shown_text": values.get("shown_text", "yaml"),
    }


def _make_key(values: Values, filled: FilledForm) -> IdempotencyKey | None:
    """Of the form that was shown and what it says: a double click posts once, and a form that is
    changed after one has gone back posts another audit."""
    token = values.get("idempotency", "")
    if not _TOKEN.fullmatch(token):
        return None
    digest = hashlib.sha256(json.dumps(filled.body, sort_keys=True).encode()).hexdigest()
    return IdempotencyKey(f"console-{token}-{digest[:32]}", digest)


def _respond_form(
    values: Values,
    *,
    messages: Sequence[FormMessage] = (),
    left_out: Sequence[str] = (),
    file_error: str = "",
    source: str = "",
    is_quiet: bool = False,
    status: int = 200,
) -> Response:
    """The page with these values. A form that was refused says why; any other is checked.

    is_quiet: what is missing is not told beside its field yet.
    """
    catalog, store = current_gateway().catalog_cache.catalog, current_store()
    drafted = _check(values)
    shown = [*messages] or ([] if is_quiet else drafted.messages)
    is_own = read_way(values) == OWN
    models = store.list_declarations(Kind.MODEL, limit=MAX_DECLARED).items if is_own else []
    datasets = store.list_declarations(Kind.DATASET, limit=MAX_DECLARED).items
    ready = DeclarationState.READY
    form: FormView = build_form(
        values,
        catalog,
        uploads=store.list_uploads(limit=MAX_UPLOADS).items,
        models=[one.label for one in models if one.state is ready],
        datasets=[one.label for one in datasets if one.state is ready],
        messages=shown,
    )
    if messages:
        drafted = DraftView(messages, drafted.dry_run, drafted.texts)
    return render_page(
        "new_audit.html",
        status,
        form=form,
        examples=load_examples().values(),
        earlier=[(a.id, describe_source(a)) for a in store.list_audits(limit=MAX_SOURCES).items],
        source=source,
        left_out=left_out,
        file_error=file_error,
        idempotency=secrets.token_hex(16),
        has_catalog=bool(catalog.list_names("stage")),
        max_upload_bytes=current_gateway().deps.settings.max_upload_bytes,
        **_describe_draft(values, drafted, is_quiet),
    )
