"""COMPARISON artifacts as they arrive: untrusted bytes."""

from __future__ import annotations

from shared.comparison import MAX_BYTES, Comparison
from shared.errors import InvalidRequest
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import parse_json


def read_comparison(data: bytes, role: str) -> Comparison:
    """Parse one COMPARISON.

    Raises:
        InvalidRequest: too large, not JSON, or not of that shape; the message names the role.
    """
    field = f"inputs.{role}"
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{role} is larger than {MAX_BYTES >> 20} MiB", field)
    return validate_model(Comparison, parse_json(data, role, field), role, field)
