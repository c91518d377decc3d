"""Galleries: deleted images, their reconstructions and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shared.reporting.evaluations import method_key
from shared.reporting.formatting import format_number
from shared.reporting.models import Defense, Method, Row, Unlearning

Key = tuple[int, tuple[str, str], tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """One deleted image as PNG bytes, with its caption. Rank 1 means identified."""

    truth: bytes
    reconstruction: bytes
    baseline: bytes
    psnr: float
    baseline_psnr: float
    rank: int | None = None
    decoys: int = 0
    class_name: str | None = None

    @property
    def caption(self) -> str:
        """`26.1 dB, baseline 13.0 dB`."""
        return (
            f"{format_number(self.psnr, 'dB')}, baseline {format_number(self.baseline_psnr, 'dB')}"
        )


class HasRowKey(Protocol):
    """Anything that belongs to one attack on one release."""

    @property
    def seed(self) -> int: ...
    @property
    def unlearning(self) -> Unlearning: ...
    @property
    def defense(self) -> Defense: ...
    @property
    def attack(self) -> Method: ...


def get_row_key(item: HasRowKey) -> Key:
    """A row and its gallery have equal keys."""
    return item.seed, method_key(item.unlearning), method_key(item.defense), method_key(item.attack)


@dataclass(frozen=True)
class Gallery:
    """All pictures of one evaluation."""

    seed: int
    unlearning: Unlearning
    defense: Defense
    attack: Method
    pictures: Sequence[Picture]
    table: bool = False  # table rows, drawn as bars


K = TypeVar("K", bound=HasRowKey)


def select_galleries(rows: Sequence[Row], galleries: Sequence[K]) -> list[tuple[Row, K]]:
    """One gallery per attack and release: that of the first seed with pictures."""
    by_key: Mapping[Key, K] = {get_row_key(gallery): gallery for gallery in galleries}
    first: dict[Key, tuple[Row, K]] = {}
    for row in rows:
        key = get_row_key(row)
        if key in by_key:
            first.setdefault((0, *key[1:]), (row, by_key[key]))
    return list(first.values())
