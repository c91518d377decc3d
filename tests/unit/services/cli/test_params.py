"""services.cli.input.params."""

from __future__ import annotations

import pytest

from services.cli.input.params import parse_choice, parse_inputs, parse_params
from services.cli.output.console import UsageError
from services.values import parse_value


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1", 1), ("1.5", 1.5), ("1e-3", 0.001), (".5", 0.5), ("-2", -2), ("true", True), ("null", None),
        ("yes", "yes"),
        ('"1"', "1"), ("[1,2]", [1, 2]), ('{"a":1}', {"a": 1}), ("", ""), ("NaN", "NaN"), ("inf", "inf"),
        ("1e999", "1e999"),
        ("a=b", "a=b"),
        ("[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(text, read):
    assert parse_value(text) == read
    assert type(parse_value(text)) is type(read)


def test_params_go_into_objects():
    assert parse_params(["size=32", "model.name=mlp", "model.params.width=8", "note=a=b"]) == {
        "size": 32,
        "model": {"name": "mlp", "params": {"width": 8}},
        "note": "a=b",
    }


@pytest.mark.parametrize(
    "words", ["size", "=1", "a..b=1", ".a=1", "a=1 a=2", "a=1 a.b=2", "a.b=1 a=2"]
)
def test_params_that_cannot_be_right(words):
    with pytest.raises(UsageError, match="--param"):
        parse_params(words.split())


def test_inputs():
    assert parse_inputs(["A=job_1", "B=job_1:C", "D=" + "0" * 64]) == {
        "A": "job_1",
        "B": {"job": "job_1", "role": "C"},
        "D": "0" * 64,
    }
    for wrong in (["A"], ["A="], ["=job_1"], ["A=job_1", "A=job_2"]):
        with pytest.raises(UsageError, match="--input"):
            parse_inputs(wrong)


def test_a_choice_may_have_params():
    assert parse_choice("retrain", "--unlearning") == "retrain"
    assert parse_choice("a:n=3,xs=[1,2],t=a,b", "--attack") == {
        "name": "a",
        "params": {"n": 3, "xs": [1, 2], "t": "a,b"},
    }
    assert parse_choice("declared:mine@2", "--dataset") == {"declared": "mine@2"}
    for wrong in ("", ":n=1", "a:", "a:n", "a:n=1,n=2"):
        with pytest.raises(UsageError, match="--attack"):
            parse_choice(wrong, "--attack")
