"""Counters in SQL: over all processes, and over what has been deleted since.

Whoever adds to one in a transaction counts exactly what that transaction does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from shared.jobs.database import Database
from shared.jobs.mapping import to_json
from shared.jobs.tables import metric_totals

Labels = tuple[str, ...]
Amounts = Mapping[tuple[str, Labels], float]

# Upper bounds of the buckets, in seconds, of how long jobs wait and run.
BUCKETS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
OVERFLOW = "+Inf"


def add_to_totals(db: Database, connection: Connection, amounts: Amounts) -> None:
    """Add to counters; one that is not there starts at 0.

    In one order: two that add to the same ones do not wait for each other in a circle.
    """
    rows = [
        {"name": name, "labels": to_json(list(labels)), "value": value}
        for (name, labels), value in sorted(amounts.items())
    ]
    if not rows:
        return
    statement = db.insert(metric_totals)
    statement = statement.on_conflict_do_update(
        index_elements=["name", "labels"],
        set_={"value": metric_totals.c.value + statement.excluded.value},
    )
    connection.execute(statement, rows)


def load_totals(
    connection: Connection, names: Sequence[str] | None = None
) -> dict[str, dict[Labels, float]]:
    """Counters, all or those of these names: by name, and by the values of its labels."""
    query = select(metric_totals)
    if names is not None:
        query = query.where(metric_totals.c.name.in_(names))
    totals: dict[str, dict[Labels, float]] = {}
    for name, labels, value in connection.execute(query):
        totals.setdefault(name, {})[parse_labels(labels)] = value
    return totals


def parse_labels(text: str) -> Labels:
    """The values of the labels of a stored counter."""
    return tuple(json.loads(text))


def find_bucket(seconds: float) -> str:
    """The upper bound of the smallest bucket that holds it, as `le` has it."""
    return next((f"{bound:g}" for bound in BUCKETS_S if seconds <= bound), OVERFLOW)
