"""SELF_TEST artifacts as they arrive: untrusted bytes."""

from __future__ import annotations

import hashlib

from shared.errors import InvalidRequest
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import parse_json
from shared.reporting.models import SelfTest


def read_self_test(data: bytes, role: str) -> SelfTest:
    """Parse one SELF_TEST; its digest is the sha256 of its bytes.

    Raises:
        InvalidRequest: not JSON, or not of that shape; the message names the role.
    """
    field = f"inputs.{role}"
    value = parse_json(data, role, field)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{role} must be an object", field)
    return validate_model(
        SelfTest, value | {"digest": hashlib.sha256(data).hexdigest()}, role, field
    )
