"""Labels and metadata, as bodies have them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from shared.jobs.labels import KEY_FORMAT, MAX_LABELS, VALUE_FORMAT

LabelKey = Annotated[str, StringConstraints(pattern=KEY_FORMAT)]
LabelValue = Annotated[str, StringConstraints(pattern=VALUE_FORMAT)]
_ONLY_KEYS: dict[str, Any] = {"additionalProperties": False}  # that are of the form of a key
Labels = Annotated[
    dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS, json_schema_extra=_ONLY_KEYS)
]
LabelPatch = Annotated[
    dict[LabelKey, LabelValue | None],
    Field(
        max_length=2 * MAX_LABELS,
        description="by key, the new value; null removes the label",
        json_schema_extra=_ONLY_KEYS,
    ),
]
