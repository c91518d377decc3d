"""Writes the access log: an entry for every request that changes something, or tries to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, current_app, g, request

from services.gateway.principal import current_principal
from services.gateway.query_parameters import is_requested
from services.gateway.scopes import READ_METHODS
from shared.errors import TransientError
from shared.jobs import access_log
from shared.jobs.database import Database

log = structlog.get_logger()

ENTRY_KEY = "palimpsest.access_log"  # in the WSGI environ: the entry of this request
SUBJECT_KEY = "palimpsest.subject"
_ASKS = "palimpsest_changes_nothing"
View = TypeVar("View", bound=Callable[..., Any])
# Ids are noted at once. Digests and names only once it is known that they stay: even a row that is
# changed leaves what it had in the database's files, and what is erased must be in none.
IDS = frozenset({"job_id", "audit_id", "key_id", "webhook_id"})


def changes_nothing(view: View) -> View:
    """Declare, below its path, that a route which is no GET only answers a question."""
    setattr(view, _ASKS, True)
    return view


def set_subject(subject: str) -> None:
    """Say what this request has created; otherwise the header Location or the path says it."""
    request.environ[SUBJECT_KEY] = subject


def leave_subject_out() -> None:
    """Keep the names and digests in this request's path out of its entry: what they name is being
    deleted with every trace."""
    set_subject("")


def install(app: Flask, db: Database) -> None:
    """Write entries. To be installed after authentication, and before what refuses requests."""

    @app.before_request
    def _begin() -> None:
        # a request with a large body is checked before it is read, and then again
        is_new = request.url_rule is not None and ENTRY_KEY not in request.environ
        if not is_new or not _changes_something() or "principal" not in g:
            return
        principal = current_principal()
        ids = [str(v) for name, v in (request.view_args or {}).items() if name in IDS]
        request.environ[ENTRY_KEY] = access_log.begin_entry(
            db, principal.tenant, principal.actor, _describe_action(), "".join(ids)
        )

    @app.after_request
    def _finish(response: Response) -> Response:
        entry = request.environ.get(ENTRY_KEY)
        if entry is not None:
            try:
                access_log.finish_entry(db, entry, response.status_code, _find_subject(response))
            except TransientError as error:
                log.warning("the access log has no status of a request", error=str(error))
        return response


def _changes_something() -> bool:
    only_asks = getattr(current_app.view_functions[str(request.endpoint)], _ASKS, False)
    return request.method not in READ_METHODS and not (only_asks or is_requested("dry_run"))


def _describe_action() -> str:
    rule = str(request.url_rule).replace("<", "{").replace(">", "}")
    return f"{request.method} {rule}"


def _find_subject(response: Response) -> str | None:
    """What was created or changed; None: it was noted at once, or nothing was, or it was erased."""
    subject: str | None = request.environ.get(SUBJECT_KEY)
    if subject:
        return subject
    if response.status_code >= 400 or subject is not None:
        return None
    if request.view_args:
        return (
            None
            if IDS & set(request.view_args)
            else "/".join(str(value) for value in request.view_args.values())
        )
    if not response.location:
        return None
    created = response.location.removeprefix("/v1/").partition("/")[2]
    return created.replace("/versions/", "/")
