"""Tables as people have them: read as they are meant, or refused by line and column without a value
being repeated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.datasets._columns import MISSING
from shared.ml.datasets._naming import natural_key, normalise_name
from shared.ml.datasets._numerals import Notation
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef

PATH = "params.dataset.params.path"
WRITTEN = "0 -3 +4 2.50 .5 7. 1e-05 2.5e3 1E+02 -0.0"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    return tmp_path


def write(
    root: Path, values: Sequence[str], target: Sequence[str] = (), delimiter: str = ","
) -> None:
    """A file of the columns `x` and `t`."""
    target = target or list(itertools.islice(itertools.cycle(["no", "yes"]), len(values)))
    rows = (f'"{value}"{delimiter}"{label}"' for value, label in zip(values, target, strict=True))
    (root / "own.csv").write_text("\n".join([f"x{delimiter}t", *rows]) + "\n", encoding="utf-8")


def own(**params: Any) -> Any:
    return open_dataset(PluginRef(name="csv", params={"path": "own.csv", "target": "t", **params}))


def scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return (
        (torch.tensor([(v - low) / (high - low) for v in values], dtype=torch.float64))
        .float()
        .tolist()
    )


def first_feature(**params: Any) -> list[float]:
    found: list[float] = own(**params).encoded.samples.images[:, 0].flatten().tolist()
    return found


def refusal(**params: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        own(**params).load("train")
    return caught.value


@pytest.mark.parametrize("bad", ["4o", "forty", "inf", "0x1F", "4 2", "1_2", "007", "5E2"])
def test_one_bad_cell_among_ages_is_refused_by_line_and_column(root: Path, bad: str) -> None:
    ages = [str(20 + i) for i in range(60)]
    ages[16] = bad
    write(root, ages)
    refused = refusal()
    assert refused.message.startswith(
        "own.csv: line 18, column 'x': not a number, but most of the column is numeric"
    )
    assert "categorical" in refused.message
    assert bad not in refused.message.replace("codes such as 0123 or 5E2", "")
    assert refused.field == PATH
    # who says that they are names gets names
    assert len(own(categorical=["x"]).encoded.features) == 60


def test_a_number_among_words_is_refused_too(root: Path) -> None:
    write(root, ["v45", "250", *["e11", "v45"] * 9])
    assert (
        "line 3, column 'x': a number, but most of the column is not numeric" in refusal().message
    )
    assert own(categorical=["x"]).encoded.features == ("x = 250", "x = e11", "x = v45")


@pytest.mark.parametrize(
    "codes",
    [
        ("1_2", "2_1"),
        ("5E2", "6E1"),
        ("007", "012"),
        ("1.2.3", "1.3.0"),
        ("2020-01-02", "2021-02-03"),
    ],
)
def test_codes_stay_codes(root: Path, codes: tuple[str, str]) -> None:
    write(root, codes * 10)
    assert own().encoded.features == tuple(f"x = {code}" for code in sorted(codes))


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (WRITTEN.split(), [0, -3, 4, 2.5, 0.5, 7, 1e-5, 2500, 100, 0]),
        # all with three decimals
        ([f"{i}.250" for i in range(1, 11)], [i + 0.25 for i in range(1, 11)]),
        # one shows what the point is
        (["900", "1.234", "1.5", *map(str, range(7))], [900, 1.234, 1.5, *range(7)]),
        (["0.125", "1.234", *map(str, range(8))], [0.125, 1.234, *range(8)]),
    ],
)  # fmt: skip
def test_numbers_as_programs_write_them(root: Path, texts: list[str], values: list[float]) -> None:
    write(root, texts)
    assert own().encoded.features == ("x",)
    assert first_feature() == scaled(values)


EUROPEAN = ["1,5", "2,25", *(f"{i},75" for i in range(8))]
GERMAN = ["900", "1.234", "12.345,5", *map(str, range(7))]
GROUPED = ["900", "1,234", "12,345.5", *map(str, range(7))]


@pytest.mark.parametrize(
    ("texts", "params", "values"),
    [
        (EUROPEAN, {"decimal": ","}, [1.5, 2.25, *(i + 0.75 for i in range(8))]),
        (GROUPED, {"thousands": ","}, [900, 1234, 12345.5, *range(7)]),
        (GERMAN, {"thousands": ".", "decimal": ","}, [900, 1234, 12345.5, *range(7)]),
        (["900", "1 234", "1\u00a0235", *map(str, range(7))], {"thousands": " "}, [900, 1234, 1235, *range(7)]),
        (["900", "1'234", "1’235", *map(str, range(7))], {"thousands": "'"}, [900, 1234, 1235, *range(7)]),
        (["900", "1.234", *map(str, range(8))], {"decimal": "."}, [900, 1.234, *range(8)]),
    ],
)  # fmt: skip
def test_decimal_comma_and_thousands_are_read_as_a_parameter_says_and_refused_without(
    root: Path, texts: list[str], params: dict[str, str], values: list[float]
) -> None:
    write(root, texts)
    assert first_feature(**params) == scaled(values)
    refused = refusal()
    assert "decimal" in refused.message
    assert "thousands" in refused.message
    assert "column 'x'" in refused.message
    assert not any(text in refused.message for text in texts if len(text) > 2)


@pytest.mark.parametrize(
    "texts", [["12%", "13.5%"], ["$5", "$1,200"], ["5 €", "6 €"], ["−5", "5"], ["1,23", "1,234"]]
)
def test_units_and_other_signs_are_refused_and_never_become_one_hot(
    root: Path, texts: list[str]
) -> None:
    write(root, texts * 10)
    assert "column 'x'" in refusal().message
    if "1,234" in texts:
        # 1,23 is no number with thousands
        assert "line 2, column 'x'" in refusal(thousands=",").message


def test_one_sign_cannot_be_both(root: Path) -> None:
    write(root, GROUPED)
    for params in ({"thousands": "."}, {"thousands": ",", "decimal": ","}):
        assert refusal(**params).field == "params.dataset.params.thousands"


def test_what_counts_as_missing_is_a_parameter(root: Path) -> None:
    countries = ["NA", "DE", "AO", "ZA"] * 5
    write(root, countries)
    refused = refusal()
    assert (
        "own.csv: line 2, column 'x': a value is missing ('NA' counts as missing)"
        in refused.message
    )
    assert "remove it from the parameter missing" in refused.message
    assert own(missing=[]).encoded.features == ("x = AO", "x = DE", "x = NA", "x = ZA")
    assert "line 3" in refusal(missing=["DE"]).message
    write(root, ["", *countries])
    # an empty one always is
    assert "line 2, column 'x': a value is missing" in refusal(missing=[]).message
    write(root, ["Na", "Cl"] * 10)
    assert own().encoded.features == ("x = Cl", "x = Na")  # sodium
    assert "NA" in MISSING


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (["yes", "no", "Yes"], "line 4, column 't': differs from line 2 only in case"),
        (
            ["yes", "no", "no  way", "no way"],
            "line 5, column 't': differs from line 4 only in case, blanks",
        ),
        (
            ["caf\u00e9", "tea", "cafe\u0301"],
            "line 4, column 't': differs from line 2 only in case, blanks or Unicode",
        ),
        (
            ["1", "0", "1.0"],
            "line 4, column 't': the same number is written differently on line 2",
        ),
        (
            ["1", "0", "unknown"],
            "line 4, column 't': not a number, but most of the column is numeric",
        ),
        (["1,5", "0,5"], "line 2, column 't': not a number from"),
    ],
)
def test_a_class_that_is_written_in_two_ways_is_refused(
    root: Path, target: list[str], words: str
) -> None:
    n = len(target)
    write(root, [str(i) for i in range(6 * n)], target * 6)
    assert words in refusal().message
    assert own(categorical=["t"]).num_classes == n  # who says so gets what is written


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            [str(1000 + 37 * i) for i in range(60)],
            "has 60 different numbers, which look like measurements",
        ),
        (
            [str(18 + i) for i in range(60)],
            "has 60 different numbers, which look like measurements",
        ),
        ([f"{i / 4}" for i in range(60)], "has 60 different numbers, which look like measurements"),
        ([f"P. Erson {i}" for i in range(60)], "look like row names"),
        (["same"] * 60, "must have 2 to 1000 classes, but has 1 different value$"),
    ],
)
def test_a_target_without_classes_is_refused_with_what_it_looks_like(
    root: Path, target: list[str], words: str
) -> None:
    write(root, [str(i) for i in range(60)], target)
    with pytest.raises(InvalidRequest, match=words) as caught:
        own().load("train")
    assert "target 't'" in caught.value.message
    assert not any(
        value in caught.value.message for value in target if len(value) > 3 and value != "same"
    )


def test_many_classes_that_are_numbered_are_classes(root: Path) -> None:
    write(root, [str(i) for i in range(260)], [str(i % 26) for i in range(260)])
    dataset = own()
    assert dataset.encoded.classes == tuple(map(str, range(26)))


def test_classes_are_in_natural_order(root: Path) -> None:
    write(root, [str(i) for i in range(30)], ["class 10", "class 2", "class 1"] * 10)
    assert own().encoded.classes == ("class 1", "class 2", "class 10")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"x;t\n" + b"1;a\n2;b\n" * 10, "has no column 't': name one of x;t .one column: is the delimiter ';'"),
        (b"63,male,145\n" * 20, "has no column 't': name one of its 3 columns .does the first line hold"),
        (b"".join(b"%d,0\n" % i for i in range(20)), "the first line must name the columns, but holds only numbers"),
        (b",x,t\n" + b"".join(b"%d,1,a\n" % i for i in range(20)), "column 1 has no name .* to_csv"),
        (b"x,x,t\n" + b"1,2,a\n" * 20, "columns 1 and 2 have the same name"),
        (b"x,t\n" + b"1,a\n" * 8 + "2,ä\n".encode("latin-1") + b"1,b\n" * 9, "line 10 is not UTF-8 text: save"),
        ("x,t\n1,a\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"x,t\n" + b"1,a\n" * 12 + b"1,5,b\n" * 9, "line 14 has 3 values, but the first line has 2: put .* quotes"),
        (b"x,t\n1,a\n\0,b\n" * 9, "own.csv"),
        (b"", "is empty"),
    ],
)  # fmt: skip
def test_a_file_in_another_dialect_is_refused_by_line(root: Path, body: bytes, words: str) -> None:
    (root / "own.csv").write_bytes(body)
    with pytest.raises(InvalidRequest, match=words) as caught:
        own().load("train")
    assert str(root) not in caught.value.message


def test_names_that_differ_only_in_what_people_overlook() -> None:
    assert normalise_name("  Caf\u00e9 AU  lait") == normalise_name("cafe\u0301 au lait")
    assert normalise_name("STRASSE") == normalise_name("straße")
    long = "9" * 5000
    assert sorted(["a10", "a2", "10", "2", "b", long], key=natural_key) == [
        "2",
        "10",
        long,
        "a2",
        "a10",
        "b",
    ]


def test_a_numeral_in_another_script_is_no_number() -> None:
    assert Notation().number("٣") is None
    assert Notation().number("1e400") is None
    assert Notation().number("1e-300") == 1e-300
