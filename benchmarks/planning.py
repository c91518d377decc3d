"""How long planning an audit takes, and how 70 concurrent hostile audits affect /livez.

    python -m benchmarks.planning

The catalog of this code, the served gateway with one process, SQLite. Seconds; the load average is
printed beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from shared.jobs import worker_registry
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from tests.support.gateway import TOKEN, GatewayProcess
from workers.catalog import load_catalog

GRID: dict[str, Any] = {
    "dataset": "mnist_5k",
    "model": "convnet",
    "unlearning": [
        "fine_tune",
        "first_order",
        "gradient_ascent",
        "retrain",
        "neggrad_plus",
        "sisa",
    ],
    "defenses": [
        "none",
        "pruning",
        "dp_sgd",
        "obfuscation",
        "fine_tune",
        {"name": "pruning", "params": {"share": 0.5}},
    ],
    "attacks": [
        "analytic_inversion",
        "feature_recovery",
        {"name": "feature_recovery", "params": {"adaptive": True}},
        {"name": "feature_recovery", "params": {"iterations": 50}},
        "label_inference",
        "membership_difference",
    ],
    "seeds": list(range(19)),
}
HOSTILE_AUDITS: dict[str, dict[str, Any]] = {
    "equal names": {
        **GRID,
        "unlearning": ["retrain"] * 32,
        "defenses": ["none"] * 32,
        "attacks": ["label_inference"] * 32,
        "seeds": [0] * 100,
    },
    "the largest grid": GRID,
    "too large a grid": {**GRID, "seeds": list(range(100))},
    "250 kB of forget sets": {
        **GRID,
        "forget": {"indices": [[n % 10 for n in range(4900)] for _ in range(25)]},
    },
    "250 kB that is wrong": {**GRID, "forget": {"indices": [["x"] * 60_000]}},
}
# in its own process: the work of the clients must not count as the gateway's
PROBE_SCRIPT = """
import httpx, json, sys, time
url, until, seconds = sys.argv[1], time.time() + float(sys.argv[2]), []
with httpx.Client(trust_env=False, timeout=60) as client:
    while time.time() < until:
        start = time.perf_counter()
        client.get(url + "/livez").raise_for_status()
        seconds.append(time.perf_counter() - start)
        time.sleep(0.05)
print(json.dumps(seconds))
"""


def post_dry_run(url: str, body: dict[str, Any]) -> tuple[int, int, float]:
    """Returns status, length of the answer and seconds."""
    start = time.perf_counter()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(
        f"{url}/v1/audits?dry_run=true", json=body, headers=headers, trust_env=False, timeout=600
    )
    return answer.status_code, len(answer.content), time.perf_counter() - start


def post_concurrently(url: str, body: dict[str, Any], posts: int, watch_s: float) -> dict[str, Any]:
    """Send `posts` requests at once, and measure /livez meanwhile."""
    command = [sys.executable, "-c", PROBE_SCRIPT, url, str(watch_s)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as probe,
        ThreadPoolExecutor(posts) as pool,
    ):
        answers = list(pool.map(lambda _: post_dry_run(url, body), range(posts)))
        livez = json.loads(probe.communicate()[0])
    return {
        "bytes": len(json.dumps(body)),
        "answers": {
            str(code): n for code, n in sorted(Counter(code for code, _, _ in answers).items())
        },
        "all_answered_s": round(max(took for _, _, took in answers), 2),
        "livez_p50_s": round(statistics.median(livez), 4),
        "livez_max_s": round(max(livez), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=70, help="hostile posts at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long /livez is measured")
    options = parser.parse_args()
    catalog, spec = load_catalog(), AuditSpec.model_validate(GRID)
    start = time.process_time()
    jobs = len(plan(spec, catalog))
    print(f"plan: {jobs} jobs in {time.process_time() - start:.2f} s of CPU")
    with tempfile.TemporaryDirectory() as folder:
        gateway = GatewayProcess(Path(folder))
        worker_registry.publish_catalog(gateway.db, catalog)
        gateway.start()
        try:
            took = [post_dry_run(gateway.url, GRID) for _ in range(5)]
            print(
                f"dry run: {statistics.median(t for _, _, t in took):.2f} s, {took[0][1]:,} bytes"
            )
            for name, body in HOSTILE_AUDITS.items():
                print(
                    f"{options.posts} x {name}: {post_concurrently(gateway.url, body, options.posts, options.seconds)}",
                    flush=True,
                )
            print("load average", [round(x, 2) for x in os.getloadavg()])
        finally:
            gateway.stop()
            gateway.db.close()


if __name__ == "__main__":
    main()
