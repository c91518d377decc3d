"""The site's colours, typefaces and mark: those of the report and of the console."""

from __future__ import annotations

from deploy.docs.repository import ROOT

_FILES = {
    "assets/theme.css": "shared/reporting/templates/theme.css",
    "assets/logo.svg": "services/gateway/console/static/icon.svg",
}


def read_files() -> dict[str, str]:
    """Path in the site -> text."""
    return {name: (ROOT / path).read_text() for name, path in _FILES.items()}
