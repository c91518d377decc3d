"""The folder is the list: one file for each kind of finding. See docs/adding/finding.md."""

from functools import cache

from shared.folders import collect_from_modules
from shared.ml.scored_kind import ScoredKind


@cache
def list_kinds() -> tuple[ScoredKind, ...]:
    """All kinds, by the names of their modules."""
    return tuple(collect_from_modules(__name__, "KIND"))
