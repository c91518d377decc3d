"""`make serve`: a complete Palimpsest on this machine until Ctrl-C.

Redis, gateway, reconciler and one worker per stage group, on free local ports, restarted by
supervisor. All state is in one folder; a second serve of the same folder is refused, after waiting
for a killed one to end.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO

import httpx

from deploy.local.environment import check_environment
from deploy.local.layout import (
    PREFERRED_PORT,
    Layout,
    build_commands,
    build_environment,
    build_supervisor_config,
    find_free_port,
    list_groups,
    reserve_port,
    write_env,
)
from deploy.local.secret import write_secret
from deploy.local.startup import StartupMonitor

POLL_S = 0.5  # between two looks at what is not up yet
# free bytes that the logs, the job store and Redis need to start
MIN_FREE_BYTES = 32 << 20


class ServeError(Exception):
    """It cannot serve; the message says why and what to do."""


def check_disk_space(layout: Layout) -> None:
    """Check before anything is written: on a full disk every process would fail, and could not log
    why.

    Raises:
        ServeError: the disk is full, or nearly.
    """
    existing = next(
        p for p in (layout.home.absolute(), *layout.home.absolute().parents) if p.exists()
    )
    total, _, free = shutil.disk_usage(existing)
    if total and free < MIN_FREE_BYTES:  # pseudo file systems have no size
        raise ServeError(
            f"the disk of {layout.home} is full ({free >> 20} MB are free, "
            f"{MIN_FREE_BYTES >> 20} MB are needed): free some space, or use another --home"
        )


def acquire_lock(layout: Layout, timeout_s: float = 30) -> IO[str]:
    """The folder's lock. Waits for the supervisor of a killed serve to end.

    Raises:
        ServeError: another serve has the folder.
    """
    lock = layout.lock_file.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        address = (
            json.loads(layout.served_file.read_text())["url"]
            if layout.served_file.exists()
            else "an address that is not yet known"
        )
        raise ServeError(
            f"a system is already running in {layout.home}, at {address}: stop it first, or use "
            "another --home"
        ) from None
    # first, so that nobody who waits for the file reads an old one
    layout.served_file.unlink(missing_ok=True)
    deadline = time.monotonic() + timeout_s
    while _is_supervisor_alive(layout):
        if time.monotonic() > deadline:
            raise ServeError(
                f"process {layout.pid_file.read_text().strip()} of an earlier serve is still "
                "running: kill it"
            )
        time.sleep(0.2)
    return lock


def _is_supervisor_alive(layout: Layout) -> bool:
    try:
        pid = int(layout.pid_file.read_text())
        shown = subprocess.run(
            ["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
        )
    except (FileNotFoundError, ValueError):
        return False
    return str(layout.config_file) in shown.stdout


def prepare(layout: Layout, port: int | None, workers: dict[str, int]) -> tuple[str, str, IO[str]]:
    """Write the configuration, migrate the store, publish this code's catalog; returns URL, token
    and the lock of the port.

    The catalog is published before the gateway starts: audits can be submitted while the workers
    still import torch, and are never planned with the catalog of older code.

    Raises:
        ServeError: the requested port is taken, the job store cannot be used, or a plugin is
            broken.
    """
    gateway_port, port_lock = reserve_port(port or PREFERRED_PORT)
    if port and gateway_port != port:
        raise ServeError(
            f"port {port} is taken: use another --port, or omit --port to use any free one"
        )
    redis_port = find_free_port()
    commands = build_commands(layout, redis_port, gateway_port, workers)
    env = build_environment(
        layout, redis_port, sum(1 for name in commands if name.startswith("worker-"))
    )
    write_env(layout, env)
    write_secret(layout.config_file, build_supervisor_config(layout, commands, env))
    for command in (["services.admin", "migrate"], ["workers.catalog", "--publish"]):
        completed = subprocess.run(
            [sys.executable, "-m", *command],
            env={**os.environ, **env},
            check=False,
            capture_output=True,
            text=True,
        )
        if completed.returncode:
            raise ServeError(
                "; ".join(completed.stderr.splitlines()[-5:]).removeprefix("palimpsest: ")
            )
        for line in (line for line in completed.stdout.splitlines() if "was copied" in line):
            print(f"palimpsest: {line}", flush=True)
    return f"http://127.0.0.1:{gateway_port}", env["PALIMPSEST_TOKEN"], port_lock


def start_supervisor(layout: Layout) -> subprocess.Popen[bytes]:
    """Start supervisord, which ends with this process."""
    command = [
        sys.executable,
        "-m",
        "deploy.local.exec_with_parent",
        sys.executable,
        "-m",
        "supervisor.supervisord",
    ]
    # a group of its own: Ctrl-C reaches this process, which then stops the rest in order
    return subprocess.Popen(
        [*command, "-c", str(layout.config_file)], start_new_session=True, stdout=subprocess.DEVNULL
    )


def find_missing(gateway: httpx.Client, names: set[str]) -> set[str]:
    """Which of the gateway and the workers of these names are not up yet."""
    try:
        workers = gateway.get("/v1/workers").raise_for_status().json()
    except httpx.HTTPError:
        return {"gateway"} | names
    return names - {w["id"].partition("@")[0] for w in workers["items"] if w["live"]}


def wait_until_ended(
    layout: Layout, url: str, token: str, supervisor: subprocess.Popen[bytes], ended: list[int]
) -> None:
    """Wait for a signal (in `ended`) or the end of the supervisor.

    Prints when the gateway answers, as jobs can be submitted from then on, and when the workers
    are ready, for which it waits as long as they make progress.

    Raises:
        ServeError: a program does not start; the message says which, and where to look.
    """
    names = {
        line[9:-1]
        for line in layout.config_file.read_text().splitlines()
        if line.startswith("[program:worker-")
    }
    missing = {"gateway"} | names
    startup = StartupMonitor(supervisor.pid, layout.logs_folder)
    # One client for all looks: certificates take 25 ms to load. No proxy from the environment: the
    # gateway is on this machine.
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as gateway:
        while supervisor.poll() is None and not ended:
            if missing:
                before, missing = missing, missing & find_missing(gateway, names)
                if missing != before:
                    startup.end_line()
                if "gateway" in before - missing:
                    write_secret(
                        layout.served_file,
                        json.dumps({"url": url, "token": token, "pid": os.getpid()}),
                    )
                    print(_format_greeting(url, token), flush=True)
                if not missing:
                    print(
                        f"palimpsest: {len(names)} workers are ready: {', '.join(sorted(names))}",
                        flush=True,
                    )
                elif reason := startup.check(missing):
                    startup.end_line()
                    raise ServeError(f"{reason}: see the logs folder")
                else:
                    startup.report_progress(missing)
            time.sleep(POLL_S)
    startup.end_line()


def serve(home: Path, port: int | None = None, workers: dict[str, int] | None = None) -> int:
    """Run until a signal arrives; returns the exit status."""
    layout = Layout(home)
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        check_disk_space(layout)
        layout.make_folders()
        lock = acquire_lock(layout)
        url, token, port_lock = prepare(layout, port, workers or {})
    except (ServeError, OSError) as error:
        print(f"palimpsest: {_explain_error(error, home)}", file=sys.stderr)
        return 2
    supervisor = start_supervisor(layout)
    try:
        print(f"palimpsest: starting; logs in {layout.logs_folder}", flush=True)
        wait_until_ended(layout, url, token, supervisor, ended)
        if not ended:
            print(
                f"palimpsest: the supervisor ended; see {layout.logs_folder}/supervisord.log",
                file=sys.stderr,
            )
            return 1
        return 0
    except (ServeError, OSError) as error:
        print(f"palimpsest: {_explain_error(error, home)} ({layout.logs_folder})", file=sys.stderr)
        return 1
    finally:
        layout.served_file.unlink(missing_ok=True)
        if supervisor.poll() is None:
            print("palimpsest: stopping; running jobs are queued again", flush=True)
            supervisor.terminate()
        supervisor.wait()
        port_lock.close()
        lock.close()


def _explain_error(error: Exception, home: Path) -> str:
    if not isinstance(error, OSError):
        return str(error)
    remedy = (
        "free some space, or use another --home"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "use another --home"
    )
    return f"cannot write {home}, {error.strerror or error}: {remedy}"


def _format_greeting(url: str, token: str) -> str:
    return "\n".join([
        "",
        f"  Palimpsest is up at   {url}",
        f"  token                 {token}",
        f"  API in the browser    {url}/openapi?token={token}",
        f"  command line          {_find_cli()} --help",
        "  add a worker          make worker STAGES=attack",
        "  check                 make doctor",
        "  stop                  Ctrl-C (jobs are kept and resume at the next start)",
        "",
    ])  # fmt: skip


def _find_cli() -> Path:
    path = Path(sys.executable).parent / "palimpsest"
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parse_port(word: str) -> int:
    if not word.isdecimal() or not 0 < int(word) < 65536:
        raise argparse.ArgumentTypeError(f"{word!r} is not a port: give 1 to 65535")
    return int(word)


def _parse_worker_counts(words: list[str]) -> dict[str, int]:
    counts = {}
    for word in words:
        group, _, n = word.partition("=")
        if group not in list_groups() or not n.isdecimal():
            raise argparse.ArgumentTypeError(
                f"{word!r}: expected GROUP=N, where GROUP is one of {', '.join(list_groups())}"
            )
        counts[group] = int(n)
    return counts


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.serve",
        description="Run a complete Palimpsest on this machine until Ctrl-C.",
    )
    parser.add_argument(
        "--home", type=Path, default=Path(".palimpsest"), help="folder for all state"
    )
    parser.add_argument(
        "--port",
        type=_parse_port,
        help=f"port of the gateway; default: {PREFERRED_PORT} if free, otherwise any free port",
    )
    parser.add_argument(
        "--workers",
        nargs="*",
        default=[],
        metavar="GROUP=N",
        help="number of workers per group; default 1",
    )
    options = parser.parse_args()
    try:
        workers = _parse_worker_counts(options.workers)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    if not check_environment():
        return 2
    return serve(options.home, options.port, workers)


if __name__ == "__main__":
    sys.exit(main())
