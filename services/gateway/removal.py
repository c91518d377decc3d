"""Deleting what a tenant has brought, from the API or from a page. What is deleted with everything
derived from it is not named in the access log either, not even by the entry of its deletion."""

from __future__ import annotations

from services.gateway.access_logging import leave_subject_out
from services.gateway.deps import current_gateway, current_store
from shared.jobs.declarations import Kind
from shared.jobs.erasure import Erasure
from shared.jobs.retention import Retention


def remove_upload(sha256: str, *, derived: bool) -> Erasure | None:
    """Delete an upload; with `derived`, with what was made of it. Returns what was erased, None
    without `derived`.

    Raises:
        NotFound: there is no such upload.
        Conflict: jobs that have not ended need it, or a declaration refers to it.
    """
    artifacts, store = current_gateway().deps.artifacts, current_store()
    if not derived:
        store.delete_upload(artifacts, sha256)
        return None
    leave_subject_out()
    return store.erase(artifacts, [sha256])


def remove_declarations(
    kind: Kind, name: str, version: int | None, *, derived: bool
) -> Erasure | None:
    """Delete one version, or all of them; with `derived`, with the uploads and what was made of
    them. Returns what was erased, None without `derived`.

    Raises:
        NotFound: there is no such declaration.
        Conflict: jobs that have not ended need it, or another declaration refers to it.
    """
    deps, store = current_gateway().deps, current_store()
    lifetime_s = Retention.from_settings(deps.settings).uploads_s
    if not derived:
        store.delete_declarations(kind, name, version, lifetime_s=lifetime_s)
        return None
    leave_subject_out()
    return store.erase_declarations(deps.artifacts, kind, name, version, lifetime_s=lifetime_s)
