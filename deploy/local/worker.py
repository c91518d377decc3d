"""`python -m deploy.local.worker attack`: add a worker to a running `make serve`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.local.environment import check_environment
from deploy.local.exec_in_environment import exec_module
from deploy.local.layout import Layout, list_groups


def main() -> int:
    """Exec the worker; returns 2 if nothing is served, or there is no such group or stage."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.worker", description=__doc__)
    parser.add_argument(
        "stages", help="a group (train, unlearn, attack, evaluate) or stages separated by commas"
    )
    parser.add_argument(
        "--home", type=Path, default=Path(".palimpsest"), help="folder of the running system"
    )
    options = parser.parse_args()
    if not check_environment():
        return 2
    known = list_groups()
    stages = known.get(options.stages) or options.stages.split(",")
    unknown = sorted(set(stages) - {s for group in known.values() for s in group})
    if unknown:
        print(
            f"unknown stage or group {', '.join(unknown)}; groups: {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    return exec_module(Layout(options.home), "workers", "--stages", ",".join(stages))


if __name__ == "__main__":
    sys.exit(main())
