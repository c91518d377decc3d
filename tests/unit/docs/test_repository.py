"""Pages from files of the repository: where links lead, and the navigation."""

from __future__ import annotations

import pytest

from deploy.docs.nav import expand_nav
from deploy.docs.repository import PAGES, find_page, list_links, read_page, rewrite_links
from tests.support.doc_blocks import list_pages
from tests.support.source_tree import ROOT


@pytest.mark.parametrize(
    ("text", "path", "rewritten"),
    [
        ("[a](data.md#pictures)", "docs/audits.md", "[a](data.md#pictures)"),
        ("[a](../SECURITY.md#keys)", "docs/audits.md", "[a](security.md#keys)"),
        ("[a](../../deploy/README.md)", "docs/adding/stage.md", "[a](../compose.md)"),
        ("[a](docs/data.md)", "README.md", "[a](data.md)"),
        ("[a](../examples/demo.yaml)", "docs/audits.md", "[a](files/examples/demo.yaml.md)"),
        ("[a](#pictures)", "docs/audits.md", "[a](#pictures)"),
        ("[a](https://example.org/x.md)", "docs/audits.md", "[a](https://example.org/x.md)"),
        ("```\n[a](../SECURITY.md)\n```\n", "docs/audits.md", "```\n[a](../SECURITY.md)\n```\n"),
    ],
)  # fmt: skip
def test_links_lead_to_pages(text: str, path: str, rewritten: str) -> None:
    page = path.removeprefix("docs/")
    assert rewrite_links(text, path, page, {}) == rewritten


def test_a_link_named_after_a_file_gets_the_title_of_the_page() -> None:
    text = "see [docs/data.md](data.md#x) and [more](data.md)"
    rewritten = rewrite_links(text, "docs/audits.md", "audits.md", {"docs/data.md": "Data"})
    assert rewritten == "see [Data](data.md#x) and [more](data.md)"


def test_every_link_between_files_leads_somewhere() -> None:
    """On the site and in the repository, where they are read too."""
    for path in [*list_pages(), "CHANGELOG.md"]:
        for link in list_links((ROOT / path).read_text(), path):
            assert (ROOT / link).exists() or link.startswith("docs/reference/"), f"{path}: {link}"


def test_a_file_has_one_page() -> None:
    assert find_page("docs/data.md") == "data.md"
    assert find_page("SECURITY.md") == "security.md"
    assert find_page("examples/demo.yaml") == "files/examples/demo.yaml.md"
    assert len(set(PAGES.values())) == len(PAGES)


def test_a_notebook_is_text_and_code() -> None:
    text = read_page("examples/walkthrough.ipynb")
    assert text.startswith("# ")
    assert "```python\n" in text


def test_patterns_stand_for_what_no_entry_names() -> None:
    nav = ["index.md", {"Reference": ["api/jobs.md", "api/*"]}, {"More": ["*.md"]}]
    pages = ["index.md", "api/README.md", "api/keys.md", "api/jobs.md", "console.md"]
    assert expand_nav(nav, pages) == [
        "index.md",
        {"Reference": ["api/jobs.md", "api/README.md", "api/keys.md"]},
        {"More": ["console.md"]},
    ]
