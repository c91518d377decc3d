"""What a search for probes may cost in queries, known before it runs. No torch: plans quote it
too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from shared.errors import InvalidRequest
from shared.plugins import DatasetTraits


@dataclass(frozen=True)
class ProbeSearch:
    """Numbers of a search: see the stage `probe` for what each one is."""

    per_class: int
    confidence: float
    max_queries: int
    directions: int
    resolution: int | None = None
    candidates: int | None = None
    tries: int | None = None
    rounds: int | None = None

    def compute_query_bound(self, classes: int, dimensions: int) -> int:
        """The most it can ask: of a search with tries every round of every one; else
        `max_queries`."""
        if self.candidates is None or self.tries is None or self.rounds is None:
            return self.max_queries
        return (
            classes
            * self.candidates
            * self.tries
            * self.rounds
            * (2 * min(self.directions, dimensions) + 1)
        )

    def check_query_budget(self, classes: int, dimensions: int) -> int:
        """`compute_query_bound`.

        Raises:
            InvalidRequest: `max_queries` is below it: a published search that is cut short is
                another one.
        """
        query_bound = self.compute_query_bound(classes, dimensions)
        if query_bound > self.max_queries:
            raise InvalidRequest(
                f"this search may need up to {query_bound:,} queries ({classes} classes, "
                f"{dimensions:,} values per image), more than max_queries ({self.max_queries:,}): "
                "raise max_queries, lower candidates, tries, rounds or directions, or use preset "
                "coarse",
                "params.max_queries",
            )
        return query_bound


PRESETS = {
    "coarse": ProbeSearch(
        per_class=5, confidence=0.5, max_queries=50_000, directions=24, resolution=7
    ),
    # Hu et al. 2024, arXiv 2404.03233, and its official code.
    "paper": ProbeSearch(
        per_class=10,
        confidence=0.9995,
        max_queries=100_000_000,
        directions=1024,
        candidates=20,
        tries=10,
        rounds=20,
    ),
}


def build_search(params: Mapping[str, Any]) -> ProbeSearch:
    """The preset, with what the parameters of the stage `probe` say otherwise.

    Raises:
        InvalidRequest: a parameter that only another preset has, or fewer candidates than are kept.
    """
    preset = PRESETS[params["preset"]]
    given = {
        f.name: value for f in fields(ProbeSearch) if (value := params.get(f.name)) is not None
    }
    for name in given:
        if getattr(preset, name) is None:
            raise InvalidRequest(
                f"preset {params['preset']} does not use {name}: remove it", f"params.{name}"
            )
    search = replace(preset, **given)
    if search.candidates is not None and search.candidates < search.per_class:
        raise InvalidRequest(
            f"{search.candidates} candidates per class are fewer than the {search.per_class} "
            "probes per class that are kept: raise candidates",
            "params.candidates",
        )
    return search


def describe_query_cost(params: Mapping[str, Any], dataset: DatasetTraits) -> str:
    """A sentence: how many queries a job of the stage `probe` may make on its data set.

    Raises:
        InvalidRequest: as `build_search` and `ProbeSearch.check_query_budget`.
    """
    search, classes = build_search(params), dataset.num_classes
    sides = [side for side in dataset.input_shape or () if side is not None]
    if classes is not None and len(sides) == 3:
        query_bound = f"{search.check_query_budget(classes, prod(sides)):,}"
    elif search.candidates is None:
        query_bound = f"{search.max_queries:,}"
    else:
        query_bound = (
            f"{search.compute_query_bound(1, search.directions):,} times the number of classes"
        )
    return f"probe (preset {params['preset']}): at most {query_bound} queries of the original model"
