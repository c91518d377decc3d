"""Many rows of one table at once. PostgreSQL takes them as one JSON value: a placeholder a column
and row costs more than storing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, column, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from shared.jobs.mapping import to_json

ROWS_PER_STATEMENT = 2000  # in one statement


def insert_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    ignore_conflicts: bool = False,
) -> int:
    """Insert `rows`, which all have the same columns; returns how many were inserted.

    Args:
        ignore_conflicts: leave out those that violate a unique constraint, rather than fail.
    """
    added = 0
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        batch = rows[start : start + ROWS_PER_STATEMENT]
        if connection.dialect.name == "sqlite":
            statement: Any = sqlite.insert(table)
            values: Any = [dict(row) for row in batch]
        else:
            names = list(batch[0])
            record = func.json_populate_recordset(
                text(f"NULL::{table.name}"), text("CAST(:rows AS json)")
            )
            source: Any = select(*(column(name) for name in names)).select_from(record)
            statement, values = (
                postgresql.insert(table).from_select(names, source),
                {"rows": to_json(batch)},
            )
        if ignore_conflicts:
            statement = statement.on_conflict_do_nothing()
        # without this SQLAlchemy does not keep the row count of an INSERT
        added += connection.execute(
            statement, values, execution_options={"preserve_rowcount": True}
        ).rowcount
    return added
