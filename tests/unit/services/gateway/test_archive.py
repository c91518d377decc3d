"""Names in an archive: every system can unpack them, and none hides another."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.archive import make_artifact_name, make_safe_name
from shared.jobs.records import Artifact

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


@given(st.text(max_size=60))
def test_any_text_becomes_a_name(text: str) -> None:
    name = make_safe_name(text)
    assert re.fullmatch(r"[a-z0-9_-]{1,41}", name)
    assert not RESERVED.fullmatch(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [("AUX", "aux-"), ("com1", "com1-"), ("../../etc", "etc"), ("..", "x"), ("A b/ü", "a-b")],
)
def test_names(text: str, name: str) -> None:
    assert make_safe_name(text) == name


def test_roles_that_differ_only_in_case_have_two_names() -> None:
    first = make_artifact_name(
        Artifact("OUT", "a" * 64, 1, "text/plain; charset=utf-8"), {"job.json"}
    )
    second = make_artifact_name(Artifact("out", "b" * 64, 1, "text/plain"), {"job.json", first})
    assert (first, second) == ("out.txt", "out-2.txt")
