"""Audits as YAML files: read strictly, and every complaint about one names the line.

YAML 1.2, read as people mean it: a key that is given twice is refused and not overwritten, and a word that YAML
would make a date is refused and not sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from services.cli.output import WrongUse

MOST = 1 << 20  # bytes of a file: an audit is a page, not a book
MANY = 10_000  # values, aliases followed: a few lines of aliases can say billions
DEEP = 50
WIDE = 100  # of a line that is quoted

_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_WORDS = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_TOO_MUCH = f"more than {MANY} values, or nested more than {DEEP} deep: that is no audit"


@dataclass(frozen=True)
class AuditFile:
    """What a file says, and where."""

    path: Path
    spec: dict[str, Any]
    text: str
    root: Node

    def complain(self, field: str, message: str) -> str:
        """A complaint about the value at a dotted path, with the line that it is in; without a path, about all."""
        if not field:
            return f"{self.path}: {message}"
        start, end = _place(self.root, field)
        return _quoted(self.path, self.text, start, end, message)


def read(path: Path) -> AuditFile:
    """Read an audit.

    Raises:
        WrongUse: it cannot be read, or is no audit; the text names the line.
    """
    text = _text(path)
    found: Any = None
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = DEEP
        root = yaml.compose(text)
        if root is not None:
            _check(root, lambda node, message: _refuse(path, text, node, message))
            found = yaml.constructor.construct_document(root)
            json.dumps(found, allow_nan=False)  # 1e999 is a number in YAML, and infinite
    except MaxDepthExceededError as error:
        raise WrongUse(_quoted(path, text, error.problem_mark, None, _TOO_MUCH)) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not YAML: {' '.join(filter(None, (error.context, error.problem)))}"
        raise WrongUse(_quoted(path, text, mark, None, message) if mark else f"{path}: {message}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise WrongUse(f"{path}:{line}: not YAML: {error.reason} (#x{error.character:04x})") from error
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise WrongUse(f"{path} cannot be read as an audit: {' '.join(str(error).split())}") from error
    if root is None or not isinstance(found, dict):
        raise WrongUse(f"{path} holds no audit: it must be a mapping with dataset, model, unlearning and attacks")
    return AuditFile(path, found, text, root)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MOST:
        raise WrongUse(f"{path} is no audit: it is larger than {MOST >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WrongUse(f"{path}:{line}: not YAML: it is not written in UTF-8") from error


def _check(root: Node, refuse: Callable[[Node, str], None]) -> None:
    """Refuse what JSON could not say or what hides another value."""
    for count, (node, depth) in enumerate(_every(root, 0)):
        if count > MANY or depth > DEEP:
            refuse(node, _TOO_MUCH)
        if node.tag == f"{_TAG}int" and _OCTAL.fullmatch(node.value):
            refuse(node, f"{node.value} is a number to YAML, without its zeros: put it in quotes, or leave them out")
        if node.tag == f"{_TAG}timestamp":
            refuse(node, f"{node.value} is a date in YAML: put it in quotes")
        if node.tag not in _PLAIN:
            refuse(node, f"{str(node.tag).removeprefix(_TAG)!r} is nothing that an audit can hold")
        if node.tag == f"{_TAG}float" and _WORDS.fullmatch(node.value):
            refuse(node, f"{node.value} is not a number that can be sent")
        if isinstance(node, MappingNode):
            _check_keys(node, refuse)


def _check_keys(node: MappingNode, refuse: Callable[[Node, str], None]) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if key.tag == f"{_TAG}merge":
            continue
        if key.tag != f"{_TAG}str":
            refuse(key, "a key must be a word: put it in quotes")
        if key.value in seen:
            refuse(key, f"{key.value!r} is given twice, first in line {seen[key.value]}")
        seen[key.value] = key.start_mark.line + 1


def _every(node: Node, depth: int) -> Iterator[tuple[Node, int]]:
    yield node, depth
    for child in _children(node):
        yield from _every(child, depth + 1)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _refuse(path: Path, text: str, node: Node, message: str) -> None:
    raise WrongUse(_quoted(path, text, node.start_mark, node.end_mark, message))


def _place(node: Node, field: str) -> tuple[StringMark, StringMark]:
    """Where the value at a path stands, with its key; as far down as the path can be followed."""
    start, end = node.start_mark, node.start_mark
    for part in field.split(".") if field else []:
        if isinstance(node, MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break
            (key, node) = pair
            start, end = key.start_mark, node.end_mark
        elif isinstance(node, SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            start, end = node.start_mark, node.end_mark
        else:
            break
    return start, end


def _quoted(path: Path, text: str, start: StringMark, end: StringMark | None, message: str) -> str:
    """`FILE:LINE: message`, the line, and a pointer below it."""
    lines = text.splitlines()
    told = f"{path}:{start.line + 1}: {message}"
    if start.line >= len(lines):
        return told
    line = lines[start.line].replace("\t", " ").rstrip()
    stop = end.column if end is not None and end.line == start.line else len(line)
    left = max(0, start.column - WIDE // 2) if len(line) > WIDE else 0  # an audit may be one line of JSON
    line, stop = line[left : left + WIDE], min(stop - left, WIDE)
    number = f"{start.line + 1} | "
    pointer = " " * (len(number) + start.column - left) + "^" * max(1, stop - (start.column - left))
    return f"{told}\n  {number}{line}\n  {pointer}"
