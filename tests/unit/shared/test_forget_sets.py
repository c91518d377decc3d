"""What is forgotten, as people write it: read as it is meant, or shown how it is written."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.forget_sets import add_deletable, check_form, list_forget_sets, list_named_records


@pytest.mark.parametrize(
    ("forget", "field", "words"),
    [
        (
            {"class": 12},
            "class",
            "write forget: {forget: class, deletions: 1}, and the seed selects which",
        ),
        (
            {"indices": [3, 7]},
            "indices",
            "write [[3], [7]] to forget two samples in two deletions, or [[3, 7]] to",
        ),
        ({"indices": 3}, "indices", "write [[3], [7]]"),
        ({"indices": [3, [7]]}, "indices", "write [[3], [7]]"),
        ({"rows": 4711}, "rows", "write rows: [4711]"),
        ({"rows": ["cat/7.png"]}, "rows", "integers from 0"),
        ({"rows": [3.0]}, "rows", "integers from 0"),
        ({"rows": [True]}, "rows", "integers from 0"),
        ({"ids": [4711]}, "ids", "write ids: ['4711']"),
        ({"ids": [["a", 5]]}, "ids", "ids must be strings"),
        (
            {"files": "cat/7.png"},
            "files",
            "write files: ['cat/7.png'], with one entry per deletion",
        ),
        ({"rows": [1], "ids": ["1"]}, "ids", "rows and ids both specify"),
        ({"indices": [[1]], "rows": [1]}, "rows", "indices and rows both specify"),
    ],
)
def test_other_forms_are_shown_the_right_one(
    forget: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_form(forget)
    assert refused.value.field == field
    assert words in refused.value.message


@pytest.mark.parametrize(
    "forget",
    [
        {},
        {"deletions": 3},
        {"indices": [[3], [7]]},
        {"rows": [4711]},
        {"rows": [[1, 2], [3, 4]]},
        {"files": ["a/b"]},
    ],
)
def test_right_forms_pass(forget: dict[str, Any]) -> None:
    check_form(forget)


def test_a_name_alone_is_a_deletion_of_its_own() -> None:
    assert list_forget_sets({"rows": [4711, 12]}) == ("rows", [[4711], [12]])
    assert list_forget_sets({"ids": [["a", "b"], ["c", "d"]]}) == ("ids", [["a", "b"], ["c", "d"]])
    assert list_forget_sets({"deletions": 3, "rows": None}) is None
    assert list_named_records({"files": [["a", "b"], "a"]}) == ("files", ["a", "b"])
    assert list_named_records({"indices": [[1]]}) is None


def test_a_data_set_is_told_which_records_deletions_name() -> None:
    dataset = {"name": "npz", "params": {"path": "x", "deletable_rows": [3]}}
    told = add_deletable(dataset, {"rows": [4711, [3, 5]]}, ["path", "deletable_rows"])
    assert told == {"name": "npz", "params": {"path": "x", "deletable_rows": [3, 4711, 5]}}
    assert add_deletable(dataset, {}, []) == dataset
    for known, words in (
        (["path", "deletable_rows"], "samples of npz cannot be named by files: use rows"),
        ([], "use indices"),
    ):
        with pytest.raises(InvalidRequest, match=words) as refused:
            add_deletable(dataset, {"files": ["a"]}, known)
        assert refused.value.field == "files"
