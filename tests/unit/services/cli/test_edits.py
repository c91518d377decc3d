"""services.cli.input.edits and filters: edits of an audit by paths, and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.cli.input.edits import edit_spec
from services.cli.input.filters import parse_time
from services.cli.output.console import UsageError

SPEC: dict[str, Any] = {
    "name": "a",
    "attacks": ["x", {"name": "y", "params": {"n": 1}}],
    "sweep": True,
}


@pytest.mark.parametrize(
    ("edits", "changed"),
    [
        (["seeds=[1, 2]"], {"seeds": [1, 2]}),
        (["name=b=c"], {"name": "b=c"}),
        (["train.size=32"], {"train": {"size": 32}}),
        (["attacks.1.params.n=2"], {"attacks": ["x", {"name": "y", "params": {"n": 2}}]}),
        (
            ["attacks.0.params.n=2"],
            {"attacks": [{"name": "x", "params": {"n": 2}}, {"name": "y", "params": {"n": 1}}]},
        ),
        (["attacks.2=z"], {"attacks": [*SPEC["attacks"], "z"]}),
        (["attacks=[]", "attacks.0=z"], {"attacks": ["z"]}),
    ],
)
def test_values_are_set_by_their_paths(edits: list[str], changed: dict[str, Any]) -> None:
    before = repr(SPEC)
    assert edit_spec(SPEC, edits, []) == {**SPEC, **changed}
    assert repr(SPEC) == before


def test_values_are_removed_by_their_paths() -> None:
    assert edit_spec(SPEC, [], ["sweep", "attacks.0"]) == {
        "name": "a",
        "attacks": SPEC["attacks"][1:],
    }


@pytest.mark.parametrize(
    ("edits", "removals", "words"),
    [
        (["seeds"], [], "expected PATH=VALUE"),
        (["=1"], [], "is not a path"),
        (["attacks.=1"], [], "is not a path"),
        (["attacks.3=1"], [], "not an index of a list of 2"),
        (["attacks.-1=1"], [], "not an index of a list"),
        (["attacks.x.y=1"], [], "not an index of a list"),
        (["sweep.a=1"], [], "has no parts"),
        ([], ["train"], "has its default already"),
        ([], ["train.size"], "the audit has no 'train'"),
        ([], ["attacks.2"], "not an index of a list of 2"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(
    edits: list[str], removals: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        edit_spec(SPEC, edits, removals)


def test_a_time_is_a_time_or_how_long_ago() -> None:
    assert parse_time("2026-01-31T12:00:00+02:00", "--x") == "2026-01-31T10:00:00Z"
    assert parse_time(None, "--x") is None
    ago = parse_time("90m", "--x")
    expected = datetime.now(UTC) - timedelta(minutes=90)
    assert abs(datetime.fromisoformat(str(ago)) - expected) < timedelta(minutes=1)
    assert datetime.fromisoformat(str(parse_time("2026-01-31", "--x"))).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "soon", "3y", "-2h", "99999999w", "999999w", "2026-02-30"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a time such as"):
        parse_time(text, "--x")
