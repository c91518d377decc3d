"""`sweep: true`: every setting of each defense's grid is released, attacked and evaluated."""

from __future__ import annotations

from typing import Any

from shared.catalog import Catalog, CatalogEntry
from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef
from shared.plugins import DefenseTraits

MAX_DEFENSES = 32


def expand_sweep(spec: AuditSpec, catalog: Catalog) -> AuditSpec:
    """The audit with each defense that has a strength named once a setting; without `sweep` as it
    is.

    A strength that the audit gives is not swept. What a defense may cost, by which the report names
    an operating point, is written out.

    Raises:
        InvalidRequest: more defenses than an audit may have.
    """
    if not spec.sweep:
        return spec
    grids = [_get_grid(choice, catalog) for choice in spec.defenses]
    count = sum(1 if grid is None else len(grid[1]) for grid in grids)
    if count > MAX_DEFENSES:
        raise InvalidRequest(
            f"this sweep has {count:,} settings of defenses, above the limit of {MAX_DEFENSES}: "
            "shorten the grids, or sweep fewer defenses per audit",
            "sweep",
        )
    defenses: list[PluginRef] = []
    for choice, grid in zip(spec.defenses, grids, strict=True):
        defenses += [choice] if grid is None else _expand_defense(choice, *grid)
    defend = catalog.get("stage", "defend", "stage").properties
    default = {n: defend[n]["default"] for n in ("max_accuracy_cost",) if n in defend}
    return spec.model_copy(
        update={"defenses": defenses, "defend": {**default, **spec.defend}, "sweep": False}
    )


def _get_grid(choice: PluginRef, catalog: Catalog) -> tuple[str, list[Any]] | None:
    """The name of a defense's strength and the settings it is swept over, each once; None if it is
    not swept."""
    if ("defense", choice.name) not in catalog:
        return None  # refused when its job is planned, where the blame is right
    entry: CatalogEntry = catalog.get("defense", choice.name, "defenses")
    strength = entry.get_traits(DefenseTraits).strength
    if strength is None or choice.params.get(strength) is not None:
        return None
    grid = choice.params.get("grid", entry.properties["grid"]["default"])
    if (
        not isinstance(grid, list)
        or not grid
        or any(isinstance(value, list | dict) for value in grid)
    ):
        return None  # refused likewise
    return strength, list(dict.fromkeys(grid))


def _expand_defense(choice: PluginRef, strength: str, settings: list[Any]) -> list[PluginRef]:
    params = {name: value for name, value in choice.params.items() if name != "grid"}
    return [PluginRef(name=choice.name, params=params | {strength: value}) for value in settings]
