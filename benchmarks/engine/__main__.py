"""`python -m benchmarks.engine NAME ...`: one of the benchmarks in this folder; without a name, all
of them in turn."""

from __future__ import annotations

import importlib
import sys

NAMES = ("throughput", "scale", "audit", "attacks", "metrics", "console", "fleet", "audit-pages")

if __name__ == "__main__":
    selected = sys.argv[1:2] or NAMES
    for name in selected:
        if name not in NAMES:
            sys.exit(f"no benchmark {name}: there are {', '.join(NAMES)}")
        sys.argv = [name, *sys.argv[2:]]
        importlib.import_module(f"benchmarks.engine.{name.replace('-', '_')}").main()
