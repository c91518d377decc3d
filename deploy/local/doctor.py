"""`make doctor`: check the system that `make serve` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.local.environment import check_environment
from deploy.local.exec_in_environment import exec_module
from deploy.local.layout import Layout


def main() -> int:
    """Exec `python -m services.admin doctor`; returns 2 if nothing is served."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.doctor", description=__doc__)
    parser.add_argument(
        "--home", type=Path, default=Path(".palimpsest"), help="folder of the running system"
    )
    given = parser.parse_args()
    if not check_environment():
        return 2
    return exec_module(Layout(given.home), "services.admin", "doctor")


if __name__ == "__main__":
    sys.exit(main())
