"""Reference pages, each written from the code that it describes."""

from __future__ import annotations


def write_pages() -> dict[str, str]:
    """Path of the page in the site -> its Markdown."""
    return {}
