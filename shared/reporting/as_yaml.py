"""A JSON value as YAML, for the reader who wants to post it again. JSON is YAML too, but nobody writes it by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# JSON holds these as they are, YAML wants them escaped; JSON's own escapes are YAML's too.
UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def shortened(audit: Mapping[str, Any]) -> dict[str, Any]:
    """The same audit with less to read: a choice without parameters is its name, and what is empty is left out."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(one) for one in value]
        if isinstance(value, dict) and value.get("params") == {} and value.keys() == {"name", "params"}:
            return value["name"]
        return value

    return {name: short(value) for name, value in audit.items() if value != {}}


def to_yaml(value: Any, indent: int = 0) -> str:
    """Block style; `safe_load` gives the value back."""
    return "\n".join(_lines(value, indent)) + "\n"


def _lines(value: Any, indent: int) -> list[str]:
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for name, inner in value.items():
            if isinstance(inner, (dict, list)) and inner:
                lines += [f"{pad}{_scalar(name)}:", *_lines(inner, indent + 1)]
            else:
                lines.append(f"{pad}{_scalar(name)}: {_scalar(inner)}")
        return lines
    if isinstance(value, list) and value:
        lines = []
        for inner in value:
            first, *others = _lines(inner, indent + 1)
            lines += [f"{pad}- {first.lstrip()}", *others]
        return lines
    return [pad + _scalar(value)]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and value.lower() not in WORDS:
            return value
        return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return json.dumps(value)
