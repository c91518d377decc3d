"""`sweep: true`: every setting of each defense's grid is released, attacked and evaluated."""

from __future__ import annotations

from shared.catalog import Catalog, Entry
from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec

MAX_DEFENSES = 32


def swept(spec: AuditSpec, catalog: Catalog) -> AuditSpec:
    """The audit with each defense that has a strength named once a setting; without `sweep` as it is.

    A strength that the audit gives is not swept. What a defense may cost, by which the report names an operating
    point, is written out.

    Raises:
        InvalidRequest: more defenses than an audit may have.
    """
    if not spec.sweep:
        return spec
    defenses = [setting for choice in spec.defenses for setting in _settings(choice, catalog)]
    if len(defenses) > MAX_DEFENSES:
        raise InvalidRequest(
            f"this sweep makes {len(defenses)} defenses, above {MAX_DEFENSES}: give shorter grids, or sweep fewer "
            "defenses an audit",
            "sweep",
        )
    defend = catalog.get("stage", "defend", "stage").properties
    default = {n: defend[n]["default"] for n in ("max_accuracy_cost",) if n in defend}
    return spec.model_copy(update={"defenses": defenses, "defend": {**default, **spec.defend}, "sweep": False})


def _settings(choice: Choice, catalog: Catalog) -> list[Choice]:
    if ("defense", choice.name) not in catalog:
        return [choice]  # refused when its job is planned, where the blame is right
    entry: Entry = catalog.get("defense", choice.name, "defenses")
    strength = entry.traits.get("strength")
    if strength is None or choice.params.get(strength) is not None:
        return [choice]
    grid = choice.params.get("grid", entry.properties["grid"]["default"])
    if not isinstance(grid, list) or not grid:
        return [choice]  # refused likewise
    params = {name: value for name, value in choice.params.items() if name != "grid"}
    return [Choice(name=choice.name, params=params | {strength: value}) for value in dict.fromkeys(grid)]
