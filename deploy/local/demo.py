"""`make demo`: serve if nothing is served yet, run one audit to its report, stop what was started."""

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
from deploy.local.layout import Layout, held


def serving(layout: Layout, **more: int) -> subprocess.Popen[bytes] | None:
    """Start a serve, with an attack worker a core and `more` of other groups, unless one has this folder; None then."""
    if held(layout):
        return None
    command = [sys.executable, "-m", "deploy.local.serve", "--home", str(layout.home)]
    wanted = {"attack": os.cpu_count() or 1} | more
    return subprocess.Popen([*command, "--workers", *(f"{group}={n}" for group, n in wanted.items())])


def wait_until_up(layout: Layout, server: subprocess.Popen[bytes] | None) -> bool:
    """Until somebody serves this folder; False if whoever was starting has given up and said why."""
    while not (layout.served.exists() and held(layout)):
        if server.poll() is not None if server else not held(layout):
            return False
        time.sleep(0.2)
    return True


def main() -> int:
    """The exit status of `palimpsest audit`: 0 done, 1 failed, 2 wrong use, 3 a gate was crossed."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="What else is given goes to `palimpsest audit`.")
    parser.add_argument("--home", type=Path, default=Path(".palimpsest"), help="folder for all state")
    parser.add_argument("--audit", type=Path, default=Path("examples/demo.yaml"), help="what to run")
    given, more = parser.parse_known_args()
    if not check_environment():
        return 2
    layout = Layout(given.home)
    server = serving(layout)
    try:
        if not wait_until_up(layout, server):
            return server.returncode if server else 1
        at = json.loads(layout.served.read_text())
        env = {**os.environ, "PALIMPSEST_URL": at["url"], "PALIMPSEST_TOKEN": at["token"]}
        command = [sys.executable, "-m", "services.cli", "audit", str(given.audit)]
        return subprocess.run([*command, "--report", str(given.home / "demo"), *more], env=env, check=False).returncode
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
