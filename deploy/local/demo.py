"""`make demo`: run one audit and save its report, with a running or a temporary `make serve`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from deploy.local.environment import check_environment
from deploy.local.layout import Layout, is_served


def start_server(layout: Layout, **extra_workers: int) -> subprocess.Popen[bytes] | None:
    """Start a serve with one attack worker per core and `extra_workers` of other groups; None if
    this folder is served already."""
    if is_served(layout):
        return None
    command = [sys.executable, "-m", "deploy.local.serve", "--home", str(layout.home)]
    wanted = {"attack": os.cpu_count() or 1} | extra_workers
    return subprocess.Popen(
        [*command, "--workers", *(f"{group}={n}" for group, n in wanted.items())]
    )


def wait_until_up(layout: Layout, server: subprocess.Popen[bytes] | None) -> bool:
    """Wait until this folder is served; False if the serve that was starting has failed, which
    prints why."""
    while not (layout.served_file.exists() and is_served(layout)):
        if server.poll() is not None if server else not is_served(layout):
            return False
        time.sleep(0.2)
    return True


def main() -> int:
    """The exit status of `palimpsest audit`: 0 success, 1 failure, 2 usage error, 3 threshold
    exceeded."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.demo",
        description=__doc__,
        epilog="Other arguments are passed to `palimpsest audit`.",
    )
    parser.add_argument(
        "--home", type=Path, default=Path(".palimpsest"), help="folder for all state"
    )
    parser.add_argument(
        "--audit", type=Path, default=Path("examples/demo.yaml"), help="the audit to run"
    )
    options, audit_arguments = parser.parse_known_args()
    if not check_environment():
        return 2
    layout = Layout(options.home)
    server = start_server(layout)
    try:
        if not wait_until_up(layout, server):
            return server.returncode if server else 1
        address = json.loads(layout.served_file.read_text())
        env = {**os.environ, "PALIMPSEST_URL": address["url"], "PALIMPSEST_TOKEN": address["token"]}
        command = [sys.executable, "-m", "services.cli", "audit", str(options.audit)]
        return subprocess.run(
            [*command, "--report", str(options.home / "demo"), *audit_arguments],
            env=env,
            check=False,
        ).returncode
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
