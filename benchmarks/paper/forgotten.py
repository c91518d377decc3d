"""Were the deleted samples forgotten? The way to retraining of every undefended release."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from benchmarks.paper.audit_specs import METHODS
from benchmarks.paper.evidence import Evidence
from shared.forgetting import ForgettingRow
from shared.reporting.forgetting import STATE_NAMES, pool_way
from shared.reporting.forgetting_tests import format_ends, format_share

INTRODUCTION = """## Were the deleted samples forgotten?

A leak counts whatever this says; an attack that finds nothing is evidence only where something was unlearned. The
*forget loss* is the mean cross-entropy on the deleted samples, in nats. The *way to retraining* is (forget loss of the
release - of the original) / (of models retrained without the samples - of the original); it is not measurable where
retraining changes the loss by no more than its own spread over seeds. Releases without a defense."""


def render_forgetting(evidence: Evidence) -> str:
    """A section with one row per audit and unlearning method."""
    lines = [
        INTRODUCTION,
        "",
        "| audit | unlearning | deletions, retrained models of each | forget loss: original | release | retrained "
        "| way to retraining | |",
        "|---|---|---|---|---|---|---|---|",
        *_render_rows(evidence),
    ]
    return "\n".join(lines)


def _render_rows(evidence: Evidence) -> Iterator[str]:
    for audit in evidence.forgetting:
        for method in METHODS.values():
            measured = evidence.list_forgetting(audit, method)
            if measured:
                yield _render_row(audit, method, measured)


def _render_row(audit: str, method: str, measured: list[ForgettingRow]) -> str:
    losses = [
        f"{fmean(getattr(row, kind).forget.loss for row in measured):.3f}"
        for kind in ("original", "release", "retrained")
    ]
    way = pool_way(measured, exact=method == METHODS["exact"])
    found = (
        way.reason
        if way.value is None
        else f"{format_share(way.value)} {format_ends(way.low, way.high)}"
    )
    deletions = sum(row.deletions for row in measured)
    cells = [
        audit,
        method,
        f"{deletions}, {measured[0].retraining_seeds}",
        *losses,
        found,
        STATE_NAMES[way.state],
    ]
    return f"| {' | '.join(str(cell) for cell in cells)} |"
