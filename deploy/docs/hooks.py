"""What mkdocs calls while it builds the site: adds pages from the rest of the repository and from
the code, and points links at them."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from deploy.docs import reference, repository, theme
from deploy.docs.nav import expand_nav

_SOURCES = {page: path for path, page in repository.PAGES.items() if page != "index.md"}
_TITLES: dict[str, str] = {}  # of pages by the path of their file, filled once all are known
_HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""
    texts = {
        f"{repository.DOCS}/{file.src_uri}": file.content_string
        for file in files.documentation_pages()
    }
    for path, page in repository.PAGES.items():
        if page != "index.md":
            texts[path] = repository.read_page(path)
            _add(files, config, page, texts[path])
    for page, text in reference.write_pages().items():
        texts[f"{repository.DOCS}/{page}"] = text
        _add(files, config, page, text)
    _TITLES.update({path: repository.read_title(text) for path, text in texts.items()})
    for path in repository.iter_linked_files(texts):
        text = _HIDDEN + repository.read_page(path)
        _add(files, config, repository.find_page(path), text, InclusionLevel.NOT_IN_NAV)
    for name, text in theme.read_files().items():
        _add(files, config, name, text)
    shown = [file.src_uri for file in files.documentation_pages(inclusion=InclusionLevel.is_in_nav)]
    config.nav = expand_nav(config.nav or [], shown)
    return files


def _add(
    files: Files,
    config: MkDocsConfig,
    name: str,
    text: str,
    inclusion: InclusionLevel = InclusionLevel.UNDEFINED,
) -> None:
    files.append(File.generated(config, name, content=text, inclusion=inclusion))


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Point links to files of the repository at their pages."""
    path = _SOURCES.get(page.file.src_uri, f"{repository.DOCS}/{page.file.src_uri}")
    if page.file.src_uri.startswith(f"{repository.FILES}/"):
        path = page.file.src_uri.removeprefix(f"{repository.FILES}/").removesuffix(".md")
    return repository.rewrite_links(markdown, path, page.file.src_uri, _TITLES)
