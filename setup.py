"""What pyproject.toml has no words for: the package `palimpsest` is the folder services/client, the
gateway brings the example audits along, and the version comes from git.

`python setup.py --version` prints it; images are built with it.
"""

import re
import subprocess
import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent.resolve()
sys.path.insert(0, str(ROOT))

from shared import RELEASE, VERSION, VERSION_FILE  # noqa: E402 - this source tree's own

EXAMPLES = "services.gateway.console.examples"
SERVICE = ["services*", "workers*", "shared*", "deploy*"]
_DESCRIBED = re.compile(
    r"(?:v(?P<tag>[0-9][0-9.]*)-(?P<since>[0-9]+)-g)?(?P<commit>[0-9a-f]+)(?P<dirty>-dirty)?"
)


def find_version() -> str:
    """0.2.0 at the tag v0.2.0, 0.2.0.dev7+g1a2b3c4 before it; without git what was written when
    this source was packed."""
    if not (ROOT / ".git").exists():
        return VERSION
    command = ["git", "describe", "--tags", "--long", "--always", "--dirty", "--match", "v[0-9]*"]
    try:
        described = _run_git(command)
        match = _DESCRIBED.fullmatch(described)
        if match is None:
            return VERSION
        if match["tag"] and match["since"] == "0" and not match["dirty"]:
            return match["tag"]
        since = match["since"] or _run_git(["git", "rev-list", "--count", "HEAD"])
    except (OSError, subprocess.CalledProcessError):  # no git here, or a checkout of another user
        return VERSION
    return f"{RELEASE}.dev{since}+g{match['commit'][:7]}{'.dirty' if match['dirty'] else ''}"


def _run_git(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()


def write_version(folder: str) -> None:
    """Put the version into what is built; never into the checkout, where it would grow old."""
    target = Path(folder) / "shared" / VERSION_FILE.name
    if target.resolve() != VERSION_FILE:
        target.unlink(missing_ok=True)  # it may be a hard link to that of the source
        target.write_text(f"{find_version()}\n")


class BuildWithVersion(build_py):
    """Modules, package data and shared/version.txt."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            write_version(self.build_lib)


class SdistWithVersion(sdist):
    """A source distribution knows its version without git."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write_version(base_dir)


setup(
    version=find_version(),
    packages=["palimpsest", EXAMPLES, *find_namespace_packages(include=SERVICE)],
    package_dir={"palimpsest": "services/client", EXAMPLES: "examples"},
    cmdclass={"build_py": BuildWithVersion, "sdist": SdistWithVersion},
)
