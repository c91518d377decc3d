"""/v1/webhooks: URLs that are notified when audits and jobs end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.access_logging import set_subject
from services.gateway.api._blueprint import PageQuery, make_blueprint
from services.gateway.deps import current_gateway, current_store
from services.gateway.problems import document_errors
from services.gateway.responses import respond_accepted
from services.gateway.schemas import format_rfc3339
from services.gateway.submission import WEBHOOK_ID, require_id_format
from services.webhooks.address import MAX_URL_CHARS, parse_networks, parse_webhook_url
from shared.jobs.webhook_events import EVENTS
from shared.jobs.webhooks import Delivery, Webhook

routes = make_blueprint("webhooks", "URLs that are notified when audits and jobs end")

EventName = Literal[
    "audit.cancelled", "audit.failed", "audit.succeeded",
    "job.cancelled", "job.failed", "job.succeeded",
]  # fmt: skip


class WebhookBody(BaseModel):
    """A URL, and the events that it is notified of."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    url: str = Field(
        max_length=MAX_URL_CHARS,
        description="an https URL on port 443; it is sent POST requests and must answer with 2xx",
    )
    events: Annotated[list[EventName], Field(min_length=1, max_length=len(EVENTS))] = Field(
        ["audit.cancelled", "audit.failed", "audit.succeeded"],
        description="the events to notify it of; default: all ends of audits",
    )


class WebhookPath(BaseModel):
    webhook_id: str = Field(description="whk_...")

    @property
    def valid_id(self) -> str:
        return require_id_format(self.webhook_id, WEBHOOK_ID, "webhook")


class WebhookView(BaseModel):
    """A URL that is notified when audits or jobs end."""

    id: str
    url: str
    events: list[str]
    created_at: str | None


class NewWebhookView(WebhookView):
    secret: str = Field(
        description="the key of the signatures; it is not shown again (`whsec_` and base64)"
    )


class WebhookList(BaseModel):
    items: list[WebhookView]


class DeliveryView(BaseModel):
    """One message to one webhook."""

    id: str = Field(description="the header `webhook-id`, the same for each attempt")
    event: str
    state: str = Field(description="pending, delivered, or failed (it is not sent again)")
    attempts: int
    outcome: str | None = Field(description="how the last attempt ended")
    created_at: str | None
    next_at: str | None = Field(description="the next attempt; null once it has ended")
    ended_at: str | None


class DeliveryPage(BaseModel):
    items: list[DeliveryView]
    next: str | None = Field(description="token of the next page; null at the end")


class TestDelivery(BaseModel):
    id: str = Field(description="of the delivery")


@routes.post(
    "/webhooks",
    responses={201: NewWebhookView, **document_errors(400, 409, 413, 415, 422)},
)
def post_webhook(body: WebhookBody) -> Response:
    """Add a webhook. Only this response contains its secret; a tenant has at most ten webhooks
    (409).

    Messages are signed according to the Standard Webhooks specification, and sent at least once, in
    no particular order: recognise repeated ones by the header `webhook-id`. An attempt fails unless
    a 2xx comes within 10 s; it is then retried up to eleven times within about a day.
    """
    allowed = parse_networks(current_gateway().deps.settings.webhook_allow)
    parse_webhook_url(body.url, allowed)
    webhook, secret = current_store().add_webhook(body.url, body.events)
    set_subject(webhook.id)
    response = jsonify({**serialize_webhook(webhook), "secret": secret})
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    return response


@routes.get("/webhooks", responses={200: WebhookList})
def list_webhooks() -> Response:
    """List your webhooks, newest first."""
    return jsonify({"items": [serialize_webhook(w) for w in current_store().list_webhooks()]})


@routes.delete("/webhooks/<webhook_id>", responses={204: None, **document_errors(404)})
def delete_webhook(path: WebhookPath) -> Response:
    """Delete a webhook; pending messages are not sent."""
    current_store().delete_webhook(path.valid_id)
    return Response(status=204)


@routes.post("/webhooks/<webhook_id>/test", responses={202: TestDelivery, **document_errors(404)})
def test_webhook(path: WebhookPath) -> Response:
    """Send a test event, `webhook.test`. It replaces an earlier one that is still pending."""
    webhook_id = path.valid_id
    delivery_id = current_store().add_test_delivery(webhook_id)
    return respond_accepted({"id": delivery_id}, f"/v1/webhooks/{webhook_id}/deliveries")


@routes.get(
    "/webhooks/<webhook_id>/deliveries",
    responses={200: DeliveryPage, **document_errors(404, 422)},
)
def list_deliveries(path: WebhookPath, query: PageQuery) -> Response:
    """List a webhook's deliveries, newest first, until a week after they have ended."""
    page = current_store().list_deliveries(path.valid_id, limit=query.limit, page=query.page)
    return jsonify({"items": [serialize_delivery(d) for d in page.items], "next": page.next})


def serialize_webhook(webhook: Webhook) -> dict[str, Any]:
    """A webhook, as `WebhookView` describes it."""
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": list(webhook.events),
        "created_at": format_rfc3339(webhook.created_at),
    }


def serialize_delivery(delivery: Delivery) -> dict[str, Any]:
    """A delivery, as `DeliveryView` describes it."""
    return {
        "id": delivery.id,
        "event": delivery.event,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "outcome": delivery.outcome,
        "created_at": format_rfc3339(delivery.created_at),
        "next_at": format_rfc3339(delivery.next_at),
        "ended_at": format_rfc3339(delivery.ended_at),
    }
