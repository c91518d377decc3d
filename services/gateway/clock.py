"""The time of a request: the database's clock, read once."""

from __future__ import annotations

from flask import g

from services.gateway.deps import current_gateway
from shared.jobs import monitoring


def read_request_time() -> float:
    """When this request is answered, in seconds since 1970. Raises TransientError."""
    if "request_time" not in g:
        g.request_time = monitoring.read_clock(current_gateway().deps.db)
    return float(g.request_time)
