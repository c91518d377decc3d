"""The body of a submission: the audit, and what is the user's own about it. Plans and keys know
nothing of the latter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from services.gateway.labels import LabelPatch, Labels
from shared.jobs.audit_annotations import MAX_METADATA_BYTES
from shared.jobs.records import Audit
from shared.jobs.spec import AuditSpec
from shared.reporting.as_yaml import shorten_choices

_METADATA = f"a JSON object of your own, up to {MAX_METADATA_BYTES >> 10} KiB"


class AuditBody(AuditSpec):
    """An audit with its labels and metadata. These change none of its jobs."""

    labels: Labels = Field(default_factory=dict, description="by key, values of your choice")
    metadata: dict[str, Any] = Field(default_factory=dict, description=_METADATA)

    def to_spec(self) -> AuditSpec:
        """The audit alone. It was validated with the rest."""
        values = {name: getattr(self, name) for name in AuditSpec.model_fields}
        fields_set = self.model_fields_set & AuditSpec.model_fields.keys()
        return AuditSpec.model_construct(_fields_set=fields_set, **values)


class AuditPatch(BaseModel):
    """Changes of labels and metadata (a JSON merge patch, RFC 7396)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    labels: LabelPatch | None = None
    metadata: dict[str, Any] | None = Field(
        None, description=f"{_METADATA}; by key, the new value, null removes it"
    )


def describe_submission(audit: Audit) -> dict[str, Any]:
    """The body that submits this audit again, without what has its default."""
    body = {
        name: value
        for name, value in audit.spec.items()
        if name == "name" or name not in _DEFAULTS or value != _DEFAULTS[name]
    }
    more: Mapping[str, Any] = {"labels": audit.labels, "metadata": audit.metadata}
    return shorten_choices({**body, **{n: dict(v) for n, v in more.items()}})


_DEFAULTS = {
    name: to_jsonable_python(field.get_default(call_default_factory=True))
    for name, field in AuditSpec.model_fields.items()
    if not field.is_required()
}
