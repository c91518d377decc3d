"""The folder is the list: one file for each kind of finding. See docs/adding/finding.md."""

from collections.abc import Iterable, Mapping
from functools import cache

from shared.evaluation import Evaluation
from shared.folders import collect_from_modules
from shared.reporting.models import Score
from shared.reporting.reported_kind import ReportedKind


@cache
def list_kinds() -> tuple[ReportedKind, ...]:
    """All kinds, the most severe first."""
    kinds: list[ReportedKind] = collect_from_modules(__name__, "KIND")
    return tuple(sorted(kinds, key=lambda kind: -kind.severity))


def find_kind(metrics: Iterable[str]) -> ReportedKind | None:
    """The kind that decides a row with these metrics; None if no rule does."""
    names = set(metrics)
    return next((kind for kind in list_kinds() if kind.metric in names), None)


def find_main_metric(metrics: Iterable[str]) -> str | None:
    """The metric that decides a row; any metric if no rule does."""
    names = set(metrics)
    if (kind := find_kind(names)) is not None:
        return kind.metric
    return min(names - {name for kind in list_kinds() for name in kind.derived}, default=None)


def collect_scores(evaluation: Evaluation) -> dict[str, Score]:
    """All metrics of an evaluation, and those that kinds derive from it."""
    collected = {name: measured.to_score() for name, measured in sorted(evaluation.metrics.items())}
    for kind in list_kinds():
        collected |= kind.derive_scores(evaluation)
    return collected


def get_metric_name(name: str) -> str:
    """The display name of a metric."""
    return next(
        (kind.metric_names[name] for kind in list_kinds() if name in kind.metric_names), name
    )


def collect_baseline_names() -> Mapping[str, str]:
    """Short names of baselines."""
    return {name: words for kind in list_kinds() for name, words in kind.baseline_names.items()}
