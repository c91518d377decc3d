"""services.cli: the small functions that make text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.cli import following, output
from services.cli.main import _told
from services.client import Invalid, Update


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (200_000, "2 days"),
    ],
)
def test_span(seconds, text):
    assert output.span(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_size(count, text):
    assert output.size(count) == text


def test_age():
    assert output.age(None) == "-"
    assert output.age((datetime.now(UTC) - timedelta(minutes=2)).isoformat()) in ("2 min 00 s", "2 min 01 s")


def update(**more: object) -> Update:
    return Update(**{"id": "job_1", "kind": "job", "label": "l", "state": "running", "done": 1, "total": 4, **more})  # type: ignore[arg-type]


def test_what_stands_beside_a_bar():
    shown = update(rate=0.5, left=6.0, numbers={"matching_loss": 0.12345, "a": 1, "b": 2, "c": 3})
    assert following.count(shown) == "1/4"
    assert following.pace(shown) == "0.5/s, 6 s left"
    assert following.numbers(shown) == "matching loss 0.1235  a 1  b 2"
    assert following.pace(update(rate=0.05)) == "3/min"
    assert following.pace(update()) == ""
    assert following.count(update(total=0)) == ""
    assert following.numbers(update(kind="audit", numbers={"queued": 2.0, "running": 1.0})) == "2 queued 1 running"
    assert following.reason(update(ended=True, failure="timeout")) == "timeout"
    assert following.reason(update(failure="timeout")) == ""


def test_every_wrong_field_is_told_once():
    errors = [{"field": "seed", "message": "too large"}, {"field": "params.a", "message": "params.a: no"}]
    text, status = _told(Invalid(422, {"detail": "d", "errors": errors}))
    assert (text, status) == ("seed: too large\n  params.a: no", 2)
    assert _told(Invalid(413, {"detail": "too much"})) == ("too much", 2)
