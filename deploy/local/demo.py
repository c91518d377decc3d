"""`make demo`: serve if nothing is served yet, run one audit, show what leaked, stop what was started."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from deploy.local.layout import Layout
from services.client import Client


def serving(layout: Layout) -> subprocess.Popen[bytes] | None:
    """Start a serve, unless one has this folder already; None then."""
    if layout.served.exists():
        return None
    started = subprocess.Popen([sys.executable, "-m", "deploy.local.serve", "--home", str(layout.home)])
    while started.poll() is None and not layout.served.exists():
        time.sleep(0.2)
    return started


def table(client: Client, audit: str) -> Table:
    """One row an evaluation: the score, its null, n."""
    shown = Table("unlearning", "attack", "mean score", "an attacker who saw nothing", "95 % of the score", "n")
    for job in client.jobs(audit=audit, stage="evaluate", state="succeeded"):
        found: dict[str, Any] = json.loads(client.fetch(job.id, "EVALUATION"))
        attack = client.job((job.inputs.get("RECONSTRUCTION") or job.inputs["ANSWERS"])["job"])
        unlearning = client.job(attack.inputs["UNLEARNED"]["job"]).method
        name = "psnr" if "psnr" in found["metrics"] else "label_accuracy"
        score = found["metrics"][name]
        unit = "dB PSNR" if name == "psnr" else "of the classes"
        interval = f"{score['low']:.2f} to {score['high']:.2f}"
        null = f"{score['null']:.2f} ({score['null_name']})"
        shown.add_row(unlearning, attack.method, f"{score['mean']:.2f} {unit}", null, interval, str(score["n"]))
    return shown


def main() -> int:
    """0 done, 1 failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".palimpsest"))
    parser.add_argument("--audit", type=Path, default=Path("examples/quick.yaml"))
    given = parser.parse_args()
    layout = Layout(given.home)
    server = serving(layout)
    try:
        if not layout.served.exists():
            return 1  # serve has said why
        at = json.loads(layout.served.read_text())
        with Client(at["url"], at["token"]) as client:
            audit = client.submit_audit(yaml.safe_load(given.audit.read_text())).id
            env = {"PALIMPSEST_URL": at["url"], "PALIMPSEST_TOKEN": at["token"]}
            watch = [sys.executable, "-m", "services.cli", "watch", audit]
            status = subprocess.run(watch, env={**os.environ, **env}, check=False).returncode
            Console().print(table(client, audit))
        return status
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
