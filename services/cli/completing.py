"""What the shell offers after TAB. It asks the gateway, briefly; without one it offers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import typer

from services.cli.output import make_visible
from services.client import Client

WAIT = 1.0  # seconds: longer than that, and TAB seems broken
MOST = 30

Offers = list[tuple[str, str]]
Completer = Callable[[typer.Context, str], Offers]


def _asking(ask: Callable[[Client, typer.Context], Iterator[tuple[str, str]]]) -> Completer:
    """A completer that never raises, prints or hangs."""

    def complete(ctx: typer.Context, incomplete: str) -> Offers:
        try:
            with Client(retry_for_s=0, timeout_s=WAIT) as gateway:
                return [offer for offer in ask(gateway, ctx) if offer[0].startswith(incomplete)]
        except Exception:  # whatever it is, it must not land in the line that is being typed
            return []

    return complete


def _jobs(gateway: Client, _: typer.Context) -> Iterator[tuple[str, str]]:
    for job in islice(gateway.list_jobs(limit=MOST), MOST):
        yield job.id, make_visible(f"{job.stage} {job.method or ''} {job.state}")


def _audits(gateway: Client, _: typer.Context) -> Iterator[tuple[str, str]]:
    for audit in islice(gateway.list_audits(limit=MOST), MOST):
        yield audit.id, make_visible(f"{audit.name} {audit.state}")


def _items(gateway: Client, ctx: typer.Context) -> Iterator[tuple[str, str]]:
    yield from _audits(gateway, ctx)
    yield from _jobs(gateway, ctx)


def _kinds(gateway: Client, _: typer.Context) -> Iterator[tuple[str, str]]:
    for kind in gateway.get_catalog()["kinds"]:
        yield kind, ""


def _methods(gateway: Client, ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Of the stage that was typed before."""
    kinds = gateway.get_catalog()["kinds"]
    stage = ctx.params.get("stage") or next(iter(ctx.args), None)  # a line that is not whole yet is not parsed
    of = next((e["methods"] for e in kinds.get("stage", ()) if e["name"] == stage), None)
    yield from _named(kinds, of or "")


def _named(kinds: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    for entry in kinds.get(kind, ()):
        yield entry["name"], make_visible(entry["summary"])


def plugins(kind: str) -> Completer:
    """The names of a kind of plugin."""
    return _asking(lambda gateway, _: _named(gateway.get_catalog(kind)["kinds"], kind))


jobs, audits, items = _asking(_jobs), _asking(_audits), _asking(_items)
kinds, methods = _asking(_kinds), _asking(_methods)
