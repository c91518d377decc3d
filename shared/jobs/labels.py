"""Labels: keys with values of the user's choice, on declarations and on audits. Nothing that is
computed depends on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, insert, select

from shared.errors import Conflict
from shared.jobs.mapping import slices
from shared.jobs.tables import audit_labels, declaration_labels

MAX_LABELS = 32  # of one item
KEY_FORMAT = r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,63}$"
VALUE_FORMAT = r"^[^\u0000-\u001f\u007f-\u009f]{0,256}$"


@dataclass(frozen=True)
class LabelTable:
    """The labels of one kind of item; `owner` is the column with the item's id."""

    table: Table
    owner: str

    def load(self, connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """By id the labels of each item, by key."""
        labels: dict[str, dict[str, str]] = {one: {} for one in ids}
        its = self.table.c
        for batch in slices(list(labels)):
            query = select(self.table).where(its[self.owner].in_(batch)).order_by(its.key)
            for row in connection.execute(query).mappings():
                labels[row[self.owner]][row["key"]] = row["value"]
        return labels

    def replace(self, connection: Connection, item: str, labels: Mapping[str, str]) -> None:
        """Give an item these labels, and no other."""
        connection.execute(delete(self.table).where(self.table.c[self.owner] == item))
        rows = [{self.owner: item, "key": key, "value": value} for key, value in labels.items()]
        if rows:
            connection.execute(insert(self.table), rows)

    def change(
        self, connection: Connection, item: str, changes: Mapping[str, str | None], name: str
    ) -> None:
        """Set labels of an item; None removes one.

        Args:
            name: of the item, for the message.

        Raises:
            Conflict: it would have more than `MAX_LABELS` labels.
        """
        labels = {**self.load(connection, [item])[item], **changes}
        kept = {key: value for key, value in labels.items() if value is not None}
        if len(kept) > MAX_LABELS:
            raise Conflict(
                f"{name} would have {len(kept)} labels, above the limit of {MAX_LABELS}: "
                "remove some"
            )
        self.replace(connection, item, kept)

    def build_filter(
        self, item: ColumnElement[str], labels: Iterable[tuple[str, str | None]]
    ) -> list[ColumnElement[bool]]:
        """What holds of the items that have each of these labels, with the value if there is
        one."""
        its: Any = self.table.c
        conditions: list[ColumnElement[bool]] = []
        for key, value in labels:
            is_set = (its[self.owner] == item) & (its.key == key)
            conditions.append(
                exists().where(is_set if value is None else is_set & (its.value == value))
            )
        return conditions


DECLARATION_LABELS = LabelTable(declaration_labels, "declaration")
AUDIT_LABELS = LabelTable(audit_labels, "audit")
