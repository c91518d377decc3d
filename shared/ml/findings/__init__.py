"""The folder is the list: one file for each kind of finding. See docs/adding/finding.md."""

from functools import cache

from shared.folders import collect
from shared.ml.finding import ScoredKind


@cache
def kinds() -> tuple[ScoredKind, ...]:
    """All kinds, by the names of their modules."""
    return tuple(collect(__name__, "KIND"))
