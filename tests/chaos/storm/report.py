"""What a piece came to, as one JSON line; and all pieces added up as the table of
docs/reliability.md."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.storm.history import History, JobHistory
from tests.chaos.storm.oracle import KINDS, Finding
from tests.chaos.storm.settings import Piece
from tests.support.source_tree import ROOT

RECOVERY_S = 90.0  # the bound for p99


def result(
    piece: Piece,
    commit: str,
    history: History,
    lines: list[dict[str, Any]],
    findings: list[Finding],
    recovered: list[tuple[dict[str, Any], float, JobHistory | None]],
) -> dict[str, Any]:
    """The line of one piece."""
    loads = [line["one_minute"] for line in lines if line["what"] == "load"]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "seed": piece.seed,
        "store": piece.store,
        "minutes": round((lines[-1]["at"] - lines[0]["at"]) / 60, 1),
        "lease_s": piece.pace.lease,
        "product_settings": piece.pace.lease_s is None,
        "faults": dict(
            sorted(Counter(line["kind"] for line in lines if line["what"] == "fault").items())
        ),
        "jobs": len(history.jobs),
        "states": dict(Counter(j.view["state"] for j in history.jobs)),
        "posts": len([line for line in lines if line["what"] == "post"]),
        "attempts": sum(len(j.attempts) for j in history.jobs),
        "charges": sum(j.view["lost_count"] for j in history.jobs),
        **{kind: sum(f.kind == kind for f in findings) for kind in KINDS},
        "recovery_s": [
            [fault["kind"], round(s, 1) if math.isfinite(s) else None] for fault, s, _ in recovered
        ],
        "load_average": [round(statistics.fmean(loads), 1), max(loads)] if loads else None,
        "machine": _machine(),
    }


def describe_commit() -> str:
    """What the working tree holds now."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    cpu = Path("/proc/cpuinfo")
    model = next(
        (
            x.partition(":")[2].strip()
            for x in cpu.read_text().splitlines()
            if x.startswith("model name")
        ),
        "",
    )
    return f"{os.cpu_count()} cores, {model or platform.machine()}"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def describe_summary(line: dict[str, Any]) -> str:
    """A piece in a few words."""
    took = [math.inf if s is None else s for _, s in line["recovery_s"]]
    return (
        f"{line['store']}, seed {line['seed']}, {line['minutes']} min: {sum(line['faults'].values())} faults, "
        f"{line['jobs']} jobs, {line['attempts']} attempts; "
        + ", ".join(
            f"{kind if kind != 'charged' else 'charged without cause'} {line[kind]}"
            for kind in KINDS
        )
        + f"; charges {line['charges']}; recovery p50 {percentile(took, 0.5):.1f} s, "
        f"p99 {percentile(took, 0.99):.1f} s, most {max(took, default=0):.1f} s; load {line['load_average']}"
    )


def table(lines: list[dict[str, Any]]) -> str:
    """All pieces together, in Markdown."""
    stores = sorted({line["store"] for line in lines})
    count: dict[str, Counter[str]] = {s: Counter() for s in stores}
    took: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        count[line["store"]].update(line["faults"])
        for kind, seconds in line["recovery_s"]:
            took[kind].append(math.inf if seconds is None else seconds)
    kinds = sorted(took)
    rows = [["fault", *stores, "recovery p50", "p99", "most"]]
    for kind in kinds:
        times = [
            f"{f:.1f} s"
            for f in (percentile(took[kind], 0.5), percentile(took[kind], 0.99), max(took[kind]))
        ]
        rows.append([kind, *(str(count[s][kind]) for s in stores), *times])
    every = [s for kind in kinds for s in took[kind]]
    times = [
        f"{f:.1f} s"
        for f in (percentile(every, 0.5), percentile(every, 0.99), max(every, default=0))
    ]
    rows.append(["**all**", *(str(sum(count[s].values())) for s in stores), *times])
    rows.append([])
    rows.append(["", *stores])
    for name in ("jobs", "attempts", "posts", "charges", *KINDS):
        label = "charged without cause" if name == "charged" else name
        rows.append([label, *(str(sum(x[name] for x in lines if x["store"] == s)) for s in stores)])
    rows.append(["pieces (seeds)", *(_seeds(lines, s) for s in stores)])
    rows.append(
        ["minutes", *(f"{sum(x['minutes'] for x in lines if x['store'] == s):.0f}" for s in stores)]
    )
    rows.append(["load average, mean and most", *(_load(lines, s) for s in stores)])
    machines = ", ".join(
        sorted({f"{x['machine']} (commit {x['commit']}, lease {x['lease_s']:g} s)" for x in lines})
    )
    return _markdown(rows) + f"\nMachine: {machines}.\n"


def _seeds(lines: list[dict[str, Any]], store: str) -> str:
    mine = [x for x in lines if x["store"] == store]
    return f"{len(mine)} ({', '.join(map(str, sorted({x['seed'] for x in mine})))})"


def _load(lines: list[dict[str, Any]], store: str) -> str:
    loads = [x["load_average"] for x in lines if x["store"] == store and x["load_average"]]
    return (
        f"{statistics.fmean(m for m, _ in loads):.1f}, {max(m for _, m in loads):.1f}"
        if loads
        else "-"
    )


def _markdown(rows: list[list[str]]) -> str:
    made, head = [], True
    for row in rows:
        if not row:
            head = True
            made.append("")
            continue
        made.append(f"| {' | '.join(row)} |")
        if head:
            made.append(f"|{'---|' * len(row)}")
            head = False
    return "\n".join(made) + "\n"


def read(path: Path) -> list[dict[str, Any]]:
    """The pieces so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def passed(lines: list[dict[str, Any]]) -> bool:
    """Whether nothing was found and the bound for the recovery was kept."""
    took = [math.inf if s is None else s for line in lines for _, s in line["recovery_s"]]
    return (
        not any(line[kind] for line in lines for kind in KINDS)
        and percentile(took, 0.99) <= RECOVERY_S
    )
