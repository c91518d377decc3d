"""The navigation of mkdocs.yml, in which `folder/*` stands for the pages of that folder that no other
entry names: whoever adds a resource, a kind of plugin or a page need not add an entry."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from typing import Any

Entry = Any  # a page, or a dict of a title and a page or entries


def expand_nav(nav: Iterable[Entry], pages: Iterable[str]) -> list[Entry]:
    """The entries with their patterns replaced; a README comes first, as it introduces the others."""
    nav = list(nav)
    named = set(_iter_names(nav))
    unnamed = sorted(
        (page for page in pages if page not in named), key=lambda page: ("README" not in page, page)
    )
    return list(_expand(nav, unnamed))


def _iter_names(nav: Iterable[Entry]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, dict):
            for inner in entry.values():
                yield from _iter_names(inner if isinstance(inner, list) else [inner])
        else:
            yield entry


def _expand(nav: Iterable[Entry], unnamed: list[str]) -> Iterator[Entry]:
    for entry in nav:
        if isinstance(entry, dict):
            yield {
                title: list(_expand(inner, unnamed)) if isinstance(inner, list) else inner
                for title, inner in entry.items()
            }
        elif "*" in entry:
            folder = posixpath.dirname(entry)
            yield from (
                page
                for page in unnamed
                if posixpath.dirname(page) == folder and fnmatch(page, entry)
            )
        else:
            yield entry
