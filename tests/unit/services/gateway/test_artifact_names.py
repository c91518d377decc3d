"""services.gateway.api.artifacts.file_name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.api.artifacts import make_file_name
from shared.jobs.records import Artifact


@pytest.mark.parametrize(
    ("role", "media_type", "name"),
    [
        ("UNLEARNED", "application/octet-stream", "unlearned-0a0a0a0a0a0a.bin"),
        ("METRICS", "application/json", "metrics-0a0a0a0a0a0a.json"),
        ("METRICS", "application/json; charset=utf-8", "metrics-0a0a0a0a0a0a.json"),
        ('../"\r\n', "", "artifact-0a0a0a0a0a0a.bin"),
    ],
)
def test_names(role, media_type, name):
    assert make_file_name(Artifact(role, "0a" * 32, 1, media_type)) == name


@settings(deadline=None)
@given(st.text(max_size=50), st.text(max_size=50))
def test_any_role_makes_a_name_that_is_safe_in_a_header_and_on_a_disk(role, media_type):
    assert re.fullmatch(
        r"[a-z0-9_-]+-0{12}\.[a-z0-9]+", make_file_name(Artifact(role, "0" * 64, 1, media_type))
    )
