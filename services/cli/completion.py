"""Shell completion. It queries the gateway with a short timeout and offers nothing if that
fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import typer

from services.cli.output.console import escape_unprintable
from services.client import Client

TIMEOUT_S = 1.0  # any longer, and TAB seems broken
MAX_COMPLETIONS = 30

Completions = list[tuple[str, str]]
Completer = Callable[[typer.Context, str], Completions]


def _make_completer(
    find: Callable[[Client, typer.Context], Iterator[tuple[str, str]]],
) -> Completer:
    """A completer that never raises, prints or hangs."""

    def complete(ctx: typer.Context, incomplete: str) -> Completions:
        try:
            with Client(retry_for_s=0, timeout_s=TIMEOUT_S) as gateway:
                return [
                    completion
                    for completion in find(gateway, ctx)
                    if completion[0].startswith(incomplete)
                ]
        except Exception:  # an error must not end up in the line that is being typed
            return []

    return complete


def _find_jobs(gateway: Client, _: typer.Context) -> Iterator[tuple[str, str]]:
    for job in islice(gateway.list_jobs(limit=MAX_COMPLETIONS), MAX_COMPLETIONS):
        yield job.id, escape_unprintable(f"{job.stage} {job.method or ''} {job.state}")


def _find_audits(gateway: Client, _: typer.Context) -> Iterator[tuple[str, str]]:
    for audit in islice(gateway.list_audits(limit=MAX_COMPLETIONS), MAX_COMPLETIONS):
        yield audit.id, escape_unprintable(f"{audit.name} {audit.state}")


def _find_items(gateway: Client, ctx: typer.Context) -> Iterator[tuple[str, str]]:
    yield from _find_audits(gateway, ctx)
    yield from _find_jobs(gateway, ctx)


def _find_kinds(gateway: Client, _: typer.Context) -> Iterator[tuple[str, str]]:
    for kind in gateway.get_catalog()["kinds"]:
        yield kind, ""


def _find_methods(gateway: Client, ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """The methods of the stage that was typed before."""
    kinds = gateway.get_catalog()["kinds"]
    # an incomplete line is not parsed
    stage = ctx.params.get("stage") or next(iter(ctx.args), None)
    kind = next((e["methods"] for e in kinds.get("stage", ()) if e["name"] == stage), None)
    yield from _find_entries(kinds, kind or "")


def _find_entries(kinds: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    for entry in kinds.get(kind, ()):
        yield entry["name"], escape_unprintable(entry["summary"])


def complete_plugins(kind: str) -> Completer:
    """The names of a kind of plugin."""
    return _make_completer(
        lambda gateway, _: _find_entries(gateway.get_catalog(kind)["kinds"], kind)
    )


complete_jobs, complete_audits, complete_items = (
    _make_completer(_find_jobs),
    _make_completer(_find_audits),
    _make_completer(_find_items),
)
complete_kinds, complete_methods = _make_completer(_find_kinds), _make_completer(_find_methods)
