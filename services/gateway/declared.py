"""Declared models and data sets as the API and the pages show them: what was declared, what its check
has found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.gateway.artifact_repair import stream_verified
from services.gateway.deps import current_gateway, current_store
from shared.inspection import MAX_BYTES, DatasetInspection, ModelInspection
from shared.jobs.declarations import Declaration, DeclarationState, Kind

_INSPECTIONS: Mapping[Kind, type[ModelInspection | DatasetInspection]] = {
    Kind.MODEL: ModelInspection,
    Kind.DATASET: DatasetInspection,
}


def find_declaration(kind: Kind, name: str, version: int | None) -> Declaration:
    """One version, by default the newest. Raises NotFound."""
    return current_store().get_declaration(kind, name, version)


def read_inspection(declaration: Declaration) -> Any:
    """What the check has found; None if it is not ready, or its stage has written something
    else."""
    if declaration.inspection is None or declaration.state is not DeclarationState.READY:
        return None
    store = current_store()
    artifact = store.get_artifact(declaration.inspection)
    if artifact.size > MAX_BYTES:
        return None
    data = b"".join(stream_verified(current_gateway().deps, store, artifact))
    try:
        return _INSPECTIONS[declaration.kind].model_validate_json(data).model_dump(mode="json")
    except ValidationError:
        return None
