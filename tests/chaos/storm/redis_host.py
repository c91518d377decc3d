"""A host with a Redis on it, whose network can go away: what `make serve` finds as `redis-server`
on PATH.

The real server listens on a port of its own; what comes to the asked port is carried over. SIGUSR1:
the host is gone, nothing is carried any more and connections are not accepted, so that whoever
connects runs into a time limit. SIGUSR2: it is back. The two end together, as one host.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

REAL = "PALIMPSEST_STORM_REDIS"  # path of the real server
BACKLOG = 128

reachable = threading.Event()


def asked_port(arguments: list[str]) -> int:
    """The port on the command line, else the one in the configuration file."""
    if "--port" in arguments:
        return int(arguments[arguments.index("--port") + 1])
    for path in (Path(a) for a in arguments if not a.startswith("--")):
        if path.is_file() and (
            found := re.search(r'^port\s+"?(\d+)', path.read_text(), re.MULTILINE)
        ):
            return int(found[1])
    raise SystemExit(f"no port in {arguments}")


def own_port(arguments: list[str], port: int) -> list[str]:
    """The command line with this port instead; what comes last counts."""
    return [*arguments, "--port", str(port)]


def carry(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes one way until either side closes; while the host is gone they stay where they
    are."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            reachable.wait()
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def serve(port: int, real: int) -> None:
    """Accept as long as the host can be reached. A full backlog is a host that does not answer."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    listener.settimeout(0.2)
    while True:
        if not reachable.is_set():
            listener.listen(0)
            reachable.wait()
            listener.listen(BACKLOG)
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        try:
            server = socket.create_connection(("127.0.0.1", real), timeout=5)
        except OSError:
            client.close()
            continue
        client.settimeout(None)
        server.settimeout(None)
        for ends in ((client, server), (server, client)):
            threading.Thread(target=carry, args=ends, daemon=True).start()


def main() -> int:
    """Run until the server ends; its exit status."""
    arguments = sys.argv[1:]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        real = int(probe.getsockname()[1])
    tied = [sys.executable, "-m", "deploy.local.exec_with_parent"]
    server = subprocess.Popen([*tied, os.environ[REAL], *own_port(arguments, real)])
    signal.signal(signal.SIGUSR1, lambda *_: reachable.clear())
    signal.signal(signal.SIGUSR2, lambda *_: reachable.set())
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    signal.signal(signal.SIGINT, lambda *_: server.terminate())
    reachable.set()
    threading.Thread(target=serve, args=(asked_port(arguments), real), daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
