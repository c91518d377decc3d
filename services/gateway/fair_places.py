"""Places that tenants share, such as open streams: none may keep all of them from the others."""

from __future__ import annotations

from collections.abc import Mapping

RESERVED_SHARE = 4  # one of so many places is for tenants that have none


def has_place(tenant: str, taken: Mapping[str, int], limit: int) -> bool:
    """Whether a tenant may take another place. One that has any leaves the last quarter to those
    that have none: it can hold its places for as long as it likes.

    Args:
        taken: places of each tenant that has some.
        limit: how many places there are.
    """
    free = limit - sum(taken.values())
    return free > (limit // RESERVED_SHARE if taken.get(tenant) else 0)
