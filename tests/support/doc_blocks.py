"""The fenced blocks of the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.support.source_tree import ROOT

_OUTSIDE_DOCS = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "deploy/README.md")
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
# What ends a simple command.
_KEYWORDS = {"do", "then", "done", "while", "!", "{", "}"}


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence, from 1."""

    path: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def list_pages() -> list[str]:
    """Every file that users read, from the repository's folder. CHANGELOG.md speaks of the past."""
    inside = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
    return [*_OUTSIDE_DOCS, *inside]


@cache
def list_blocks(language: str | None = None) -> list[Block]:
    """All fenced blocks, or those of one language."""
    found = []
    for path in list_pages():
        text = (ROOT / path).read_text()
        for match in _FENCED.finditer(text):
            body = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
            line = text[: match.start()].count("\n") + 1
            found.append(Block(path, line, match[2], body))
    return [block for block in found if language in (None, block.language)]


def list_inline_code() -> list[Block]:
    """Code on a line of the text."""
    found = []
    for path in list_pages():
        text = (ROOT / path).read_text()
        outside = _FENCED.sub(lambda match: "\n" * match[0].count("\n"), text)
        for match in _INLINE.finditer(outside):
            line = outside[: match.start()].count("\n") + 1
            found.append(Block(path, line, "inline", " ".join(match[1].split())))
    return found


def split_commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, those of substitutions too, as lists of words.

    Bodies of functions and what is quoted stay as they are; a variable is left as its name.
    """
    script = re.sub(r"(^|\s)# .*$", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    for substitution in re.findall(r"\$\(((?:[^()]|\([^()]*\))*)\)", script):
        yield from split_commands(substitution)
    script = re.sub(r"\$\(((?:[^()]|\([^()]*\))*)\)", "SUBSTITUTED", script)
    lexer = shlex.shlex(script.replace("\n", " ; "), posix=True, punctuation_chars=";|&()<>")
    lexer.commenters = ""
    lexer.whitespace_split = True
    words: list[str] = []
    target_follows = False
    for token in lexer:
        if set(token) <= set("<>"):
            target_follows = True
        elif target_follows:
            target_follows = False
        elif set(token) <= set(";|&()") or token in _KEYWORDS:
            if words:
                yield words
            words = []
        elif words or not re.fullmatch(r"\w+=.*", token, re.DOTALL):  # an assignment before it
            words.append(token)
    if words:
        yield words
