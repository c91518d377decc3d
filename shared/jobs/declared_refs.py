"""How an audit refers to what was declared: `{model: before, version: 2}` in place of a digest,
`{declared: mine}` in place of a data set.

Inside an audit both are text, `model:before@2` and `declared:mine`, until they are resolved.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.plugin_ref import PluginRef

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
VERSION = r"[1-9][0-9]{0,8}"
MODEL_PREFIX, DATASET_PREFIX = "model:", "declared:"
# the architecture of an audit that leaves it to the declared original
DECLARED = "declared"

_REFERENCE = re.compile(rf"(?:{MODEL_PREFIX}|{DATASET_PREFIX})?({NAME})(?:@({VERSION}))?")

DeclaredName = Annotated[
    str, Field(pattern=rf"^{NAME}(@{VERSION})?$", description="NAME, or NAME@VERSION")
]
Version = Annotated[int, Field(ge=1, lt=10**9)]


class Reference(NamedTuple):
    """A declared name; without a version, the newest."""

    name: str
    version: int | None


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Version | None = Field(None, description="the newest if left out")


class DeclaredModel(_Declared):
    """A declared model."""

    model: DeclaredName


class DeclaredDataset(_Declared):
    """A declared data set."""

    declared: DeclaredName


def _write_model(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    reference = DeclaredModel.model_validate(value)
    return MODEL_PREFIX + _add_version(reference.model, reference.version)


def _write_dataset(value: Any) -> Any:
    if not isinstance(value, dict) or "declared" not in value:
        return value
    reference = DeclaredDataset.model_validate(value)
    return DATASET_PREFIX + _add_version(reference.declared, reference.version)


def _add_version(name: str, version: int | None) -> str:
    if version is None:
        return name
    if "@" in name:
        raise ValueError("the version is given twice: leave out one of them")
    return f"{name}@{version}"


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of an upload")]
WeightsRef = Annotated[
    str,
    BeforeValidator(_write_model, json_schema_input_type=Digest | DeclaredModel),
    Field(pattern=rf"^([0-9a-f]{{64}}|{MODEL_PREFIX}{NAME}(@{VERSION})?)$"),
]
DatasetRef = Annotated[
    PluginRef,
    BeforeValidator(_write_dataset, json_schema_input_type=str | PluginRef | DeclaredDataset),
]
OptionalDatasetRef = Annotated[
    PluginRef | None,
    BeforeValidator(
        _write_dataset, json_schema_input_type=str | PluginRef | DeclaredDataset | None
    ),
]


def parse_reference(text: str | None, prefix: str) -> Reference | None:
    """What `model:before@2` or `declared:mine` refers to; None if it does not begin with the
    prefix, or is no such reference."""
    match = _REFERENCE.fullmatch(text or "")
    if match is None or not (text or "").startswith(prefix):
        return None
    return Reference(match[1], int(match[2]) if match[2] else None)
