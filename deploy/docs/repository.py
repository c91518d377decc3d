"""Pages from files of the repository: which file becomes which page, and where links lead.

Files in docs/ keep their names. A few others have a page of their own (`PAGES`); any other file that
a page links to is shown as it is, below `files/`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.docs.markdown import write_block

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "compose.md",
    "examples/walkthrough.ipynb": "walkthrough.md",
    "examples/own/own_model.ipynb": "own-model-walkthrough.md",
}
FILES = "files"
_LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml"}
# Outside of fenced blocks: ](target) of a link or a picture, and [file.md](target).
_FENCED = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_NAMED_LINK = re.compile(r"\[[\w./-]+\.md\]\(([^)\s]+)\)")


def find_page(path: str) -> str:
    """The page, or the file of the site, that a path in the repository becomes."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    return f"{FILES}/{path}.md"


def list_links(text: str, path: str) -> list[str]:
    """The files and folders of the repository that the text of a file links to."""
    links = [target for part in _split_fenced(text)[::2] for target in _LINK.findall(part)]
    return [resolved for link in links if (resolved := _resolve(link, path))]


def read_title(text: str) -> str:
    """The title of a page; empty if it has none."""
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    return heading[1] if heading else ""


def rewrite_links(text: str, path: str, page: str, titles: Mapping[str, str]) -> str:
    """The text of a file, with its links as the page needs them. A link whose text is the name of a
    file gets the title of its page (`titles`, by path)."""

    def name(match: re.Match[str]) -> str:
        title = titles.get(_resolve(match[1], path) or "")
        return f"[{title}]({match[1]})" if title else match[0]

    def rewrite(match: re.Match[str]) -> str:
        target = match[1]
        resolved = _resolve(target, path)
        if resolved is None:
            return target
        relative = posixpath.relpath(find_page(resolved), posixpath.dirname(page) or ".")
        _, hash_mark, anchor = target.partition("#")
        return f"{relative}{hash_mark}{anchor}"

    parts = _split_fenced(text)
    parts[::2] = [_LINK.sub(rewrite, _NAMED_LINK.sub(name, part)) for part in parts[::2]]
    return "".join(parts)


def _split_fenced(text: str) -> list[str]:
    """Text, block, text, block ... text."""
    parts, end = [], 0
    for match in _FENCED.finditer(text):
        parts += [text[end : match.start()], match[0]]
        end = match.end()
    return [*parts, text[end:]]


def _resolve(target: str, path: str) -> str | None:
    """The path in the repository; None for an anchor or an address."""
    file = target.partition("#")[0]
    if not file or re.match(r"[a-z]+:", file):
        return None
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
    if (ROOT / resolved / "README.md").is_file():
        return f"{resolved}/README.md"
    return resolved


def iter_linked_files(texts: dict[str, str]) -> Iterator[str]:
    """Files outside docs/ that these texts (path -> text) link to, directly or through another."""
    seen, waiting = set(texts), dict(texts)
    while waiting:
        path, text = waiting.popitem()
        for link in list_links(text, path):
            if link in seen or link.startswith(f"{DOCS}/") or link in PAGES:
                continue
            seen.add(link)
            yield link
            if link.endswith(".md") or (ROOT / link).is_dir():
                waiting[link] = read_page(link)


def read_page(path: str) -> str:
    """A file or folder of the repository as the Markdown of a page.

    Raises:
        FileNotFoundError: a page links to what is not there.
    """
    file = ROOT / path
    if file.is_dir():
        links = [f"- [{one.name}]({file.name}/{one.name})" for one in _list_files(file)]
        return f"# {path}\n\n" + "\n".join(links) + "\n"
    text = file.read_text()
    if file.suffix == ".md":
        return text
    if file.suffix == ".ipynb":
        return _write_notebook(json.loads(text), path)
    return f"# {path}\n\n" + write_block(text, _LANGUAGES.get(file.suffix, ""))


def _list_files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file() and one.name != "__init__.py")


def _write_notebook(notebook: dict[str, Any], path: str) -> str:
    parts = []
    for cell in notebook["cells"]:
        source = "".join(str(line) for line in cell["source"])
        parts.append(
            write_block(source, "python") if cell["cell_type"] == "code" else source + "\n"
        )
    return "\n".join(parts) + f"\nThis page is the notebook `{path}`.\n"
