"""Many rows at once: selected and deleted by a column, as many values at a time as one statement may
name; and which bytes nobody needs after that."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, select

from shared.jobs.mapping import slices
from shared.jobs.tables import artifacts, jobs


def list_unneeded(connection: Connection, digests: Collection[str]) -> set[str]:
    """Digests that no row of any tenant refers to."""
    holders: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (artifacts.c.sha256, (artifacts.c.expired_at.is_(None),)),
        (jobs.c.checkpoint, ()),
    )
    needed = {
        row[0]
        for column, where in holders
        for row in select_rows(connection, (column,), column, digests, *where)
    }
    return set(digests) - needed


def select_rows(
    connection: Connection, columns: Iterable[Any], by: Any, values: Iterable[str], *where: Any
) -> list[Row[Any]]:
    """Columns of the rows in which `by` is one of `values`."""
    rows: list[Row[Any]] = []
    for batch in slices(sorted(values)):
        rows += connection.execute(select(*columns).where(by.in_(batch), *where)).all()
    return rows


def delete_rows(
    connection: Connection, table: Table, by: Any, values: Iterable[str], *where: Any
) -> None:
    for batch in slices(sorted(values)):
        connection.execute(delete(table).where(by.in_(batch), *where))
