"""What a job has found, in brief: a small JSON object that its stage gives beside the outputs.

It is for lists and pages, which cannot read artifacts. No result depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidRequest

MAX_BYTES = 2048
REPORT_STAGE = "report"  # its summary is the verdict on its audit
MAX_HEADLINE_LENGTH = 300  # characters; each takes up to 6 bytes of JSON


def encode_summary(summary: Mapping[str, Any]) -> str:
    """As it is stored.

    Raises:
        InvalidRequest: it is larger than `MAX_BYTES`, or no JSON object.
    """
    try:
        text = json.dumps(dict(summary), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"a summary must be JSON: {error}", "summary") from None
    if len(text.encode()) > MAX_BYTES:
        raise InvalidRequest(
            f"a summary has at most {MAX_BYTES} bytes of JSON, and this one {len(text.encode())}: "
            "give only what a list should show",
            "summary",
        )
    return text


def decode_summary(text: str | None) -> Mapping[str, Any] | None:
    """What was stored; None also for what no stage of this version would have stored."""
    if text is None or len(text.encode()) > MAX_BYTES:
        return None
    summary = json.loads(text)
    return summary if isinstance(summary, dict) else None


def make_verdict_summary(level: str, headline: str) -> dict[str, str]:
    """The summary of a report."""
    if len(headline) > MAX_HEADLINE_LENGTH:
        headline = headline[: MAX_HEADLINE_LENGTH - 1] + "…"
    return {"level": level, "headline": headline}


def read_verdict(summary: Mapping[str, Any] | None) -> Mapping[str, str] | None:
    """Level and headline of a report's summary; None if it has none."""
    if summary is None:
        return None
    level, headline = summary.get("level"), summary.get("headline")
    if not isinstance(level, str) or not isinstance(headline, str):
        return None
    return {"level": level, "headline": headline}
