"""/webhooks: URLs that are notified when audits and jobs end."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway, current_store
from services.gateway.submission import WEBHOOK_ID, require_id_format
from services.webhooks.address import parse_networks, parse_webhook_url
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs.webhook_events import AUDIT_EVENTS, EVENTS, JOB_EVENTS
from shared.jobs.webhooks import MAX_WEBHOOKS, Webhook

pages = make_pages("webhooks")

PAGE_SIZE = 50


@pages.get("/webhooks")
def show_list() -> Response:
    """The webhooks, and a form for another."""
    return _render()


@pages.post("/webhooks")
def create() -> Response:
    """Add a webhook and show its secret, which happens in this response only."""
    url, events = request.form.get("url", "").strip(), request.form.getlist("events")
    try:
        allowed = parse_networks(current_gateway().deps.settings.webhook_allow)
        parse_webhook_url(url, allowed)
        if not events or not set(events) <= set(EVENTS):
            raise InvalidRequest("Choose at least one.", "events")
        webhook, secret = current_store().add_webhook(url, events)
    except InvalidRequest as error:
        return _render({error.field: error.message})
    except Conflict as error:
        return _render({"url": str(error)})
    return render_page("new_webhook.html", 201, webhook=webhook, secret=secret)


def _render(errors: Mapping[str, str] | None = None) -> Response:
    return render_page(
        "webhooks.html",
        422 if errors else 200,
        webhooks=current_store().list_webhooks(),
        max_webhooks=MAX_WEBHOOKS,
        errors=errors or {},
        form=request.form,
        chosen_events=request.form.getlist("events") if errors else list(AUDIT_EVENTS),
        audit_events=AUDIT_EVENTS,
        job_events=JOB_EVENTS,
    )


@pages.get("/webhooks/<webhook_id>")
def show_one(webhook_id: str) -> Response:
    """One webhook with what was sent to it."""
    webhook = _find(webhook_id)
    listed = current_store().list_deliveries(
        webhook.id, limit=PAGE_SIZE, page=request.args.get("page") or None
    )
    return render_page(
        "webhook.html", webhook=webhook, listed=listed, is_first="page" not in request.args
    )


@pages.post("/webhooks/<webhook_id>/test")
def send_test(webhook_id: str) -> AnyResponse:
    """Send a test event."""
    webhook = _find(webhook_id)
    current_store().add_test_delivery(webhook.id)
    return redirect(f"/webhooks/{webhook.id}", 303)


@pages.get("/webhooks/<webhook_id>/delete")
def ask_deletion(webhook_id: str) -> Response:
    """Ask before a webhook is deleted."""
    return render_page("webhook_deletion.html", webhook=_find(webhook_id))


@pages.post("/webhooks/<webhook_id>/delete")
def delete(webhook_id: str) -> AnyResponse:
    """Delete a webhook; pending messages are not sent."""
    current_store().delete_webhook(_find(webhook_id).id)
    return redirect("/webhooks", 303)


def _find(webhook_id: str) -> Webhook:
    wanted = require_id_format(webhook_id, WEBHOOK_ID, "webhook")
    for webhook in current_store().list_webhooks():
        if webhook.id == wanted:
            return webhook
    raise NotFound(f"there is no webhook {wanted}")
