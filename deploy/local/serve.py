"""`make serve`: a whole Palimpsest on this machine, until Ctrl-C.

Redis, gateway, reconciler and one worker a stage group, on free loopback ports, kept alive by supervisor.
State lives in one folder; a second serve of the same folder is refused, what a killed one left is waited for.
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
    claim_port,
    environment,
    free_port,
    groups,
    programs,
    supervisor_config,
    write_env,
)
from deploy.local.secret import write_secret
from deploy.local.startup import Startup

NEEDED = 32 << 20  # bytes free: less does not take the logs, the job store and the bells of a start


class CannotServe(Exception):
    """What stands in the way, and what to do."""


def require_room(layout: Layout) -> None:
    """Look before anything is made: what starts on a full disk fails everywhere, and has no room to say so.

    Raises:
        CannotServe: the disk is full, or nearly.
    """
    there = next(p for p in (layout.home.absolute(), *layout.home.absolute().parents) if p.exists())
    total, _, free = shutil.disk_usage(there)
    if total and free < NEEDED:  # what is no disk has no size
        raise CannotServe(
            f"the disk of {layout.home} is full, {free >> 20} MB are free and {NEEDED >> 20} MB needed: "
            "make room, or give another --home"
        )


def take(layout: Layout, patience: float = 30) -> IO[str]:
    """The folder's lock. Waits for the supervisor of a killed serve to end.

    Raises:
        CannotServe: another serve has the folder.
    """
    lock = layout.lock.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        at = json.loads(layout.served.read_text())["url"] if layout.served.exists() else "an address not known yet"
        raise CannotServe(f"{layout.home} is already served, at {at}; stop that one first, or give --home") from None
    layout.served.unlink(missing_ok=True)  # first: who waits for the file must not take an old one for ours
    until = time.monotonic() + patience
    while _supervisor_lives(layout):
        if time.monotonic() > until:
            raise CannotServe(f"process {layout.pid.read_text().strip()} of an earlier serve does not end: kill it")
        time.sleep(0.2)
    return lock


def _supervisor_lives(layout: Layout) -> bool:
    try:
        pid = int(layout.pid.read_text())
        shown = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    except (FileNotFoundError, ValueError):
        return False
    return str(layout.config) in shown.stdout


def prepare(layout: Layout, port: int | None, workers: dict[str, int]) -> tuple[str, str, IO[str]]:
    """Write the configuration, migrate the store, publish this code's catalog; URL, token, the lock of the port.

    The catalog comes before the gateway: an audit can be posted while the workers still import torch, and is never
    planned with the catalog of an older code.

    Raises:
        CannotServe: the port asked for is taken, the job store cannot be used, or a plugin is broken.
    """
    gateway_port, kept = claim_port(port or PREFERRED_PORT)
    if port and gateway_port != port:
        raise CannotServe(f"port {port} is taken: give another --port, or none to have a free one chosen")
    redis_port = free_port()
    commands = programs(layout, redis_port, gateway_port, workers)
    env = environment(layout, redis_port, sum(1 for name in commands if name.startswith("worker-")))
    write_env(layout, env)
    write_secret(layout.config, supervisor_config(layout, commands, env))
    for command in (["services.admin", "migrate"], ["workers.catalog", "--publish"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], env={**os.environ, **env}, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise CannotServe("; ".join(done.stderr.splitlines()[-5:]).removeprefix("palimpsest: "))
        for line in (line for line in done.stdout.splitlines() if "was copied" in line):
            print(f"palimpsest: {line}", flush=True)
    return f"http://127.0.0.1:{gateway_port}", env["PALIMPSEST_TOKEN"], kept


def start(layout: Layout) -> subprocess.Popen[bytes]:
    """supervisord, tied to this process."""
    command = [sys.executable, "-m", "deploy.local.tied", sys.executable, "-m", "supervisor.supervisord"]
    # a group of its own: Ctrl-C reaches this process, which then stops the rest in order
    return subprocess.Popen([*command, "-c", str(layout.config)], start_new_session=True, stdout=subprocess.DEVNULL)


def missing(url: str, token: str, names: set[str]) -> set[str]:
    """What was not seen yet: the gateway, or workers of these names."""
    try:
        # no proxy of the environment: it is on this machine
        answer = httpx.get(f"{url}/v1/workers", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        found = answer.raise_for_status().json()
    except httpx.HTTPError:
        return {"gateway"} | names
    return names - {w["id"].partition("@")[0] for w in found["items"] if w["live"]}


def stay(layout: Layout, url: str, token: str, supervisor: subprocess.Popen[bytes], ended: list[int]) -> None:
    """Until a signal has `ended` it or the supervisor dies. Says when the gateway answers: jobs can be posted then,
    and wait for the workers; and when those are there, for which it waits as long as they are on their way.

    Raises:
        CannotServe: something does not come up; says what and where to look.
    """
    names = {line[9:-1] for line in layout.config.read_text().splitlines() if line.startswith("[program:worker-")}
    lacking = {"gateway"} | names
    startup = Startup(supervisor.pid, layout.logs)
    while supervisor.poll() is None and not ended:
        if lacking:
            before, lacking = lacking, lacking & missing(url, token, names)
            if lacking != before:
                startup.end_line()
            if "gateway" in before - lacking:
                write_secret(layout.served, json.dumps({"url": url, "token": token, "pid": os.getpid()}))
                print(_greeting(url, token), flush=True)
            if not lacking:
                print(f"palimpsest: {len(names)} workers are there: {', '.join(sorted(names))}", flush=True)
            elif why := startup.look(lacking):
                startup.end_line()
                raise CannotServe(f"{why}: look into the logs folder")
            else:
                startup.say(lacking)
        time.sleep(0.2)
    startup.end_line()


def serve(home: Path, port: int | None = None, workers: dict[str, int] | None = None) -> int:
    """Run until a signal comes; the exit status."""
    layout = Layout(home)
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        require_room(layout)
        layout.make()
        lock = take(layout)
        url, token, kept = prepare(layout, port, workers or {})
    except (CannotServe, OSError) as error:
        print(f"palimpsest: {_why(error, home)}", file=sys.stderr)
        return 2
    supervisor = start(layout)
    try:
        print(f"palimpsest: starting; logs in {layout.logs}", flush=True)
        stay(layout, url, token, supervisor, ended)
        if not ended:
            print(f"palimpsest: the supervisor ended; look into {layout.logs}/supervisord.log", file=sys.stderr)
            return 1
        return 0
    except (CannotServe, OSError) as error:
        print(f"palimpsest: {_why(error, home)} ({layout.logs})", file=sys.stderr)
        return 1
    finally:
        layout.served.unlink(missing_ok=True)
        if supervisor.poll() is None:
            print("palimpsest: stopping; a job that runs goes back to its queue", flush=True)
            supervisor.terminate()
        supervisor.wait()
        kept.close()
        lock.close()


def _why(error: Exception, home: Path) -> str:
    if not isinstance(error, OSError):
        return str(error)
    remedy = (
        "make room, or give another --home" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give another --home"
    )
    return f"{home} cannot be written, {error.strerror or error}: {remedy}"


def _greeting(url: str, token: str) -> str:
    return "\n".join([
        "",
        f"  Palimpsest is up at   {url}",
        f"  token                 {token}",
        f"  API in the browser    {url}/openapi?token={token}",
        f"  command line          {_program()} --help",
        "  one more worker       make worker STAGES=attack",
        "  is all well?          make doctor",
        "  stop                  Ctrl-C (jobs stay and go on at the next start)",
        "",
    ])  # fmt: skip


def _program() -> Path:
    path = Path(sys.executable).parent / "palimpsest"
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _port(word: str) -> int:
    if not word.isdecimal() or not 0 < int(word) < 65536:
        raise argparse.ArgumentTypeError(f"{word!r} is no port: give 1 to 65535")
    return int(word)


def _counts(words: list[str]) -> dict[str, int]:
    counts = {}
    for word in words:
        group, _, n = word.partition("=")
        if group not in groups() or not n.isdecimal():
            raise argparse.ArgumentTypeError(f"{word!r}: give GROUP=N with a group of {', '.join(groups())}")
        counts[group] = int(n)
    return counts


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="A whole Palimpsest on this machine, until Ctrl-C.")
    parser.add_argument("--home", type=Path, default=Path(".palimpsest"), help="folder for all state")
    parser.add_argument("--port", type=_port, help=f"gateway's port; {PREFERRED_PORT} if free, else any")
    parser.add_argument(
        "--workers", nargs="*", default=[], metavar="GROUP=N", help="how many workers of a group; 1 each"
    )
    given = parser.parse_args()
    try:
        workers = _counts(given.workers)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    if not check_environment():
        return 2
    return serve(given.home, given.port, workers)


if __name__ == "__main__":
    sys.exit(main())
