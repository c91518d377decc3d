"""A copy of the source tree with files dropped into it: how a test adds a plugin without touching
the project."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLEEP_STAGE = {"workers/stages/sleep.py": (ROOT / "tests/support/stages/sleep.py").read_text()}


def copy_tree(to: Path, extra: Mapping[str, str] | None = None) -> Path:
    """`services`, `workers`, `shared`, `deploy` under `to`, and the extra files (path -> text).

    With the bytecode, which is valid for the copy as well; without such as is just being written.
    """
    for name in ("services", "workers", "shared", "deploy"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    for path, text in (extra or {}).items():
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_text(text)
    return to
