"""Pages of lists. A page token is where the last page ended, so pages stay true while items come
in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, tuple_

from shared.errors import InvalidRequest

T = TypeVar("T")

MAX_PAGE_CHARS = 16 << 20  # of a page without its last row
# Time and id of a page's last item. All texts of this form are tokens: the gateway documents it.
PAGE_TOKEN = r"^[0-9]{1,12}\.[0-9]{1,12}-([a-z]{3}_[0-9a-f]{20}|[0-9a-f]{64})$"  # noqa: S105 - no password


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items, newest first, and the token of the next page (None at the end)."""

    items: list[T]
    next: str | None


def apply_page(
    query: Select[Any],
    time: ColumnElement[float],
    identity: ColumnElement[str],
    token: str | None,
    limit: int,
) -> Select[Any]:
    """The query for one page and one row more, newest first.

    Raises:
        InvalidRequest: no page token.
    """
    if token is not None:
        query = query.where(tuple_(time, identity) < tuple_(*_parse_page_token(token)))
    return query.order_by(time.desc(), identity.desc()).limit(limit + 1)


def split_page(
    rows: Sequence[Row[Any]], limit: int, identity: str = "id"
) -> tuple[list[Row[Any]], str | None]:
    """The rows of the page, and the token of the next one."""
    if len(rows) <= limit:
        return list(rows), None
    return list(rows[:limit]), make_page_token(rows[limit - 1], identity)


def load_page(
    connection: Connection,
    table: Any,
    size: ColumnElement[int],
    keys: Sequence[Row[Any]],
    token: str | None,
) -> tuple[list[Row[Any]], str | None]:
    """The rows of a page, and the token of the next one. The page ends with the row with which it
    has `MAX_PAGE_CHARS`: a page of 200 jobs might have gigabytes of parameters.

    Args:
        table: with the columns `id` and `created_at`.
        size: characters of a row, as far as they count.
        keys: `id` of each row, newest first.
        token: of the page behind the last of them.
    """
    order = (table.c.created_at.desc(), table.c.id.desc())
    before = (func.sum(size).over(order_by=order) - size).label("before")
    in_page = table.c.id.in_([key.id for key in keys])
    sized = select(table.c.id, before).where(in_page).subquery()
    fitting = select(sized.c.id).where(sized.c.before < MAX_PAGE_CHARS)
    rows = connection.execute(select(table).where(table.c.id.in_(fitting)).order_by(*order)).all()
    is_cut = bool(rows) and rows[-1].id != keys[-1].id
    return list(rows), make_page_token(rows[-1]) if is_cut else token


def make_page_token(last: Row[Any], identity: str = "id") -> str:
    """The token of the page that follows this row."""
    return f"{last.created_at!r}-{getattr(last, identity)}"


def _parse_page_token(token: str) -> tuple[float, str]:
    if not re.fullmatch(PAGE_TOKEN, token):
        raise InvalidRequest(
            f"{token!r} is not a page token: use `next` of the previous page", "page"
        )
    at, _, item = token.partition("-")
    return float(at), item
