"""services.cli.input.audit_file: what is read, what is refused, and where a complaint points."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit_text import MAX_BYTES, AuditText
from services.cli.input.audit_file import read_audit_file
from services.cli.output.console import UsageError

AUDIT = """\
# what leaks
name: two methods
model: {name: mlp, params: {width: 8}}
unlearning:
  - ascent
  - name: retrain
    params:
      lr: 1e-3
"""


def written(folder: Path, text: str | bytes) -> AuditText:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_audit_file(path)


def test_an_audit_is_read_and_1e_3_is_a_number(tmp_path):
    spec = written(tmp_path, AUDIT).spec
    assert spec["unlearning"] == ["ascent", {"name": "retrain", "params": {"lr": 0.001}}]
    assert written(tmp_path, '{"name": "json too"}').spec == {"name": "json too"}
    assert written(tmp_path, "a: &x {b: 1}\nc: {<<: *x, d: 2}").spec["c"] == {"b": 1, "d": 2}


@pytest.mark.parametrize(
    ("field", "line", "quoted"),
    [
        ("name", 2, "name: two methods"),
        ("model.params.width", 3, "width: 8"),
        ("model.params.depth", 3, "params: {width: 8}"),
        ("unlearning.0.name", 5, "ascent"),
        ("unlearning.1.name", 6, "name: retrain"),
        ("unlearning.1.params.lr", 8, "lr: 1e-3"),
        ("unlearning.7", 4, "unlearning:"),
        ("dataset", 2, "n"),
    ],
)
def test_a_field_is_found_in_the_file(tmp_path, field, line, quoted):
    message = written(tmp_path, AUDIT).format_error(field, "is wrong")
    first, shown, pointer = message.split("\n")
    assert first == f"{tmp_path}/a.yaml:{line}: is wrong"
    assert shown[pointer.index("^") :].startswith(quoted)
    assert pointer.count("^") == len(quoted)


def test_of_a_long_line_the_part_that_matters_is_quoted(tmp_path):
    found = written(tmp_path, json.dumps({"name": "x" * 500, "seeds": [0] * 200, "model": "mpl"}))
    for field, quoted in (
        ("model", '"model": "mpl"'),
        ("name", '"name": "xxx'),
        ("seeds", '"seeds": [0'),
    ):
        _, shown, pointer = found.format_error(field, "is wrong").split("\n")
        assert shown[pointer.index("^") :].startswith(quoted)
        assert len(pointer) <= len(shown) < 120


def test_a_complaint_about_the_whole_quotes_nothing(tmp_path):
    assert (
        written(tmp_path, AUDIT).format_error("", "is too much")
        == f"{tmp_path}/a.yaml: is too much"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [", "a.yaml:2: not YAML: "),
        ("a: 1\n b: 2", "a.yaml:2: not YAML: "),
        ("a: 1\nb: '", "a.yaml:2: not YAML: "),
        ("a: 1\nb: *x", "a.yaml:2: not YAML: found undefined alias"),
        ("a: 1\nb: {c: 1, c: 2}", "a.yaml:2: duplicate key 'c', first given in line 2"),
        ("a: 1\na: 2", "a.yaml:2: duplicate key 'a', first given in line 1"),
        ("a: 1\nb: 2024-01-01", "a.yaml:2: YAML reads 2024-01-01 as a date"),
        ("a: 1\nb: [0042]", "a.yaml:2: YAML reads 0042 as a number without its leading zeros"),
        ("a: 1\nb: .inf", "a.yaml:2: .inf is not a finite number"),
        ("a: 1\n2: b", "a.yaml:2: a key must be a string"),
        (
            "a: 1\nb: !!python/name:os.system x",
            "a.yaml:2: unsupported YAML tag 'python/name:os.system'",
        ),
        ("a: 1\nb: &x [*x]", "a.yaml:2: more than"),
        ("a: 1\nb: " + "[" * 60 + "]" * 60, "a.yaml:2: more than"),
        ("a: 1\nb: \x01", "a.yaml:2: not YAML: special characters"),
        ("[1, 2]", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: 1e999", "a.yaml as an audit: "),
        (b"a: 1\nb: \xff", "a.yaml:2: not YAML: the file is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "too large"),
    ],
)
def test_ambiguous_values_are_refused_by_their_line(tmp_path, text, expected):
    with pytest.raises(UsageError) as caught:
        written(tmp_path, text)
    assert expected in str(caught.value)


def test_a_few_lines_of_aliases_are_not_billions_of_values(tmp_path):
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    with pytest.raises(UsageError, match="more than"):
        written(tmp_path, "\n".join(lines))


def test_a_file_that_cannot_be_opened(tmp_path):
    for path, why in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=why):
            read_audit_file(path)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_an_audit_or_wrong_use(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("a") / "x.yaml"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        found = read_audit_file(path)
        assert isinstance(found.spec, dict)
        assert found.format_error("a.0.b", "m").startswith(f"{path}:")
