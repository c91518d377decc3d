"""`python -m deploy.local.worker attack`: one more worker for a system that `make serve` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.local.environment import check_environment
from deploy.local.layout import Layout, groups
from deploy.local.within import become


def main() -> int:
    """Becomes the worker; 2 when there is no system, or no such group or stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", help="a group (train, unlearn, attack, evaluate) or stages separated by commas")
    parser.add_argument("--home", type=Path, default=Path(".palimpsest"), help="folder of the running system")
    given = parser.parse_args()
    if not check_environment():
        return 2
    known = groups()
    stages = known.get(given.stages) or given.stages.split(",")
    unknown = sorted(set(stages) - {s for group in known.values() for s in group})
    if unknown:
        print(f"no stage or group {', '.join(unknown)}; groups: {', '.join(known)}", file=sys.stderr)
        return 2
    return become(Layout(given.home), "workers", "--stages", ",".join(stages))


if __name__ == "__main__":
    sys.exit(main())
