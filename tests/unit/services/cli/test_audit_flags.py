"""services.cli.input.audit_flags: flags become fields, and go before a file."""

from __future__ import annotations

import pytest

from services.cli.input.audit_flags import (
    FIELDS,
    FLAGS,
    explain_error,
    is_from_flag,
    merge_flags,
    parse_flags,
)
from shared.jobs.spec import AuditSpec
from tests.support.yaml_text import load_yaml


def test_every_field_of_an_audit_has_a_flag():
    filled_in = {"declared"}  # by the gateway
    own = {"labels", "metadata"}  # of which plans know nothing
    assert set(FIELDS) - own == set(AuditSpec.model_fields) - filled_in


def test_flags_fill_fields():
    given = {
        "dataset": "mnist_5k",
        "unlearning": ["retrain", "ascent:lr=0.1"],
        "attack": None,
        "train": ["size=32"],
        "seed": [0, 1],
        "no_cache": None,
        "priority": 0,
        "file": "not a field",
    }
    assert parse_flags(given) == {
        "dataset": "mnist_5k",
        "unlearning": ["retrain", {"name": "ascent", "params": {"lr": 0.1}}],
        "train": {"size": 32},
        "seeds": [0, 1],
        "priority": 0,
    }
    assert parse_flags({flag.name: None for flag in FLAGS}) == {}


def test_what_is_on_by_default_can_be_turned_off():
    (flag,) = [flag for flag in FLAGS if flag.name == "check_forgetting"]
    (option,) = flag.to_parameter().annotation.__metadata__
    # typer takes the first argument of an annotated option as its name
    assert option.default == "--check-forgetting/--no-check-forgetting"
    assert parse_flags({"check_forgetting": False}) == {"check_forgetting": False}


def test_flags_go_before_the_file():
    file = {"name": "a", "train": {"size": 8, "lr": 1}, "seeds": [5], "forget": None}
    flags = {"train": {"size": 32}, "seeds": [1], "forget": {"deletions": 2}}
    made = merge_flags(file, flags)
    assert made == {
        "name": "a",
        "train": {"size": 32, "lr": 1},
        "seeds": [1],
        "forget": {"deletions": 2},
    }
    assert file["train"] == {"size": 8, "lr": 1}
    assert [is_from_flag(path, flags) for path in ("train.size", "train.lr", "train", "seeds.0", "name")] == [
        True, False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "message", "expected"),
    [
        ("dataset", "Field required", "dataset is missing"),
        (
            "unlearnings",
            "Extra inputs are not permitted",
            "unknown key 'unlearnings'; did you mean 'unlearning'?",
        ),
        ("attacks.0.parms", "Extra inputs are not permitted", "did you mean 'params'?"),
        ("zzz", "Extra inputs are not permitted", "unknown key 'zzz'. Known: dataset"),
        ("seeds.0", "Input should be a valid integer", "Input should be a valid integer"),
    ],
)
def test_errors_about_keys_are_explained(path, message, expected):
    assert expected in explain_error(path, message)


@pytest.mark.parametrize(
    ("word", "forget"),
    [
        ("rows=[4711, 12]", {"rows": [4711, 12]}),
        ("rows=[[1, 2], [3, 4]]", {"rows": [[1, 2], [3, 4]]}),
        ('ids=["4711"]', {"ids": ["4711"]}),
        ('files=["cat/0007.png"]', {"files": ["cat/0007.png"]}),
    ],
)
def test_deletions_are_named_by_flags_as_in_a_file(word, forget):
    assert parse_flags({"forget": [word]}) == {"forget": forget}
    assert load_yaml(f"forget: {{{word.replace('=', ': ', 1)}}}") == {"forget": forget}
