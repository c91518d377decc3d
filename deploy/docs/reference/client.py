"""The Python client: classes, methods and errors with their docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import services.client as package
from deploy.docs.markdown import end_sentence, escape_text, write_block, write_table
from services.client import calls
from services.client.errors import ClientError

_TEXT = """# Python client

`from palimpsest import Client`: [the Python client](../python-client.md) has examples of all of it.
`AsyncClient` has the methods of `Client`; those that return one thing are awaited, and those that
return an iterator are iterated with `async for`.

"""
_WIDTH = 88


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    exported = [getattr(package, name) for name in package.__all__]
    classes = [one for one in exported if inspect.isclass(one)]
    errors = [one for one in classes if issubclass(one, ClientError)]
    records = [
        one for one in classes if one not in (*errors, package.Client, package.AsyncClient)
    ]  # fmt: skip
    parts = [_TEXT, "## Client\n", _write_class(package.Client, package.AsyncClient)]
    for name, method in inspect.getmembers(package.Client, inspect.isfunction):
        if not name.startswith("_"):
            parts.append(_write_method(name, method, "###"))
    parts.append("### Options of submit_job and dry_run_job\n")
    parts.append(_write_signature("options", calls.build_job))
    parts.append("## What methods return and take\n")
    parts += [f"### {one.__name__}\n\n{_write_class(one, one)}" for one in records]
    parts.append("## Errors\n")
    rows = [
        (f"`{one.__name__}`", f"`{one.__mro__[1].__name__}`", _write_doc(one).replace("\n", " "))
        for one in errors
    ]
    parts.append(write_table(("error", "is a", "when"), rows))
    return {"python-client.md": "\n".join(parts)}


def _write_class(shown: type, documented: type) -> str:
    parameters = inspect.signature(shown)
    text = write_block(_wrap(f"{shown.__name__}{parameters}"), "python")
    extra = [
        _write_method(name, method)
        for name, method in vars(shown).items()
        if inspect.isfunction(method) and not name.startswith("_") and shown is not package.Client
    ]
    return "\n".join([text, _write_doc(documented), "", *extra])


def _write_method(name: str, method: Any, heading: str = "####") -> str:
    return f"{heading} {name}\n\n{_write_signature(name, method)}"


def _write_signature(name: str, method: Any) -> str:
    signature = str(inspect.signature(method)).replace("(self, ", "(").replace("(self)", "()")
    code = write_block(_wrap(f"{name}{signature}"), "python")
    return f"{code}\n{_write_doc(method)}\n"


def _wrap(signature: str) -> str:
    """One line if it fits, otherwise a parameter on each."""
    signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", signature.replace("'", ""))
    if len(signature) <= _WIDTH:
        return signature
    name, rest = signature.split("(", 1)
    inside, result = rest.rsplit(")", 1)
    parameters = re.split(r", (?![^\[]*\])", inside)
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{name}(\n{lines}){result}"


def _write_doc(documented: Any) -> str:
    """A docstring as Markdown: `Args:` and `Raises:` as lists."""
    doc = inspect.getdoc(documented) or ""
    is_dataclass = isinstance(documented, type) and dataclasses.is_dataclass(documented)
    if is_dataclass and doc.startswith(f"{documented.__name__}("):
        return ""  # made by dataclass itself
    paragraphs = []
    for paragraph in doc.split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if head in ("Args:", "Raises:", "Yields:", "Returns:"):
            title = {"Args:": "Arguments:", "Raises:": "Errors:"}.get(head, head)
            paragraphs.append(f"{title}\n\n{_write_list(inspect.cleandoc(rest))}")
        elif re.match(r"\w+(, \w+)*: ", head):
            paragraphs.append(_write_list(paragraph))
        else:
            paragraphs.append(escape_text(" ".join(paragraph.split())))
    return (
        end_sentence("\n\n".join(paragraphs)) if len(paragraphs) == 1 else "\n\n".join(paragraphs)
    )


def _write_list(text: str) -> str:
    """`name: what it is`, whose further lines are indented, as a list."""
    items = re.split(r"\n(?=\S)", text)
    lines = []
    for item in items:
        name, colon, meaning = " ".join(item.split()).partition(": ")
        lines.append(f"- `{name}`: {escape_text(meaning)}" if colon else f"- {escape_text(name)}")
    return "\n".join(lines)
