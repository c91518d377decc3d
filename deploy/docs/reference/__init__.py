"""Reference pages, each written from the code that it describes."""

from __future__ import annotations

from deploy.docs.reference import (
    admin,
    api,
    catalog,
    client,
    command_line,
    exit_statuses,
    metrics,
    problems,
    report,
    roles,
    settings,
)

_MODULES = (
    catalog, settings, roles, problems, api, command_line, admin, client, report, metrics, exit_statuses,
)  # fmt: skip


def write_pages() -> dict[str, str]:
    """Path in the site -> text: Markdown of pages, and the JSON documents beside them."""
    return {
        f"reference/{name}": text
        for module in _MODULES
        for name, text in module.write_pages().items()
    }
