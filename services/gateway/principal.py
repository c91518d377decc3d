"""Who sends a request, as `auth.py` has found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import g

from shared.jobs.access_log import TOKEN_ACTOR
from shared.jobs.keys import ADMIN, SCOPES, Key


@dataclass(frozen=True)
class Principal:
    """The holder of a key, or of the token.

    key: the key's id; None for the token.
    scopes: of `shared.jobs.keys.SCOPES`.
    expires_at: seconds since 1970 by the database's clock; None: never.
    is_counted: whether its requests count against the tenant's quota of requests.
    """

    tenant: str
    key: str | None
    label: str
    scopes: frozenset[str]
    expires_at: float | None
    is_counted: bool = True

    @classmethod
    def from_token(cls, tenant: str) -> Principal:
        """The holder of the token may do everything, as this tenant."""
        return cls(tenant, None, "PALIMPSEST_TOKEN", frozenset(SCOPES), None)

    @classmethod
    def from_metrics_token(cls, tenant: str) -> Principal:
        """Who scrapes /metrics; no other route accepts that token."""
        return cls(tenant, None, "PALIMPSEST_METRICS_TOKEN", frozenset({ADMIN}), None, False)

    @classmethod
    def from_key(cls, key: Key) -> Principal:
        return cls(key.tenant, key.id, key.label, key.scopes, key.expires_at)

    @property
    def actor(self) -> str:
        """As the access log names it."""
        return self.key or TOKEN_ACTOR


def current_principal() -> Principal:
    """Who has sent this request."""
    return cast(Principal, g.principal)
