"""The console: pages for people, one file per kind of page. They show what the API shows, as the
tenant who has signed in may see it.

Pages are rendered here and can be read without a script; htmx replaces parts of them as things
change.
"""

from __future__ import annotations

from flask import Flask, Response, request

from services.gateway.auth import SIGN_IN_PATH
from services.gateway.console import (
    _errors,
    api_reference,
    artifacts,
    assets,
    audit,
    audit_actions,
    audits,
    compare,
    declarations,
    home,
    job,
    jobs,
    keys,
    live,
    new_audit,
    result,
    sign_in,
    tenants,
    webhooks,
    workers,
)
from services.gateway.console._pages import is_page
from services.gateway.console.form_tokens import refuse_forged

PAGES = (
    assets.pages,  # /assets/{path}
    sign_in.pages,  # /sign-in, /sign-out
    home.pages,  # /
    live.pages,  # /live
    compare.pages,  # /compare
    result.pages,  # /audits/{id}/result
    audits.pages,  # /audits
    audit.pages,  # /audits/{id}
    audit_actions.pages,  # /audits/{id}/cancel, retry, priority, labels, delete
    jobs.pages,  # /jobs
    job.pages,  # /jobs/{id}
    new_audit.pages,  # /audits/new, /audits/draft
    declarations.MODELS,  # /models
    declarations.DATASETS,  # /datasets
    artifacts.pages,  # /artifacts
    keys.pages,  # /keys
    tenants.pages,  # /tenants
    workers.pages,  # /workers, /stages
    webhooks.pages,  # /webhooks
)


def install(app: Flask) -> None:
    """Register all pages. To be called once authentication is installed."""

    @app.before_request
    def _check_form() -> Response | None:
        if is_page(request.endpoint) and request.path != SIGN_IN_PATH:
            return refuse_forged()
        return None

    _errors.install(app)
    api_reference.install(app)
    for pages in PAGES:
        app.register_blueprint(pages)
