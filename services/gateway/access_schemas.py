"""How tenants, keys and the entries of the access log are shown, by the gateway and by
`palimpsest-admin`. Times are RFC 3339 in UTC."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.schemas import format_rfc3339
from shared.jobs.access_log import Entry
from shared.jobs.keys import Key
from shared.jobs.tenants import MAX_BYTES, MAX_QUOTA, Tenant


class QuotasView(BaseModel):
    """What a tenant may have at most; null is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_queued_jobs: int | None = Field(None, ge=0, le=MAX_QUOTA)
    max_running_jobs: int | None = Field(None, ge=0, le=MAX_QUOTA)
    max_artifact_bytes: int | None = Field(None, ge=0, le=MAX_BYTES)
    max_event_streams: int | None = Field(None, ge=0, le=MAX_QUOTA)
    max_requests_per_minute: int | None = Field(None, ge=0, le=MAX_QUOTA)


class TenantView(BaseModel):
    """One tenant."""

    name: str
    created_at: str
    disabled_at: str | None = Field(
        description="when it was disabled: its keys have been invalid since"
    )
    quotas: QuotasView


class KeyView(BaseModel):
    """One key, without its secret."""

    id: str
    tenant: str
    label: str
    scopes: list[str]
    state: str = Field(description="valid, revoked, disabled (its tenant is) or expired")
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="within a minute")


def serialize_tenant(tenant: Tenant) -> dict[str, Any]:
    """A tenant, as `TenantView` describes it."""
    return {
        "name": tenant.name,
        "created_at": format_rfc3339(tenant.created_at),
        "disabled_at": format_rfc3339(tenant.disabled_at),
        "quotas": asdict(tenant.quotas),
    }


def serialize_key(key: Key) -> dict[str, Any]:
    """A key, as `KeyView` describes it."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "state": key.state,
        "created_at": format_rfc3339(key.created_at),
        "expires_at": format_rfc3339(key.expires_at),
        "revoked_at": format_rfc3339(key.revoked_at),
        "last_used_at": format_rfc3339(key.last_used_at),
    }


def serialize_entry(entry: Entry) -> dict[str, Any]:
    """An entry of the access log."""
    return {
        "at": format_rfc3339(entry.at),
        "tenant": entry.tenant,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "status": entry.status,
    }
