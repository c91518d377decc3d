"""What a search for probes may cost in queries, known before it runs. No torch: plans quote it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from shared.errors import InvalidRequest
from shared.plugins import DatasetTraits


@dataclass(frozen=True)
class Search:
    """Numbers of a search: see the stage `probe` for what each one is."""

    per_class: int
    confidence: float
    max_queries: int
    directions: int
    resolution: int | None = None
    candidates: int | None = None
    tries: int | None = None
    rounds: int | None = None

    def most_queries(self, classes: int, dimensions: int) -> int:
        """The most it can ask: of a search with tries every round of every one; else `max_queries`."""
        if self.candidates is None or self.tries is None or self.rounds is None:
            return self.max_queries
        return classes * self.candidates * self.tries * self.rounds * (2 * min(self.directions, dimensions) + 1)

    def check(self, classes: int, dimensions: int) -> int:
        """`most_queries`.

        Raises:
            InvalidRequest: `max_queries` is below it: a published search that is cut short is another one.
        """
        most = self.most_queries(classes, dimensions)
        if most > self.max_queries:
            raise InvalidRequest(
                f"this search may ask {most:,} queries ({classes} classes, {dimensions:,} values an image), more than "
                f"max_queries, {self.max_queries:,}: raise it, lower candidates, tries, rounds or directions, or take "
                "preset coarse",
                "params.max_queries",
            )
        return most


PRESETS = {
    "coarse": Search(per_class=5, confidence=0.5, max_queries=50_000, directions=24, resolution=7),
    # Hu et al. 2024, arXiv 2404.03233, and its official code.
    "paper": Search(
        per_class=10, confidence=0.9995, max_queries=100_000_000, directions=1024, candidates=20, tries=10, rounds=20
    ),
}


def search_of(params: Mapping[str, Any]) -> Search:
    """The preset, with what the parameters of the stage `probe` say otherwise.

    Raises:
        InvalidRequest: a parameter that only another preset has, or fewer candidates than are kept.
    """
    preset = PRESETS[params["preset"]]
    given = {f.name: value for f in fields(Search) if (value := params.get(f.name)) is not None}
    for name in given:
        if getattr(preset, name) is None:
            raise InvalidRequest(f"preset {params['preset']} has no {name}: leave it out", f"params.{name}")
    search = replace(preset, **given)
    if search.candidates is not None and search.candidates < search.per_class:
        raise InvalidRequest(
            f"{search.candidates} candidates are fewer than the {search.per_class} probes of each class",
            "params.candidates",
        )
    return search


def quoted(params: Mapping[str, Any], data: DatasetTraits) -> str:
    """A sentence: what a job of the stage `probe` may ask. `data` are the traits of its data set.

    Raises:
        InvalidRequest: as `search_of` and `Search.check`.
    """
    search, classes = search_of(params), data.num_classes
    sides = [side for side in data.input_shape or () if side is not None]
    if classes is not None and len(sides) == 3:
        most = f"{search.check(classes, prod(sides)):,}"
    elif search.candidates is None:
        most = f"{search.max_queries:,}"
    else:
        most = f"{search.most_queries(1, search.directions):,} times the number of classes"
    return f"probe (preset {params['preset']}): at most {most} queries of the original model"
