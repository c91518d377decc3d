"""A kind of finding is known by name in its own files alone: stages and reports ask the kinds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from shared.ml import findings
from shared.reporting.kinds import list_kinds
from tests.support.source_tree import ROOT

ROOMS = ("shared/reporting", "workers/stages")
# asks label attacks again: what p-values are made of is of that kind
SHADOW = ROOT / "workers/stages/shadow.py"
METRICS = {
    name
    for kind in list_kinds()
    for name in (kind.metric, *kind.shares, *kind.metric_names, *kind.derived)
}
ROLES = {str(kind.role) for kind in findings.list_kinds()}
RESULTS = {"Reconstruction", "LabelGuesses", "MembershipScores"}


def find_named(path: Path) -> Iterator[str]:
    """Where a module spells a metric, takes the role of a kind's artifact, or knows the type of its
    results."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and node.value in METRICS:
            yield f"{path.name}:{node.lineno}: {node.value}"
        if isinstance(node, ast.Attribute) and node.attr in ROLES:
            yield f"{path.name}:{node.lineno}: {node.attr}"
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("shared.ml.attacks")
        ):
            yield from (
                f"{path.name}:{node.lineno}: {a.name}" for a in node.names if a.name in RESULTS
            )


def find_in_template(path: Path) -> Iterator[str]:
    """The same in what a template computes."""
    for code in re.findall(r"{[{%].*?[}%]}", path.read_text(), re.DOTALL):
        yield from (f"{path.name}: {name}" for name in METRICS if re.search(rf"\b{name}\b", code))


def of_rooms(pattern: str) -> list[Path]:
    """Files outside the folders of kinds."""
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob(pattern))
        if path.parent.name != "kinds"
    ]


def test_no_module_of_reports_and_stages_knows_a_kind_by_name() -> None:
    files = [path for path in of_rooms("*.py") if path != SHADOW]
    assert len(files) > 40
    assert [place for path in files for place in find_named(path)] == []


def test_no_common_template_knows_a_kind_by_name() -> None:
    templates = of_rooms("*.html")
    assert templates
    assert [place for path in templates for place in find_in_template(path)] == []


def test_what_is_named_is_found(tmp_path: Path) -> None:
    (module := tmp_path / "glance.py").write_text(
        '"""psnr."""\nfrom shared.ml.attacks.api import LabelGuesses\nX = "psnr" in metrics, Role.SCORES\n'
    )
    assert {place.rpartition(" ")[2] for place in find_named(module)} == {
        "LabelGuesses",
        "psnr",
        "SCORES",
    }
    (template := tmp_path / "report.html").write_text(
        "psnr {{ row.metrics.psnr }}{% if x == 'mse' %}"
    )
    assert {place.rpartition(" ")[2] for place in find_in_template(template)} == {"psnr", "mse"}


def test_every_kind_has_a_module_beside_the_science_and_one_in_reporting() -> None:
    modules = [
        {type(kind).__module__.rpartition(".")[2] for kind in found}
        for found in (findings.list_kinds(), list_kinds())
    ]
    assert modules[0] == modules[1]
    templates = {path.stem for path in (ROOT / "shared/reporting/templates/kinds").iterdir()}
    assert templates == modules[1]
