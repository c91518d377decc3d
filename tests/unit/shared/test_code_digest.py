"""One digest over a module and all that it runs on."""

from __future__ import annotations

import _json
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared.code_digest import compute_code_digest
from tests.support.source_tree import ROOT, copy_tree

pytestmark = pytest.mark.slow

MODULE = "shared.jobs.mapping"


def digest_elsewhere(module: str, *path: Path) -> str:
    """The digest in a process of its own, with its own import path."""
    command = [
        sys.executable,
        "-c",
        "import sys; from shared.code_digest import compute_code_digest; print(compute_code_digest(sys.argv[1]))",
        module,
    ]
    env = {"PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        command, cwd=path[-1], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_same_code_has_the_same_digest() -> None:
    assert compute_code_digest(MODULE) == compute_code_digest(MODULE)
    assert len(compute_code_digest(MODULE)) == 64
    assert compute_code_digest(MODULE) != compute_code_digest("shared.jobs.plan")


def test_what_is_imported_counts_and_nothing_else(tmp_path: Path) -> None:
    """rows imports records, which imports states; nothing of it imports queue."""
    tree = copy_tree(tmp_path)

    before = digest_elsewhere(MODULE, tree)
    assert before == compute_code_digest(MODULE)  # where the tree lies does not matter
    queue, states = tree / "shared/jobs/queue.py", tree / "shared/jobs/states.py"
    queue.write_text(queue.read_text() + "# changed\n")
    assert digest_elsewhere(MODULE, tree) == before
    states.write_text(states.read_text() + "# changed\n")
    assert digest_elsewhere(MODULE, tree) != before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report.css", "kinds/labels.html"])
def test_templates_beside_a_module_count(tmp_path: Path, name: str) -> None:
    tree = copy_tree(tmp_path)
    before = digest_elsewhere("workers.stages.report", tree)
    template = tree / "shared/reporting/templates" / name
    template.write_text(template.read_text() + "<!-- changed -->\n")
    assert digest_elsewhere("workers.stages.report", tree) != before


def test_every_module_of_a_folder_that_is_a_list_counts(tmp_path: Path) -> None:
    """None of them is imported by name."""
    tree = copy_tree(tmp_path)
    before, kinds = (
        digest_elsewhere("shared.reporting.build", tree),
        tree / "shared/reporting/kinds",
    )
    (kinds / "_helper.py").write_text("")
    assert digest_elsewhere("shared.reporting.build", tree) == before
    (kinds / "attributes.py").write_text((kinds / "labels.py").read_text())
    assert digest_elsewhere("shared.reporting.build", tree) != before


def test_a_module_outside_the_project_counts_itself_and_what_it_imports_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "planted_for_code.py"
    module.write_text("import json\nimport pydantic\nfrom shared import errors\n")
    before = compute_code_digest("planted_for_code")
    module.write_text(module.read_text() + "# changed\n")
    assert compute_code_digest("planted_for_code") != before
    assert "planted_for_code" not in sys.modules  # it was read, not run


def test_the_versions_of_packages_count(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("import planted_package")
    info = tmp_path / "planted_package-1.dist-info"
    info.mkdir()
    (info / "top_level.txt").write_text("planted_package\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-package\nVersion: 1.0\n")
    before = digest_elsewhere("planted", tmp_path, ROOT)
    assert digest_elsewhere("planted", tmp_path, ROOT) == before
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-package\nVersion: 1.1\n")
    assert digest_elsewhere("planted", tmp_path, ROOT) != before


def test_a_compiled_module_counts_by_the_version_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported already says where it lies; its bytes are no source. A real one, under
    another package."""
    package = tmp_path / "planted_fast"
    package.mkdir()
    (package / "__init__.py").write_text("")
    plugin = package / "plugin.py"
    plugin.write_text(
        "# -*- coding: latin-1 -*-\nfrom planted_fast import _json  # sch\u00f6n\n",
        encoding="latin-1",
    )
    compiled = Path(_json.__file__)
    shutil.copy(compiled, package / compiled.name)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for name in ("planted_fast.plugin", "planted_fast._json", "planted_fast"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert importlib.import_module("planted_fast._json").__file__ == str(package / compiled.name)
    assert len(compute_code_digest("planted_fast.plugin")) == 64
    for name in ("planted_fast._json", "planted_fast"):
        sys.modules.pop(name)
