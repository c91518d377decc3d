"""What attacks returned where no deleted samples were brought: pictures and classes, and no score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.evaluation import Unscored, UnscoredLabels
from shared.reporting.formatting import format_number
from shared.reporting.models import Row
from shared.reporting.pictures import UnscoredGallery, select_galleries
from shared.reporting.threat_models import describe_classes

MAX_LINES = 200  # deletions on the page; report.json holds all
CONTROL_NAMES = {
    "random_direction": "random direction",
    "nearest_public": "nearest public sample",
}


def without_truth(rows: Sequence[Row]) -> bool:
    """Whether nothing could be scored because no deleted samples were brought."""
    return bool(rows) and all(row.unscored is not None for row in rows)


@dataclass(frozen=True)
class UnscoredView:
    """The section of the page."""

    galleries: Sequence[
        tuple[Row, UnscoredGallery, str, str | None]
    ]  # with losses and classes in words
    guesses: Sequence[tuple[Row, Sequence[tuple[str, str]]]]  # deletion by deletion: class, margin
    tables: bool  # whether any pictures are rows of a table
    has_public: bool  # whether public samples are shown beside what came back


def build_unscored(
    rows: Sequence[Row], galleries: Sequence[UnscoredGallery]
) -> UnscoredView | None:
    """None if everything was scored."""
    if not any(row.unscored for row in rows):
        return None
    shown = [
        (row, gallery, summarise_unscored(row.unscored), describe_classes(row))
        for row, gallery in select_galleries(rows, galleries)
        if row.unscored
    ]
    guesses = [
        (row, _list_guesses(row.unscored.labels))
        for row in rows
        if row.unscored and row.unscored.labels
    ]
    return UnscoredView(
        shown,
        guesses,
        any(gallery.table for _, gallery, *_ in shown),
        any(one.public for _, gallery, *_ in shown for one in gallery.pictures),
    )


def summarise_unscored(unscored: Unscored) -> str:
    """`matching loss 0.12; random direction 0.48`: means over deletions, smaller matches better."""
    parts = []
    if (images := unscored.images) and images.matching_loss:
        losses = [("matching loss", fmean(images.matching_loss))]
        losses += [
            (CONTROL_NAMES.get(name, name), fmean(values))
            for name, values in images.control_losses.items()
            if values
        ]
        parts.append("; ".join(f"{name} {format_number(loss)}" for name, loss in losses))
    if (labels := unscored.labels) and labels.labels:
        named = dict.fromkeys(_name(labels, row) for row in labels.labels)
        shown = list(named)[:3]
        more = " …" if len(named) > len(shown) else ""
        margins = [margin for margin in labels.margins if margin is not None]
        lead = f", margin {format_number(fmean(margins))}" if margins else ""
        noun = "class" if len(named) == 1 else "classes"
        parts.append(f"{noun} {'; '.join(shown)}{more}{lead}")
    return "; ".join(parts)


def _list_guesses(labels: UnscoredLabels) -> list[tuple[str, str]]:
    return [
        (_name(labels, row), "—" if margin is None else format_number(margin))
        for row, margin in zip(labels.labels, labels.margins, strict=True)
    ][:MAX_LINES]


def _name(labels: UnscoredLabels, row: Sequence[int]) -> str:
    return ", ".join(labels.names.get(str(label), str(label)) for label in row)
