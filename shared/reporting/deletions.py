"""Deletion by deletion: what happened to each deleted sample in each release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.forgetting import ROUNDING_NATS, DeletionLosses
from shared.reporting.forgetting import format_loss
from shared.reporting.forgetting_tests import format_share
from shared.reporting.formatting import Names, list_columns, matches_attack
from shared.reporting.models import Row
from shared.reporting.overview import ReleaseLine

MAX_TABLES, MAX_LINES = 40, 200  # on the page, and of one table; report.json holds all


@dataclass(frozen=True)
class DeletionLine:
    """One deletion; every value is text."""

    number: str
    losses: str
    way: str
    results: list[str]  # one per attack
    is_found: bool  # by any of the attacks


@dataclass(frozen=True)
class DeletionTable:
    """All deletions of one release and seed."""

    release: ReleaseLine
    seed: int
    attacks: list[str]
    lines: list[DeletionLine]
    total: int


def build_deletion_tables(lines: Sequence[ReleaseLine], names: Names) -> list[DeletionTable]:
    """One table per release and seed whose deletions can be told apart, of the first few."""
    tables: list[DeletionTable] = []
    for line in lines:
        for seed in dict.fromkeys(row.seed for row in line.rows):
            rows = [row for row in line.rows if row.seed == seed]
            if len(tables) < MAX_TABLES and (table := _build_table(line, seed, rows, names)):
                tables.append(table)
    return tables


def _build_table(
    line: ReleaseLine, seed: int, rows: Sequence[Row], names: Names
) -> DeletionTable | None:
    columns: dict[str, list[tuple[str, bool]]] = {}
    for attack in list_columns(rows):
        row = next(row for row in rows if matches_attack(row, attack))
        if results := _list_results(row):
            columns[names(attack)] = results
    forgetting = next((row.forgetting for row in rows if row.forgetting is not None), None)
    losses = forgetting.by_deletion if forgetting else []
    total = max(len(losses), *map(len, columns.values()), 0)
    if not total:
        return None
    drawn = [
        DeletionLine(
            number=str(place + 1),
            losses=_describe_losses(losses[place]) if place < len(losses) else "—",
            way=_describe_way(losses[place]) if place < len(losses) else "—",
            results=[
                values[place][0] if place < len(values) else "—" for values in columns.values()
            ],
            is_found=any(place < len(values) and values[place][1] for values in columns.values()),
        )
        for place in range(min(total, MAX_LINES))
    ]
    return DeletionTable(line, seed, list(columns), drawn, total)


def _list_results(row: Row) -> list[tuple[str, bool]]:
    """By deletion, one attack's result in words, and whether it found the sample."""
    if row.answers is not None:
        return [
            ("right" if correct else "wrong", correct)
            if len(truth) == 1
            else (f"{_count_common(guessed, truth)} of {len(truth)} right", correct)
            for guessed, truth in zip(row.answers.labels, row.answers.truth, strict=True)
            for correct in [sorted(guessed) == sorted(truth)]
        ]
    if row.identification is None:
        return []
    ranks, decoys = row.identification.ranks, row.identification.decoy_counts
    texts = [
        ("no decoys", False)
        if rank is None
        else (
            f"rank {rank}" + (f" of {decoys[place] + 1}" if place < len(decoys) else ""),
            rank == 1,
        )
        for place, rank in enumerate(ranks)
    ]
    groups = [texts[start : start + row.size] for start in range(0, len(texts), row.size)]
    return [
        (", ".join(text for text, _ in group), any(is_found for _, is_found in group))
        for group in groups
    ]


def _count_common(guessed: Sequence[int], truth: Sequence[int]) -> int:
    left = list(truth)
    for label in guessed:
        if label in left:
            left.remove(label)
    return len(truth) - len(left)


def _describe_losses(one: DeletionLosses) -> str:
    return (
        f"{format_loss(one.original)} → {format_loss(one.release)} "
        f"(retraining {format_loss(fmean(one.retrained))})"
    )


def _describe_way(one: DeletionLosses) -> str:
    """Of a single deletion: it says little where retraining hardly changes the loss."""
    length = fmean(one.retrained) - one.original
    if length <= ROUNDING_NATS:
        return "retraining does not raise it"
    return format_share((one.release - one.original) / length)
