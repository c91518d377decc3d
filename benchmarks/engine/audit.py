"""The largest audits: `python -m benchmarks.engine.audit [--seeds 17]`: a dry run, a POST, the POST
again, a cancel.

Through a real gateway, for both kinds of job store. No worker runs: the catalog is published
before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from tests.support.servers import create_database, serve_postgres
from tests.support.source_tree import ROOT
from tests.support.system import TOKEN, System

AUDIT: dict[str, Any] = {
    "dataset": "mnist_5k",
    "model": "convnet",
    "forget": {"deletions": 2},
    "unlearning": [
        "gradient_ascent",
        "retrain",
        "fine_tune",
        "neggrad_plus",
        "random_labels",
        "scrub",
    ],
    "defenses": [
        "none",
        *({"name": "obfuscation", "params": {"noise": noise}} for noise in (1e-4, 1e-3)),
        *({"name": "pruning", "params": {"share": share}} for share in (0.3, 0.5, 0.7)),
    ],
    "attacks": [
        *(
            {"name": "feature_recovery", "params": {"iterations": n}}
            for n in (100, 200, 300, 400, 500)
        ),
        "label_inference",
    ],
}


def measure_store(kind: str, database_url: str | None, folder: Path, seeds: int) -> dict[str, Any]:
    """One row of the table; seconds."""
    system = System(folder, ROOT, database_url)
    try:
        publish = [sys.executable, "-m", "workers.catalog", "--publish"]
        subprocess.run(publish, cwd=folder, env=system.env, check=True)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        row: dict[str, Any] = {"store": kind}
        with httpx.Client(base_url=system.start_gateway(), headers=headers, timeout=600) as api:

            def post_timed(name: str, path: str, **arguments: Any) -> dict[str, Any]:
                start = time.perf_counter()
                answer = api.post(path, **arguments)
                row[f"{name}_s"] = round(time.perf_counter() - start, 2)
                assert answer.is_success, answer.text[:500]
                parsed: dict[str, Any] = answer.json()
                return parsed

            body = AUDIT | {"seeds": list(range(seeds))}
            row["jobs"] = post_timed(
                "dry_run", "/v1/audits", params={"dry_run": "true"}, json=body
            )["total"]
            posted = post_timed("post", "/v1/audits", json=body)
            post_timed("post_again", "/v1/audits", json=body)
            audits = api.get("/v1/audits").raise_for_status().json()["items"]
            for audit in audits:
                if audit["id"] != posted["id"]:
                    api.post(f"/v1/audits/{audit['id']}/cancel").raise_for_status()
            post_timed("cancel", f"/v1/audits/{posted['id']}/cancel")
    finally:
        system.close()
    return row


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=17)
    options = parser.parse_args()
    measured_under, rows = describe_conditions(), []
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as name, serve_postgres() as server:
        for kind in ("sqlite", "postgresql"):
            url = create_database(server) if kind == "postgresql" else None
            rows.append(measure_store(kind, url, Path(name) / kind, options.seeds))
            print(rows[-1], flush=True)
    print_table(rows)
    write_results("audit", measured_under, rows)


if __name__ == "__main__":
    main()
