"""What operators change, from the API or from a page: keys, stages that are paused, workers that are
drained."""

from __future__ import annotations

from collections.abc import Collection

from services.gateway.access_logging import set_subject
from services.gateway.credentials import get_token
from services.gateway.deps import current_gateway
from services.gateway.queue_reading import has_stage
from shared.errors import InvalidRequest, NotFound
from shared.jobs import keys, stage_pauses, tenants, worker_drains
from shared.jobs.keys import Key
from shared.jobs.quotas import Quotas
from shared.jobs.tenants import Tenant


def create_key(
    tenant: str, label: str, scopes: Collection[str], lifetime_s: float | None
) -> tuple[Key, str]:
    """A new key and its secret, which cannot be read again.

    Raises:
        InvalidRequest: by field: one of these is wrong, or there is no such tenant.
    """
    try:
        key, secret = keys.create_key(current_gateway().deps.db, tenant, label, scopes, lifetime_s)
    except NotFound as error:
        raise InvalidRequest(str(error), "tenant") from error
    set_subject(key.id)
    return key, secret


def revoke_key(key_id: str) -> Key:
    """Make a key invalid for good. Repeatable.

    Raises:
        NotFound: there is no such key.
        Conflict: it is the last valid key that may administer, and there is no token.
    """
    deps = current_gateway().deps
    return keys.revoke_key(deps.db, key_id, has_token=bool(get_token(deps.settings)))


def create_tenant(name: str, quotas: Quotas) -> Tenant:
    """A new tenant.

    Raises:
        InvalidRequest: the name, or a quota, may not be.
        Conflict: it exists.
    """
    created = tenants.create_tenant(current_gateway().deps.db, name, quotas)
    set_subject(created.name)
    return created


def pause_stage(stage: str) -> None:
    """Keep the jobs of a stage from being claimed, for all tenants. Repeatable. Raises NotFound."""
    _require_stage(stage)
    stage_pauses.pause_stage(current_gateway().deps.db, stage)


def resume_stage(stage: str) -> None:
    """Let the jobs of a paused stage be claimed again. Repeatable. Raises NotFound."""
    _require_stage(stage)
    deps = current_gateway().deps
    deps.wakeup_sender.notify(stage_pauses.resume_stage(deps.db, stage))


def _require_stage(stage: str) -> None:
    if not has_stage(stage):
        raise NotFound(f"there is no stage {stage}")


def drain_worker(worker_id: str) -> None:
    """Have a worker return its job and take no other. Repeatable. Raises NotFound."""
    worker_drains.drain_worker(current_gateway().deps.db, worker_id)


def undrain_worker(worker_id: str) -> None:
    """Let a drained worker take jobs again. Repeatable. Raises NotFound."""
    deps = current_gateway().deps
    deps.wakeup_sender.notify(worker_drains.undrain_worker(deps.db, worker_id))
