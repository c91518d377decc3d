"""Where the weights of an audit of brought models come from."""

from __future__ import annotations

from shared.jobs.planner import Asset
from shared.jobs.spec import AuditSpec
from shared.roles import Role


def list_brought_weights(spec: AuditSpec, release: int) -> dict[str, Asset]:
    """The uploads of one release, by the roles in which stages take them; none if the audit trains
    its models itself."""
    if not spec.is_brought:
        return {}
    files = {Role.ORIGINAL_WEIGHTS: spec.original, Role.BASE_WEIGHTS: spec.base}
    weights = {str(role): Asset(sha256) for role, sha256 in files.items() if sha256}
    retrained = [sha256 for seeds in spec.retrained for sha256 in seeds]
    for role, listed in (
        (Role.RELEASED_WEIGHTS, spec.releases[release].weights),
        (Role.RETRAINED_WEIGHTS, retrained),  # by deletion, then by seed
    ):
        weights |= {f"{role}_{n}": Asset(sha256) for n, sha256 in enumerate(listed, start=1)}
    return weights
