"""Errors of one job, told by where the fault stands in the audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec
from shared.wiring import Wiring

Blame = Mapping[str, str]  # a path within one job -> where it stands in the audit


def blame_of(wiring: Wiring, spec: AuditSpec, choice: Choice | None, place: int | None) -> Blame:
    """For the jobs of one stage with one method.

    Args:
        choice: the method as the audit gives it.
        place: where it stands in the list of methods.
    """
    shared = {f"params.{name}": name for name in wiring.shared_params}
    if choice is None:
        return shared | ({"params": wiring.params} if wiring.params else {})
    given = getattr(spec, wiring.params) if wiring.params else {}
    own = {f"params.{name}": f"{wiring.params}.{name}" for name in given if name not in choice.params}
    path = f"{wiring.methods}.{place}"
    return shared | own | {"params": f"{path}.params", "method": f"{path}.name", "inputs": path}


@contextmanager
def blame(paths: Blame) -> Iterator[None]:
    """Rewrite the path of an error from within one job to where it stands in the audit (longest match)."""
    try:
        yield
    except InvalidRequest as error:
        field = place_of(error.field, paths)
        if field == error.field:
            raise
        raise InvalidRequest(error.message.replace(f"{error.field}: ", f"{field}: ", 1), field) from error


def place_of(field: str, paths: Blame) -> str:
    """Where a path within one job stands in the audit (longest match); itself if nowhere."""
    for own, there in sorted(paths.items(), key=lambda p: -len(p[0])):
        if field == own or field.startswith(own + "."):
            return there + field[len(own) :]
    return field
