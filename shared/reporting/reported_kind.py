"""What a kind of finding is to a report: what decides a row, and in which words, charts and
sections it is told."""
# ruff: noqa: ARG002 - what a kind leaves as it is needs no argument

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from shared.evaluation import Evaluation
from shared.reporting.formatting import Names
from shared.reporting.models import Finding, Report, Row, Score
from shared.reporting.pictures import Gallery


@dataclass(frozen=True)
class Caveat:
    """What a report does not prove, where the rule gives a text; the most important ones are told
    first."""

    importance: int
    rule: Callable[[Sequence[Row]], str | None]


@dataclass(frozen=True)
class View:
    """What sections are made of. `rows` are in the order of the overview, each with the number of
    its release."""

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


class ReportedKind(ABC):
    """A kind of finding. `shared/reporting/kinds` has a module for each, with an instance called
    KIND."""

    metric: str  # the one that decides
    severity: int  # what is told first, where rows of several kinds leak: the higher
    # how the headline begins, before "after <unlearning>": "Deleted samples can be read back"
    subject: str
    rule: str  # a paragraph of "The rules that decide": when a row leaks
    further_rules: Sequence[str] = ()  # paragraphs that come after the rules of all kinds
    # metrics that an evaluation must give as shares, for the rule rests on it
    shares: Sequence[str] = ()
    metric_names: Mapping[str, str] = MappingProxyType({})
    baseline_names: Mapping[str, str] = MappingProxyType({})  # short ones
    lists_baselines: bool = False  # whether the full table lists all those of the deciding metric
    # what the deciding metric is called on a chart of leakage and utility; None: no chart
    tradeoff: str | None = None
    terms: Sequence[tuple[str, str]] = ()  # for the glossary at the end of the page
    caveats: Sequence[Caveat] = ()
    derived: Sequence[str] = ()  # names of `derive_scores`: these decide nothing

    @abstractmethod
    def decide_row(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:
        """What a row shows that has the deciding metric. Never that there is no leak."""

    @abstractmethod
    def describe(self, row: Row) -> str:
        """The result of a leaking row, for verdict and headline: `8 of 8 identified among 100
        decoys`."""

    def derive_scores(self, evaluation: Evaluation) -> dict[str, Score]:
        """Scores that an evaluation holds elsewhere than among its metrics."""
        return {}

    def describe_counts(self, rows: Sequence[Row]) -> str | None:
        """What a cell of the overview says beside the score: `8 of 16 identified`."""
        return None

    def write_note(self, row: Row) -> str | None:
        """What must be said beside a row's numbers."""
        return None

    def summarise_rows(self, rows: Sequence[Row]) -> str | None:
        """What the verdict says at its end of all rows together."""
        return None

    def build_section(self, view: View) -> Section | None:
        """The kind's part of the page; None where no row is of it."""
        return None
