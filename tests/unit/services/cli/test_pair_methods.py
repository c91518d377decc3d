"""palimpsest pair: the methods that releases were made by, and what p-values need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.output.console import UsageError
from services.client import Pair


def build(tmp_path: Path, **parts: Any) -> dict[str, Any]:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    releases = parts.pop("after", {"after": [after]})
    pair = Pair(before=before, after=releases, model="mlp", num_classes=4, **parts)
    return pair.build_audit({before: "0" * 64, after: "1" * 64})


def test_method_recipe_and_p_values_are_fields_of_the_audit(tmp_path: Path) -> None:
    scrub = {"name": "scrub", "params": {"lr": 0.01}}
    audit = build(
        tmp_path, methods={"after": scrub}, recipe={"epochs": 2}, p_values=True,
        dataset="npz", deleted_rows=[1], trained_on_all=True,
    )  # fmt: skip
    assert audit["releases"] == [{"name": "after", "weights": ["1" * 64], "method": scrub}]
    assert audit["p_values"] is True
    assert audit["ingest"]["recipe"] == {"epochs": 2}
    assert audit["ingest"]["trained_on_all"] is True
    silent = build(tmp_path)
    assert "p_values" not in silent
    assert "method" not in silent["releases"][0]
    assert not {"recipe", "trained_on_all"} & silent["ingest"].keys()


def test_a_method_of_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given for b, but there is no such release"):
        build(tmp_path, methods={"b": "scrub"})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a=x", "b=y", "--method", "scrub"], "several releases"),
        (["a=x", "--method", "c=scrub"], "the releases are a"),
        (["a=x", "--method", "scrub", "--method", "a=retrain"], "given twice"),
        (["a=x", "--method", "scrub:lr"], "expected NAME=VALUE"),
        (["a=x", "--method", "a=scrub:lr=0.1,lr=0.2"], "given twice"),
        (["a=x", "--recipe", "20"], "expected NAME=VALUE"),
    ],
)
def test_what_the_command_line_cannot_read_is_refused_in_words(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        CliRunner().invoke(app, ["pair", "model:before", *words], catch_exceptions=False)
