"""COMPARISON artifacts as they arrive: untrusted bytes."""

from __future__ import annotations

from shared.comparison import MAX_BYTES, Comparison
from shared.reporting.evaluations import parse_record


def read_comparison(data: bytes, role: str) -> Comparison:
    """Parse one COMPARISON.

    Raises:
        InvalidRequest: see `parse_record`.
    """
    return parse_record(Comparison, data, role, MAX_BYTES)
