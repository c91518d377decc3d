"""Source distribution and wheel: complete, with the version that git gives, and usable in an
environment of their own: the commands, the package `palimpsest` and its types."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from services import client
from shared import RELEASE
from tests.support.source_tree import ROOT, copy_tree
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

RIGHT = """
import asyncio
from pathlib import Path
from palimpsest import AsyncClient, Client, Job, NotFound, Report

def use(client: Client) -> list[Path]:
    job: Job = client.submit_job("train", seed=1)
    for update in client.watch(job.id, poll_interval_s=0.1):
        left: float | None = update.remaining_s
    try:
        report: Report = client.get_report("aud_1")
    except NotFound as error:
        raise SystemExit(error.detail)
    return report.save(Path("there"))

async def use_async(client: AsyncClient) -> str:
    return (await client.get_job("job_1")).state
"""
WRONG = """
from palimpsest import Client

def use(client: Client) -> int:
    return client.get_job("job_1").state
"""


# for those who run from a checkout
MANIFESTS = "deploy/k8s/"
NOT_INSTALLED = (
    "deploy/gateway.Dockerfile",
    "deploy/local/install.sh",
    "deploy/worker.Dockerfile",
)


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )


def require(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a checkout at the tag v7.8.9."""
    source = copy_tree(tmp_path_factory.mktemp("source"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "examples", source / "examples")
    git = ("git", "-c", "user.name=tester", "-c", "user.email=tester@localhost")
    for command in (
        (*git, "init", "--quiet"),
        (*git, "commit", "--quiet", "--allow-empty", "--message", "a release"),
        (*git, "tag", "v7.8.9"),
        (sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", "made"),
    ):
        require(run(*command, cwd=source))
    (found,) = (source / "made").iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip does, from the source distribution, without a network."""
    made = tmp_path_factory.mktemp("made")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--wheel-dir", made)
    require(run(sys.executable, "-m", "pip", "wheel", *options, sdist, cwd=made))
    (found,) = made.glob("palimpsest-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with this wheel; what the wheel depends on is taken from the
    running one."""
    folder = tmp_path_factory.mktemp("installed")
    require(run(sys.executable, "-m", "venv", folder, cwd=folder))
    python = folder / "bin/python"
    require(
        run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=folder)
    )
    site = Path(
        require(
            run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
        ).strip()
    )
    ours = [entry for entry in sys.path if entry.endswith("-packages")]
    (site / "dependencies.pth").write_text("".join(f"{entry}\n" for entry in ours))
    return python


def test_the_wheel_has_the_client_with_its_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    own = {path.name for path in (ROOT / "services/client").iterdir() if path.is_file()}
    assert {
        name.removeprefix("palimpsest/") for name in names if name.startswith("palimpsest/")
    } == own
    assert "py.typed" in own
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        "palimpsest", "services", "workers", "shared", "deploy"
    }  # fmt: skip


def test_both_have_the_version_of_the_tag_and_so_has_the_code(
    sdist: Path, wheel: Path, installed: Path, tmp_path: Path
) -> None:
    assert sdist.name == "palimpsest-7.8.9.tar.gz"
    assert wheel.name.startswith("palimpsest-7.8.9-")
    assert require(run(installed, "-c", "import shared; print(shared.VERSION)", cwd=tmp_path)) == (
        "7.8.9\n"
    )


def test_a_later_commit_is_on_its_way_to_the_next_release(sdist: Path) -> None:
    source = sdist.parents[1]
    git = ("git", "-c", "user.name=tester", "-c", "user.email=tester@localhost")
    require(run(*git, "commit", "--quiet", "--allow-empty", "--message", "more", cwd=source))
    described = require(run(sys.executable, "setup.py", "--version", cwd=source)).strip()
    assert re.fullmatch(rf"{re.escape(RELEASE)}\.dev1\+g[0-9a-f]{{7}}", described)
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## ([0-9.]+)", changes, re.MULTILINE)[0] == RELEASE


def test_all_files_of_the_code_are_there(wheel: Path) -> None:
    """Templates, styles, scripts, pictures, data, and the licences of what others have written."""
    tracked = subprocess.run(
        ["git", "ls-files", "services", "shared", "workers", "deploy", "examples"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = {
        name
        for name in tracked
        if name not in names and not name.startswith(("services/client/", "examples/", MANIFESTS))
    }
    assert missing == set(NOT_INSTALLED)
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE"}


def test_the_gateway_brings_the_examples(wheel: Path) -> None:
    folder = "services/gateway/console/examples/"
    names = {
        name.removeprefix(folder) for name in zipfile.ZipFile(wheel).namelist() if folder in name
    }
    assert names == {path.name for path in (ROOT / "examples").glob("*.yaml")}


def test_the_command_runs(installed: Path, tmp_path: Path) -> None:
    shown = require(run(installed.parent / "palimpsest", "--help", cwd=tmp_path))
    assert "Measure what machine unlearning leaks" in shown
    done = run(installed.parent / "palimpsest", "jobs", cwd=tmp_path)
    assert (done.returncode, "no gateway configured" in done.stderr) == (2, True)


def test_the_command_of_administrators_runs(installed: Path, tmp_path: Path) -> None:
    shown = require(run(installed.parent / "palimpsest-admin", "--help", cwd=tmp_path))
    assert "migrate" in shown


def test_the_package_is_imported_whole_and_alone(installed: Path, tmp_path: Path) -> None:
    """A user's own folder of the name services does not get in its way."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services/__init__.py").write_text("raise SystemExit('not that one')")
    script = "import sys, palimpsest; print(palimpsest.__file__, sorted(palimpsest.__all__)); "
    script += "print([m for m in sys.modules if m.partition('.')[0] in ('services', 'shared', 'workers', 'flask')])"
    where, loaded = require(run(installed, "-c", script, cwd=tmp_path)).splitlines()
    assert where.startswith(str(installed.parents[1]))
    assert where.endswith(str(sorted(client.__all__)))
    assert loaded == "[]"


def test_the_command_imports_the_client_under_one_name(installed: Path, tmp_path: Path) -> None:
    script = "import sys, services.cli.main; print('palimpsest' in sys.modules)"
    assert require(run(installed, "-c", script, cwd=tmp_path)) == "False\n"


def test_mypy_sees_the_types(installed: Path, tmp_path: Path) -> None:
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", installed)
    (tmp_path / "right.py").write_text(RIGHT)
    require(run(*mypy, "right.py", cwd=tmp_path))
    (tmp_path / "wrong.py").write_text(WRONG)
    done = run(*mypy, "wrong.py", cwd=tmp_path)
    assert done.returncode == 1
    assert 'Incompatible return value type (got "str", expected "int")' in done.stdout


def test_nothing_of_ours_imports_the_client_by_its_published_name() -> None:
    """Else one process would have each of its classes twice, and `except` would miss half of the
    errors."""
    files = [
        path
        for name in ("services", "workers", "shared", "deploy", "benchmarks")
        for path in (ROOT / name).rglob("*.py")
    ]
    assert len(files) > 300
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            )
            assert "palimpsest" not in {name.partition(".")[0] for name in names}, path


def test_the_client_imports_itself_by_relative_names_only() -> None:
    """An absolute one would bring in the other copy."""
    for path in (ROOT / "services/client").glob("*.py"):
        assert not re.search(r"^\s*(from|import) services\b", path.read_text(), re.MULTILINE), path
