"""whoami."""

from __future__ import annotations

from services.cli.output.console import (
    Json,
    escape_markup,
    make_client,
    print_json,
    print_pairs,
)


def whoami(json: Json = False) -> None:
    """Show the tenant, scopes and expiry of the key in use."""
    with make_client() as gateway:
        me = gateway.whoami()
    if json:
        print_json(me.raw)
        return
    print_pairs(
        {
            "tenant": escape_markup(me.tenant),
            "key": me.key_id or "the gateway's token",
            "label": escape_markup(me.label or "-"),
            "scopes": ", ".join(me.scopes),
            "expires": me.expires_at or "never",
        }
    )
