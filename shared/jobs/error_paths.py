"""Maps the field of a job's error to the field of the audit that caused it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef
from shared.wiring import Wiring

PathMap = Mapping[str, str]  # a path within one job -> the path in the audit


def build_path_map(
    wiring: Wiring, spec: AuditSpec, method: PluginRef | None, index: int | None
) -> PathMap:
    """The path map of the jobs of one stage with one method.

    Args:
        method: the method as the audit gives it.
        index: its index in the audit's list of methods.
    """
    shared_paths = {f"params.{name}": name for name in wiring.shared_params}
    if method is None:
        return shared_paths | ({"params": wiring.params} if wiring.params else {})
    stage_params = getattr(spec, wiring.params) if wiring.params else {}
    stage_paths = {
        f"params.{name}": f"{wiring.params}.{name}"
        for name in stage_params
        if name not in method.params
    }
    path = f"{wiring.methods}.{index}"
    return (
        shared_paths
        | stage_paths
        | {"params": f"{path}.params", "method": f"{path}.name", "inputs": path}
    )


@contextmanager
def map_error_fields(paths: PathMap) -> Iterator[None]:
    """Replace the job's path in an error by the audit's (longest match)."""
    try:
        yield
    except InvalidRequest as error:
        field = place_of(error.field, paths)
        if field == error.field:
            raise
        raise InvalidRequest(
            error.message.replace(f"{error.field}: ", f"{field}: ", 1), field
        ) from error


def place_of(field: str, paths: PathMap) -> str:
    """Where a path within one job stands in the audit (longest match); itself if nowhere."""
    for own, there in sorted(paths.items(), key=lambda p: -len(p[0])):
        if field == own or field.startswith(own + "."):
            return there + field[len(own) :]
    return field
