"""`python -m workers.selftest`: run this code on cases with known answers. Exits with 1 if any
failed."""

from __future__ import annotations

import argparse
import hashlib
import sys
from typing import Any

from workers.context import StageOutput
from workers.selftest.cases import run_all


def main(arguments: list[str] | None = None) -> int:
    """Print the results, as a table or as the JSON that the stage `selftest` writes."""
    parser = argparse.ArgumentParser(prog="python -m workers.selftest", description=__doc__)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON; the digest is the sha256 of this output",
    )
    as_json = parser.parse_args(arguments).json
    result = run_all()
    data = StageOutput.of_json(result).data
    if as_json:
        sys.stdout.write(data.decode())  # unchanged, so that its sha256 is the digest
    else:
        print(table(result, hashlib.sha256(data).hexdigest()))  # noqa: T201 - the command's output
    return 0 if result["passed"] else 1


def table(result: dict[str, Any], digest: str) -> str:
    """For the terminal: one line per case, and a summary."""
    lines, passed = [], sum(case["passed"] for case in result["cases"])
    width = max(len(case["name"]) for case in result["cases"])
    for case in result["cases"]:
        measured = "nothing" if case["measured"] is None else f"{case['measured']:.3g}"
        mark = "ok    " if case["passed"] else "FAILED"
        lines.append(
            f"{mark} {case['name']:{width}} {measured:>9}  {bound(case):28} {case['shows']}"
        )
        if case["error"]:
            lines.append(f"       {case['error']}")
    lines.append(f"{passed} of {len(result['cases'])} passed. Digest {digest}")
    return "\n".join(lines)


def bound(case: dict[str, Any]) -> str:
    """The bounds of the measured number, in words."""
    low, high, unit = case["low"], case["high"], case["unit"]
    if low is None or high is None:
        return (
            f"{'at least' if high is None else 'at most'} {high if low is None else low:g} {unit}"
        )
    return f"{low:g} to {high:g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
