"""Every `PALIMPSEST_*`."""

from __future__ import annotations

import math
import types
from typing import Any, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from deploy.docs.markdown import end_sentence, escape_text, format_number, write_code, write_table
from shared.config import FOREVER, PREFIX, Settings

_TEXT = """# Settings

Every setting is an environment variable. A process refuses to start if its environment contains an
unknown variable with the prefix `PALIMPSEST_`, and names the most similar known one. All processes
of a system must have the same `PALIMPSEST_LEASE_S`. Units stand in the names; `_DAYS` also takes
`forever`. The [compose file](../../deploy/README.md) has some defaults of its own.

"""
_CLIENT = """
## The client and the command line

The [Python client](../python-client.md) and `palimpsest` read two variables:

| variable | meaning |
|---|---|
| `PALIMPSEST_URL` | where the gateway is. Not set: the gateway that `make serve` has started in this folder |
| `PALIMPSEST_TOKEN` | a key, or the gateway's token |
"""


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    rows = [
        (
            write_code(f"{PREFIX}{name.upper()}"),
            _name_type(info.annotation, info),
            _write_default(info.default),
            end_sentence(escape_text(_describe(info))),
        )
        for name, info in Settings.model_fields.items()
    ]
    table = write_table(("variable", "type", "default", "meaning"), rows)
    return {"settings.md": _TEXT + table + _CLIENT}


def _describe(info: FieldInfo) -> str:
    return info.description or ""


def _name_type(annotation: Any, info: FieldInfo) -> str:
    choices = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = choices[0]
    names = {int: "whole number", float: "number", str: "text", SecretStr: "secret text"}
    bounds = [
        f"{sign} {format_number(getattr(one, attribute))}"
        for one in info.metadata
        for attribute, sign in (
            ("gt", "more than"),
            ("ge", "at least"),
            ("lt", "less than"),
            ("le", "at most"),
        )
        if getattr(one, attribute, None) is not None
    ]
    return ", ".join([names.get(annotation, "path"), *bounds])


def _write_default(default: Any) -> str:
    if default is None or default == "":
        return "not set"
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, float | int):
        return write_code(
            FOREVER if math.isinf(default) else format_number(default).replace(",", "")
        )
    return write_code(str(default))
