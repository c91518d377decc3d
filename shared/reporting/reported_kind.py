"""A kind of finding, for reports: what decides a row, and its words, charts and sections."""
# ruff: noqa: ARG002 - default methods ignore their arguments

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from shared.evaluation import Evaluation
from shared.reporting.formatting import Names, format_score
from shared.reporting.models import (
    Finding,
    Identification,
    Report,
    Row,
    Score,
    ScoredLabelGuesses,
)
from shared.reporting.pictures import Gallery


@dataclass(frozen=True)
class Caveat:
    """A caveat, if the rule returns a text; the most important come first."""

    importance: int
    rule: Callable[[Sequence[Row]], str | None]


@dataclass(frozen=True)
class PrivacyTestScope:
    """How far attacks of a kind are one of the tests in `shared.reporting.standards`."""

    test: str
    extent: str
    in_part: bool = False


@dataclass(frozen=True)
class View:
    """The inputs of sections. `rows` are in the order of the overview, each with the number of its
    release."""

    report: Report
    rows: Sequence[tuple[str, Row]]
    names: Names
    galleries: Sequence[Gallery]


@dataclass(frozen=True)
class Section:
    """A part of the page: a file of `templates/kinds`, in which `section` is this."""

    anchor: str
    title: str  # in the table of contents
    template: str
    content: Any


@dataclass(frozen=True)
class Measured:
    """What the rules of a kind read: of an evaluation, or of a row of a report, which has the same
    fields."""

    metrics: Mapping[str, Score]
    identification: Identification | None
    answers: ScoredLabelGuesses | None

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Measured:
        return cls(metrics, evaluation.reported_identification, evaluation.answers)


class ReportedKind(ABC):
    """A kind of finding. `shared/reporting/kinds` has a module for each, with an instance called
    KIND."""

    metric: str  # the one that decides
    severity: int  # if rows of several kinds leak, the highest comes first
    rule: str  # a paragraph of "Decision rules": when a row leaks
    further_rules: Sequence[str] = ()  # paragraphs that come after the rules of all kinds
    # metrics whose unit must be share, as the rule requires it
    shares: Sequence[str] = ()
    metric_names: Mapping[str, str] = MappingProxyType({})
    baseline_names: Mapping[str, str] = MappingProxyType({})  # short ones
    lists_baselines: bool = (
        False  # whether the full table lists all baselines of the deciding metric
    )
    # name of the deciding metric on the chart of leakage and utility; None: no chart
    tradeoff: str | None = None
    terms: Sequence[tuple[str, str]] = ()  # for the glossary at the end of the page
    caveats: Sequence[Caveat] = ()
    privacy_tests: Sequence[PrivacyTestScope] = ()  # that an attack of this kind is
    unscored: str | None = None  # the field of `Unscored` that holds what such an attack returned
    attacker_goal: str = ""  # in the terms of NIST AI 100-2
    derived: Sequence[str] = ()  # names of `derive_scores`, which decide nothing

    def decide_row(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:
        """The finding of a row with the deciding metric. Never that there is no leak.

        By default that of `decide_pooled` for this row alone; a kind without `compute_p` has a
        rule of its own.
        """
        rows = [Measured.from_evaluation(evaluation, metrics)]
        p = self.compute_p(rows)
        if p is None:
            return Finding(outcome="inconclusive", reason=self.explain_untested(rows[0]))
        return self.decide_pooled(rows, p, p)

    def explain_untested(self, row: Measured) -> str:
        """Why a row has no p-value, for kinds that have `compute_p`: a sentence."""
        return f"No test was possible: {format_score(row.metrics[self.metric])}."

    @abstractmethod
    def describe(self, row: Row) -> str:
        """The result of a leaking row, in the details of the verdict: `8 of 8 identified among 100
        decoys`."""

    @abstractmethod
    def describe_success(self, rows: Sequence[Row]) -> str:
        """What the attacker does, by leaking rows that differ only in their seed; the verdict's
        headline ends with it: `reconstructs 8 of 8 deleted samples; by chance it would be 1 in
        101 of them`. Plain words: whoever signs the report reads it."""

    def compute_p(self, rows: Sequence[Row | Measured]) -> float | None:
        """Probability of such results by chance, for rows that differ only in their seed.

        None: the kind has no such test, and the finding of each row stands.
        """
        return None

    def decide_pooled(
        self, rows: Sequence[Row | Measured], p: float, p_corrected: float
    ) -> Finding:
        """The finding of rows that differ only in their seed; for kinds that have `compute_p`."""
        raise NotImplementedError

    def measure_strength(self, row: Row) -> float:
        """By how much a leaking row is clear of its baseline; of several, the highest is named."""
        low = row.metrics[self.metric].gain_low
        return float("-inf") if low is None else low

    def describe_unseen(self, rows: Sequence[Row]) -> str | None:
        """What rows without a leak do not exclude: a sentence."""
        return None

    def derive_scores(self, evaluation: Evaluation) -> dict[str, Score]:
        """Scores that an evaluation holds outside its metrics."""
        return {}

    def describe_counts(self, rows: Sequence[Row]) -> str | None:
        """Counts in a cell of the overview: `8 of 16 identified`."""
        return None

    def write_note(self, row: Row) -> str | None:
        """A note that accompanies a row's numbers."""
        return None

    def summarise_rows(self, rows: Sequence[Row]) -> str | None:
        """A sentence of the verdict on all rows together."""
        return None

    def build_section(self, view: View) -> Section | None:
        """The kind's section of the page; None without rows of the kind."""
        return None
