"""Which rows of a report to show, and in which order: by method, outcome and seed, a page at a
time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from shared.errors import InvalidRequest
from shared.reporting.formatting import Names, group_by_release
from shared.reporting.kinds import find_kind
from shared.reporting.models import Report, Row, Sweep
from shared.reporting.overview import WORST_FIRST
from shared.reporting.page import Excerpt
from shared.reporting.side_by_side import group_rows

ROWS_PER_PAGE = 60
MAX_SWEEPS = 12  # on one page: each is drawn for every attack
BY_AUDIT, WORST = "audit", "worst"
ORDERS = {BY_AUDIT: "As in the audit", WORST: "Worst first"}


@dataclass(frozen=True)
class RowChoice:
    """What rows must have; None: whatever it is. Methods go by their names in the report."""

    unlearning: str | None = None
    defense: str | None = None
    attack: str | None = None
    outcome: str | None = None
    seed: int | None = None
    order: str = BY_AUDIT
    page: int = 1

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves out any rows but those of other pages."""
        fields = (self.unlearning, self.defense, self.attack, self.outcome, self.seed)
        return any(value is not None for value in fields)


class RowIndex:
    """The rows of one report by what they can be chosen by. It is computed once per report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.names = Names(report.rows)
        self._keys = [
            (
                self.names.name_choice(row.unlearning),
                self.names.name_choice(row.defense),
                self.names(row.attack),
                row.finding.outcome,
                row.seed,
            )
            for row in report.rows
        ]
        columns = [list(dict.fromkeys(column)) for column in zip(*self._keys, strict=True)]
        self.unlearning, self.defenses, self.attacks, outcomes, self.seeds = columns or [
            [] for _ in range(5)
        ]
        self.outcomes = [outcome for outcome in WORST_FIRST if outcome in outcomes]

    @cached_property
    def attacked_releases(self) -> list[list[Row]]:
        """The rows of each attack on each release: one per seed."""
        return group_rows(self.report)

    @cached_property
    def releases(self) -> list[list[Row]]:
        """The rows of each release."""
        return group_by_release(self.report.rows)

    def choose(self, choice: RowChoice) -> tuple[Excerpt, int]:
        """The rows of the chosen page, and how many rows all pages have.

        Raises:
            InvalidRequest: no row of the report has a value that was asked for, there is no such
                order, or no such page.
        """
        for field, value, known in (
            ("unlearning", choice.unlearning, self.unlearning),
            ("defense", choice.defense, self.defenses),
            ("attack", choice.attack, self.attacks),
            ("outcome", choice.outcome, self.outcomes),
            ("seed", choice.seed, self.seeds),
            ("sort", choice.order, list(ORDERS)),
        ):
            if value is not None and value not in known:
                raise InvalidRequest(
                    f"no row of this report has that {field}"
                    if field != "sort"
                    else f"give one of {', '.join(ORDERS)}",
                    field,
                )
        wanted = (choice.unlearning, choice.defense, choice.attack, choice.outcome, choice.seed)
        rows = [
            (number, row)
            for number, (row, keys) in enumerate(
                zip(self.report.rows, self._keys, strict=True), start=1
            )
            if all(want is None or want == key for want, key in zip(wanted, keys, strict=True))
        ]
        if choice.order == WORST:
            rows.sort(key=lambda item: rank_leak(item[1]))
        start = (choice.page - 1) * ROWS_PER_PAGE
        if choice.page < 1 or (start and start >= len(rows)):
            raise InvalidRequest(f"there is no page {choice.page}", "page")
        shown = rows[start : start + ROWS_PER_PAGE]
        is_whole = choice == RowChoice() and len(shown) == len(self.report.rows)
        return Excerpt(shown, self._choose_sweeps(choice)[:MAX_SWEEPS], is_whole), len(rows)

    def _choose_sweeps(self, choice: RowChoice) -> list[Sweep]:
        """The sweeps that a choice of methods concerns."""

        def is_wanted(sweep: Sweep) -> bool:
            return choice.unlearning in (None, self.names.name_choice(sweep.unlearning)) and (
                choice.defense is None or choice.defense.partition(" (")[0] == sweep.defense
            )

        return list(filter(is_wanted, self.report.sweeps))


def rank_leak(row: Row) -> tuple[int, float, int, float]:
    """Rows sorted by this have the worst leak first: by outcome, then by how unlikely it is by
    chance, by the severity of the kind of attack, and by how far it is above its baseline."""
    kind = find_kind(row.metrics)
    p = row.finding.p_corrected
    return (
        WORST_FIRST.index(row.finding.outcome),
        2.0 if p is None else p,
        0 if kind is None else -kind.severity,
        0.0 if kind is None else -kind.measure_strength(row),
    )
