"""What was deleted, what came back, and what one gets who saw nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.reporting.evaluations import identity
from shared.reporting.models import Defense, Method, Row, Unlearning
from shared.reporting.numbers import number

Key = tuple[int, tuple[str, str], tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """One deleted image as PNG bytes, with what is said under it. Rank 1 is identified."""

    truth: bytes
    reconstruction: bytes
    null: bytes
    psnr: float
    null_psnr: float
    rank: int | None = None
    label: int | None = None

    @property
    def caption(self) -> str:
        """`26.1 dB, null 13.0 dB`."""
        return f"{number(self.psnr, 'dB')}, null {number(self.null_psnr, 'dB')}"


@dataclass(frozen=True)
class Gallery:
    """All pictures of one evaluation."""

    seed: int
    unlearning: Unlearning
    defense: Defense
    attack: Method
    decoys: int
    pictures: Sequence[Picture]

    @property
    def key(self) -> Key:
        return self.seed, identity(self.unlearning), identity(self.defense), identity(self.attack)


def key_of(row: Row) -> Key:
    """The key of the gallery that shows this row."""
    return row.seed, identity(row.unlearning), identity(row.defense), identity(row.attack)


def shown(rows: Sequence[Row], galleries: Sequence[Gallery]) -> list[tuple[Row, Gallery]]:
    """One gallery for each attack on each release: the first seed's that has pictures."""
    by_key: Mapping[Key, Gallery] = {gallery.key: gallery for gallery in galleries if gallery.pictures}
    first: dict[Key, tuple[Row, Gallery]] = {}
    for row in rows:
        gallery = by_key.get(key_of(row))
        if gallery is not None:
            first.setdefault((0, *key_of(row)[1:]), (row, gallery))
    return list(first.values())
