"""webhooks add, list, delete, test: URLs that are notified when audits and jobs end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from services.cli.output.console import (
    FAILED,
    OK,
    Json,
    escape_markup,
    format_age,
    make_client,
    print_json,
    print_note,
    print_table,
)

POLL_S = 0.5  # between two looks at a test delivery

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id of a webhook (whk_...).")]


def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Your https URL.")],
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            help="Event to notify it of, such as audit.failed or job.succeeded; repeatable. "
            "Default: all ends of audits.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Add a webhook, and print the secret that its messages are signed with."""
    with make_client() as gateway:
        webhook = gateway.add_webhook(url, events=events)
    if json:
        print_json(webhook)
        return
    typer.echo(webhook["id"])
    typer.echo(webhook["secret"])
    print_note("Keep the secret: it is not shown again. Verify signatures with it.")


def list_(json: Json = False) -> None:
    """List your webhooks."""
    with make_client() as gateway:
        items = gateway.list_webhooks()
    if json:
        print_json(items)
        return
    rows = [
        [w["id"], escape_markup(w["url"]), ", ".join(w["events"]), format_age(w["created_at"])]
        for w in items
    ]
    print_table(["webhook", "url", "events", "age"], rows)


def delete(webhook: WebhookId) -> None:
    """Delete a webhook; pending messages are not sent."""
    with make_client() as gateway:
        gateway.delete_webhook(webhook)
    print_note(f"deleted: {webhook}")


def deliveries(
    webhook: WebhookId,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number.")] = 20,
    json: Json = False,
) -> None:
    """List a webhook's deliveries, sent and pending, newest first."""
    with make_client() as gateway:
        items = gateway.list_webhook_deliveries(webhook, limit=limit)
    if json:
        print_json(items)
        return
    rows = [
        [
            d["id"],
            d["event"],
            d["state"],
            str(d["attempts"]),
            escape_markup(d["outcome"] or "-"),
            format_age(d["created_at"]),
        ]
        for d in items
    ]
    print_table(["delivery", "event", "state", "attempts", "last outcome", "age"], rows)


def test(
    webhook: WebhookId,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for the first attempt.")
    ] = 20.0,  # noqa: PT028 - a command
) -> None:
    """Send a test message and show the outcome of the first attempt; exit with status 1 unless it was
    delivered."""
    deadline = time.monotonic() + wait_s
    with make_client() as gateway:
        delivery_id = gateway.test_webhook(webhook)
        while True:
            sent = [
                d
                for d in gateway.list_webhook_deliveries(webhook, limit=50)
                if d["id"] == delivery_id and d["outcome"] is not None
            ]
            if sent:
                break
            if time.monotonic() > deadline:
                print_note("not sent yet: is the reconciler running?")
                raise typer.Exit(FAILED)
            time.sleep(POLL_S)
    typer.echo(f"{sent[0]['state']}: {sent[0]['outcome']}")
    raise typer.Exit(OK if sent[0]["state"] == "delivered" else FAILED)


SUBCOMMANDS: Sequence[Callable[..., None]] = (add, list_, delete, deliveries, test)
