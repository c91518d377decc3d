"""A package that is installed beside the project adds plugins: built and installed by pip, as
docs/adding says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_serve import make_clean_env
from tests.support.source_tree import ROOT
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

PAGES = ROOT / "docs/adding"
AUDIT = """
import json
from workers.local import run_stage

choices = {"dataset": {"name": "mnist_5k"}, "model": {"name": "mlp"}}
made = run_stage("pretrain", {}, epochs=1, **choices)
made |= run_stage("train", made, dataset=choices["dataset"], size=16, epochs=1)
made |= run_stage("unlearn", made, "gradient_ascent", deletions=2)
found = run_stage("attack", made, "loudest_row")
print(len(json.loads(found["ANSWERS"].data)["labels"]))
"""


def block(page: str, language: str) -> str:
    """The last code block of a page in this language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (PAGES / page).read_text(), re.DOTALL | re.MULTILINE
    )[-1]


def write_package(folder: Path, module: str) -> Path:
    """The package of docs/adding/README.md, with this text as its one plugin module."""
    (folder / "my_attacks").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(block("README.md", "toml"))
    (folder / "my_attacks/__init__.py").write_text("")
    (folder / "my_attacks/loudest_row.py").write_text(module)
    return folder


def install(package: Path, to: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps", "--quiet",
        "--target", str(to), str(package),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=package,
        env=make_clean_env(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return to


def run(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**make_clean_env(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])}
    return subprocess.run(
        [sys.executable, *command],
        cwd=site,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    return install(write_package(folder / "source", block("attack.md", "python")), folder / "site")


def test_a_fresh_process_publishes_its_attack(site: Path) -> None:
    done = run(site, "-m", "workers.catalog")
    assert done.returncode == 0, done.stderr
    entry = next(
        e for e in json.loads(done.stdout) if (e["kind"], e["name"]) == ("attack", "loudest_row")
    )
    assert entry["traits"] == {"access": "white_box"}
    assert len(entry["code"]) == 64


def test_its_attack_runs(site: Path) -> None:
    done = run(site, "-c", AUDIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "import no_such_package",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("x = 1", "registers no attack: decorate its class or function"),
        ("def broken(:", "cannot be imported: SyntaxError"),
        (
            "from shared.ml.attacks.api import register\n@register('label_inference', access='white_box')\n"
            "def run():\n    'Again.'",
            "attack 'label_inference' is registered twice: in shared.ml.attacks.label_inference and in "
            "my_attacks.loudest_row",
        ),
        (
            "from shared.ml.attacks.api import register\n@register('new', acces='white_box')\ndef run():\n    'New.'",
            "sets acces, which is not a field of AttackPlugin: did you mean access?",
        ),
    ],
)
def test_a_broken_one_stops_the_worker_by_name(tmp_path: Path, module: str, said: str) -> None:
    """Here the installer's two files are written by hand: pip would add nothing but time."""
    site = write_package(tmp_path / "site", module)
    info = site / "my_attacks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-attacks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[palimpsest.attacks]\nloudest_row = my_attacks.loudest_row\n"
    )
    done = run(site, "-m", "workers.catalog")
    assert done.returncode == 1
    assert (
        "entry point 'loudest_row' (palimpsest.attacks) of the distribution 'my-attacks'"
        in done.stderr
    )
    assert said in done.stderr
    assert str(tmp_path) not in done.stderr


def test_a_change_of_what_it_imports_of_its_own_package_is_another_digest(tmp_path: Path) -> None:
    code = (
        "from shared.code_digest import compute_code_digest; "
        "print(compute_code_digest('my_attacks.loudest_row'))"
    )
    text = block("attack.md", "python") + "\nfrom . import _helper\n"
    package = write_package(tmp_path / "package", text)
    helper = package / "my_attacks/_helper.py"
    digests = []
    for value in (1, 1, 2):
        helper.write_text(f"X = {value}\n")
        digests.append(run(package, "-c", code).stdout.strip())
    assert [len(digest) for digest in digests] == [64, 64, 64]
    assert digests[0] == digests[1] != digests[2]
