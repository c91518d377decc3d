"""Labels and metadata of an audit, for people."""

from __future__ import annotations

from typing import Any

from services.cli.output.console import escape_markup
from services.client import Audit


def format_annotations(audit: Audit) -> dict[str, str]:
    """Labels and metadata as they are printed, without those that are empty."""
    shown: dict[str, Any] = {
        "labels": " ".join(f"{key}={value}" for key, value in audit.labels.items()),
        "metadata": "\n".join(f"{key}: {value}" for key, value in audit.metadata.items()),
    }
    return {name: escape_markup(text, keep="\n") for name, text in shown.items() if text}
