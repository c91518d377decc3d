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
    baseline: bytes | None  # without public samples there is none
    psnr: float
    baseline_psnr: float | None
    rank: int | None = None
    decoys: int = 0
    class_name: str | None = None

    @property
    def caption(self) -> str:
        """`26.1 dB, baseline 13.0 dB`."""
        baseline = (
            ""
            if self.baseline_psnr is None
            else f", baseline {format_number(self.baseline_psnr, 'dB')}"
        )
        return f"{format_number(self.psnr, 'dB')}{baseline}"


@dataclass(frozen=True)
class UnscoredPicture:
    """One reconstruction that no truth was brought for, with how well it matches (1 - cosine); what
    the same search returned for a random direction, and the nearest public sample, if there are
    any."""

    reconstruction: bytes
    loss: float
    control: bytes | None
    control_loss: float | None
    public: bytes | None
    class_name: str


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


@dataclass(frozen=True)
class UnscoredGallery:
    """All pictures of one evaluation without a truth."""

    seed: int
    unlearning: Unlearning
    defense: Defense
    attack: Method
    pictures: Sequence[UnscoredPicture]
    table: bool = False


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
