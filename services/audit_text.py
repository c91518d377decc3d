"""Strict reading of audits that are written in YAML; every error names its line.

YAML 1.2, in which duplicate keys and unquoted dates are refused. The command line reads files with
it, and the console what a browser sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

MAX_BYTES = 1 << 20
MAX_VALUES = 10_000  # with aliases expanded: a few lines of aliases can stand for billions
MAX_DEPTH = 50
MAX_QUOTED_CHARS = 100

_TAG_PREFIX = "tag:yaml.org,2002:"
_ALLOWED_TAGS = {
    _TAG_PREFIX + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")
}
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_NON_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_TOO_MUCH = f"more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} levels deep"


class AuditTextError(Exception):
    """The text is no audit; the message names the line, and may have several lines itself."""


@dataclass(frozen=True)
class AuditText:
    """An audit and where each value stands in its text.

    name: of the file, for messages.
    """

    name: str
    spec: dict[str, Any]
    text: str
    root: Node

    def format_error(self, field: str, message: str) -> str:
        """The error message for the value at a dotted path, with its line; without a path, for the
        whole file."""
        if not field:
            return f"{self.name}: {message}"
        start, end = _locate(self.root, field)
        return _quote_line(self.name, self.text, start, end, message)


def parse_audit_text(data: bytes, name: str) -> AuditText:
    """Read an audit.

    Args:
        name: of the file that it comes from, for messages.

    Raises:
        AuditTextError: it is too large, or not an audit.
    """
    text = _decode(data, name)
    spec: Any = None
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = MAX_DEPTH
        root = yaml.compose(text)
        if root is not None:
            _check_nodes(root, lambda node, message: _refuse(name, text, node, message))
            spec = yaml.constructor.construct_document(root)
            json.dumps(spec, allow_nan=False)  # 1e999 is a number in YAML, and infinite
    except MaxDepthExceededError as error:
        raise AuditTextError(
            _quote_line(name, text, error.problem_mark, None, _TOO_MUCH)
        ) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not YAML: {' '.join(filter(None, (error.context, error.problem)))}"
        raise AuditTextError(
            _quote_line(name, text, mark, None, message) if mark else f"{name}: {message}"
        ) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise AuditTextError(
            f"{name}:{line}: not YAML: {error.reason} (#x{error.character:04x})"
        ) from error
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise AuditTextError(
            f"cannot read {name} as an audit: {' '.join(str(error).split())}"
        ) from error
    if root is None or not isinstance(spec, dict):
        raise AuditTextError(
            f"{name} is not an audit: it must be a mapping with dataset, model, unlearning "
            "and attacks"
        )
    return AuditText(name, spec, text, root)


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise AuditTextError(
            f"{name} is too large for an audit: the limit is {MAX_BYTES >> 20} MiB"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AuditTextError(f"{name}:{line}: not YAML: the file is not UTF-8") from error


def _check_nodes(root: Node, refuse: Callable[[Node, str], None]) -> None:
    """Refuse values that JSON cannot express, and keys that hide another value."""
    for count, (node, depth) in enumerate(_walk_nodes(root, 0)):
        if count > MAX_VALUES or depth > MAX_DEPTH:
            refuse(node, _TOO_MUCH)
        if node.tag == f"{_TAG_PREFIX}int" and _OCTAL.fullmatch(node.value):
            refuse(
                node,
                f"YAML reads {node.value} as a number without its leading zeros: "
                "put it in quotes, or remove them",
            )
        if node.tag == f"{_TAG_PREFIX}timestamp":
            refuse(node, f"YAML reads {node.value} as a date: put it in quotes")
        if node.tag not in _ALLOWED_TAGS:
            refuse(node, f"unsupported YAML tag {str(node.tag).removeprefix(_TAG_PREFIX)!r}")
        if node.tag == f"{_TAG_PREFIX}float" and _NON_FINITE.fullmatch(node.value):
            refuse(node, f"{node.value} is not a finite number")
        if isinstance(node, MappingNode):
            _check_keys(node, refuse)


def _check_keys(node: MappingNode, refuse: Callable[[Node, str], None]) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if key.tag == f"{_TAG_PREFIX}merge":
            continue
        if key.tag != f"{_TAG_PREFIX}str":
            refuse(key, "a key must be a string: put it in quotes")
        if key.value in seen:
            refuse(key, f"duplicate key {key.value!r}, first given in line {seen[key.value]}")
        seen[key.value] = key.start_mark.line + 1


def _walk_nodes(node: Node, depth: int) -> Iterator[tuple[Node, int]]:
    yield node, depth
    for child in _list_children(node):
        yield from _walk_nodes(child, depth + 1)


def _list_children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _refuse(name: str, text: str, node: Node, message: str) -> None:
    raise AuditTextError(_quote_line(name, text, node.start_mark, node.end_mark, message))


def _locate(node: Node, field: str) -> tuple[StringMark, StringMark]:
    """Start and end of the value at a path, with its key; of the deepest part of the path that
    exists."""
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


def _quote_line(
    name: str, text: str, start: StringMark, end: StringMark | None, message: str
) -> str:
    """`FILE:LINE: message`, the line, and a pointer below it."""
    lines = text.splitlines()
    headline = f"{name}:{start.line + 1}: {message}"
    if start.line >= len(lines):
        return headline
    line = lines[start.line].replace("\t", " ").rstrip()
    end_column = end.column if end is not None and end.line == start.line else len(line)
    # an audit may be one line of JSON
    first_column = (
        max(0, start.column - MAX_QUOTED_CHARS // 2) if len(line) > MAX_QUOTED_CHARS else 0
    )
    line, end_column = (
        line[first_column : first_column + MAX_QUOTED_CHARS],
        min(end_column - first_column, MAX_QUOTED_CHARS),
    )
    prefix = f"{start.line + 1} | "
    pointer = " " * (len(prefix) + start.column - first_column) + "^" * max(
        1, end_column - (start.column - first_column)
    )
    return f"{headline}\n  {prefix}{line}\n  {pointer}"
