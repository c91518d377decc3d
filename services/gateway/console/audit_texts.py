"""An audit as text to take along: YAML, a command line, and a request with curl."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from services.values import format_value
from shared.reporting.as_yaml import shorten_choices, to_yaml

FILE = "audit.yaml"
# options of `palimpsest audit` that are not called as their field
_OPTIONS = {"defenses": "defense", "attacks": "attack", "seeds": "seed", "releases": "release",
            "labels": "label"}  # fmt: skip
_CHOICES = frozenset({"dataset", "model", "unlearning", "defenses", "attacks"})
_NEGATABLE = "check_forgetting"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PARAM_NAME = re.compile(r"[A-Za-z_]\w*")
_NEXT_PARAM = re.compile(r",[A-Za-z_][\w.]*=")  # begins another parameter, wherever it stands


class AuditText(NamedTuple):
    """One way to write the audit."""

    id: str
    title: str
    text: str


class _Inexpressible(Exception):
    """There is no option for it."""


def write_texts(body: Mapping[str, Any], url: str) -> list[AuditText]:
    """The audit as YAML, as a command line and as a request.

    Args:
        body: of POST /v1/audits.
        url: of the gateway.
    """
    short = shorten_choices(body)
    return [
        AuditText("yaml", "YAML", to_yaml(short)),
        AuditText("cli", "Command line", write_command(short)),
        AuditText("curl", "curl", write_curl(short, url)),
    ]


def write_command(body: Mapping[str, Any]) -> str:
    """A line that `palimpsest audit` reads as this audit; of a file, where options cannot say it."""
    try:
        options = [_write_option(name, value) for name, value in _list_options(body)]
    except _Inexpressible:
        return f"# save the YAML as {FILE}\npalimpsest audit {FILE}\n"
    return " \\\n    ".join(["palimpsest audit", *options]) + "\n"


def write_curl(body: Mapping[str, Any], url: str) -> str:
    """The request, with the key in the environment."""
    text = json.dumps(body, indent=2, ensure_ascii=False)
    return (
        f"curl -sS {shlex.quote(url.rstrip('/') + '/v1/audits')} \\\n"
        '    -H "Authorization: Bearer $PALIMPSEST_TOKEN" \\\n'
        "    -H 'Content-Type: application/json' \\\n"
        f"    --data-binary @- <<'JSON'\n{text}\nJSON\n"
    )


def _write_option(name: str, value: str | None) -> str:
    option = f"--{name.replace('_', '-')}"
    if value is None:
        return option
    quoted = shlex.quote(value)
    return f"{option}={quoted}" if value.startswith("-") else f"{option} {quoted}"


def _list_options(body: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Options with their values, in the order of the body; None is a switch."""
    for field, value in body.items():
        option = _OPTIONS.get(field, field)
        if field in _CHOICES:
            for choice in value if isinstance(value, list) else [value]:
                yield option, _write_choice(choice)
        elif field == "releases":
            for release in value:
                if "method" in release:
                    raise _Inexpressible
                yield option, f"{release['name']}={_join(release['weights'])}"
        elif field == "retrained":
            for weights in value:
                yield option, _join(weights)
        elif field == "seeds":
            for seed in value:
                yield option, format_value(seed)
        elif field == "labels":
            for key, text in value.items():
                yield option, f"{key}={text}"
        elif isinstance(value, bool):
            if not value and field != _NEGATABLE:
                raise _Inexpressible
            yield option if value else f"no_{option}", None
        elif isinstance(value, dict):
            for key, one in value.items():
                yield option, _write_param(key, one)
        else:
            yield option, value if isinstance(value, str) else format_value(value)


def _join(parts: list[Any]) -> str:
    if not all(isinstance(part, str) and "," not in part for part in parts):
        raise _Inexpressible
    return ",".join(parts)


def _write_choice(choice: Any) -> str:
    """`feature_recovery:iterations=200,preset=fast`, or `declared:mine`."""
    if isinstance(choice, str):
        choice = {"name": choice}
    if "declared" in choice:
        version = f"@{choice['version']}" if choice.get("version") else ""
        return f"declared:{choice['declared']}{version}"
    if not _PLAIN_NAME.fullmatch(choice["name"]) or choice["name"] == "declared":
        raise _Inexpressible
    params = choice.get("params") or {}
    if not isinstance(params, dict):
        raise _Inexpressible
    written = [_write_param(name, value) for name, value in params.items()]
    if any(_NEXT_PARAM.search(text) for text in written):
        raise _Inexpressible
    return f"{choice['name']}:{','.join(written)}" if written else choice["name"]


def _write_param(name: str, value: Any) -> str:
    if not _PARAM_NAME.fullmatch(name):  # a dot begins an inner parameter
        raise _Inexpressible
    return f"{name}={format_value(value)}"
