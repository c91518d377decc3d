"""`python -m tests.chaos.storm`: one piece of a storm, or all pieces added up.

--seed 1 --store postgresql --minutes 25   run a piece; its result is appended to benchmarks/results/chaos.jsonl
--summary                                  the table of docs/reliability.md from all pieces
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from tests.chaos.storm import report
from tests.chaos.storm.run import weathered
from tests.chaos.storm.settings import PRODUCT, STORM, Piece
from tests.support.source_tree import ROOT

RESULTS = ROOT / "benchmarks/results/chaos.jsonl"


def say(text: str) -> None:
    """A line for the person who runs it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Exit 1 if anything was found that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument(
        "--minutes", type=float, default=25, help="up to 30; what was begun is waited for"
    )
    parser.add_argument(
        "--product-settings", action="store_true", help="the product's own lease of 45 s"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="file to which the result is appended"
    )
    parser.add_argument(
        "--home", type=Path, default=ROOT / ".palimpsest/chaos", help="folder for journals and logs"
    )
    parser.add_argument(
        "--summary", action="store_true", help="no storm: print the table of all results"
    )
    given = parser.parse_args()
    if given.summary:
        if not (lines := report.read(given.results)):
            parser.error(f"there are no results in {given.results} yet")
        say(report.table(lines))
        return 0 if report.passed(lines) else 1
    pace = PRODUCT if given.product_settings else STORM
    try:
        piece = Piece(given.seed, given.store, pace, minutes=given.minutes)
    except ValueError as error:
        parser.error(str(error))
    home = given.home / f"{given.store}-{given.seed}-{time.strftime('%m%d-%H%M%S')}"
    with weathered(home, piece, say) as judged:
        history = judged.history()
        line, findings = judged.judge(history)
        slowest = judged.slowest(history)
    (home / "findings.txt").write_text("\n\n".join([*map(str, findings), *slowest]) + "\n")
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a") as file:
        file.write(json.dumps(line) + "\n")
    say("\n".join(str(f) for f in findings[:20]))
    say(report.describe_summary(line))
    say(
        f"{'all findings' if findings else 'nothing was found'}; the slowest recoveries: {home / 'findings.txt'}"
    )
    shutil.rmtree(home / "tree", ignore_errors=True)
    return 0 if report.passed([line]) else 1


if __name__ == "__main__":
    sys.exit(main())
