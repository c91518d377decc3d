"""`make compose-test`: prove docker-compose.yml on the engine that DOCKER_HOST names.

Builds both images, starts everything, runs an audit while workers are scaled and one is killed,
compares every number of its report with that of one machine, and runs the audit again during a
rolling update of all workers. Exit 0: all of it held. 1: something did not. 2: there is no engine.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.layout import WORKER_GROUPS
from services.audit_text import AuditText
from services.cli.input.audit_file import read_audit_file
from services.client import Client
from tests.compose import engine, walk
from tests.compose.engine import CommandFailed, Composition, NoEngine
from tests.compose.numbers import ReportNumbers, find_differences
from tests.compose.walk import WalkFailed
from tests.support.local_serve import run_serve
from tests.support.servers import find_free_port
from tests.support.source_tree import ROOT

AUDIT = ROOT / "examples/quick.yaml"
DEFAULT_BASE = "python:3.11-slim-bookworm"
WORKERS = [f"worker-{group}" for group in WORKER_GROUPS]
IMAGES = {"palimpsest-gateway": "gateway", "palimpsest-worker": "worker-train"}
MB = 1_000_000
_STARTED = time.monotonic()


def say(text: str) -> None:
    """A line for the person who runs it, with the seconds since the start."""
    sys.stdout.write(f"{time.monotonic() - _STARTED:6.0f} s  {text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the walk; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.compose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--no-build", action="store_true", help="use the images that are there")
    parser.add_argument("--build-network", help="network of the builds, such as host")
    options = parser.parse_args(arguments)
    try:
        command = engine.find_compose()
    except NoEngine as error:
        sys.stderr.write(f"compose-test: {error}: start one, and name it in DOCKER_HOST\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="palimpsest-compose-") as folder:
        try:
            _test_on_engine(command, Path(folder), options)
        except (CommandFailed, WalkFailed, AssertionError) as error:
            say(f"FAILED: {error}")
            return 1
    say("all of it held")
    return 0


def _test_on_engine(command: Sequence[str], folder: Path, options: argparse.Namespace) -> None:
    token, port, password = secrets.token_hex(16), find_free_port(), secrets.token_hex(16)
    version = _print_of(sys.executable, "setup.py", "--version")
    additions = folder / "additions.json"
    engine.write_additions(additions, command, password, options.build_network)
    system = Composition(
        command,
        {
            "POSTGRES_PASSWORD": secrets.token_hex(16),
            "REDIS_PASSWORD": password,
            "PALIMPSEST_TOKEN": token,
            "PALIMPSEST_THREADS": "1",
            "GATEWAY_PORT": str(port),
            "VERSION": version,
            "REVISION": _print_of("git", "rev-parse", "HEAD"),
        },
        additions,
    )
    if not options.no_build:
        _build(system)
        _require_labels(version)
    _print_sizes()
    with (
        _run_system(system, options.keep),
        Client(f"http://127.0.0.1:{port}", token, retry_for_s=120) as gateway,
    ):
        numbers = _prove(system, gateway)
    _compare("a single machine", numbers, _run_on_one_machine(folder))


def _build(system: Composition) -> None:
    for service in IMAGES.values():
        system.run("build", service, timeout_s=engine.BUILD_TIMEOUT_S)
    say("both images are built")


def _print_of(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _require_labels(version: str) -> None:
    for image in IMAGES:
        labels = engine.read_labels(image)
        if labels.get("org.opencontainers.image.version") != version:
            raise WalkFailed(f"{image} is not labelled with version {version}: {dict(labels)}")
    say(f"both are labelled with version {version}")


def _print_sizes() -> None:
    base = os.environ.get("PYTHON_IMAGE", DEFAULT_BASE)
    for image in IMAGES:
        total, of_base = engine.read_image_size(image, base)
        above = f", {(total - of_base) / MB:.0f} MB above {base}" if of_base else ""
        say(f"{image}: {total / MB:.0f} MB{above}")


@contextmanager
def _run_system(system: Composition, keep: bool) -> Iterator[None]:
    system.run("down", "--volumes", "--remove-orphans")  # what a killed run has left
    try:
        system.run("up", "--detach", "--no-build")
        say("everything is started")
        yield
    except BaseException:
        say("the last lines of all containers:")
        sys.stdout.write(system.read_logs())
        raise
    finally:
        if not keep:
            system.run("down", "--volumes", "--remove-orphans")
            say("down: containers, networks and volumes are removed")


def _prove(system: Composition, gateway: Client) -> ReportNumbers:
    """The audit with a kill, and the audit during the update; the numbers of both, which are
    equal."""
    spec = _read_spec().spec
    first = walk.submit_when_up(gateway, spec)
    say(f"an audit of {first.total} jobs is accepted")
    gateway.pause_stage("attack")  # until there are enough workers to kill one of
    scale = f"{walk.SCALED}={walk.SCALE}"
    system.run("up", "--detach", "--no-build", "--no-recreate", "--scale", scale)
    names = walk.find_worker_names(system, gateway, WORKERS)
    say(f"scaled to {scale}; workers: {', '.join(names)}")
    gateway.resume_stage("attack")
    victim, job = walk.kill_one_that_works(system, gateway, first.id)
    say(f"{victim.name} was killed while it ran {job.id} ({job.method}), and started again")
    jobs = walk.wait_for_end(gateway, first.id)
    lost = walk.count_lost(gateway, jobs)
    say(f"the audit has ended: {len(jobs)} of {len(jobs)} jobs succeeded, {lost} attempt lost")
    if lost != 1:
        raise WalkFailed(f"one worker was killed, and {lost} attempts count as lost")
    numbers = walk.read_numbers(gateway, first.id)

    second = walk.submit_when_up(gateway, {**spec, "no_cache": True})
    replaced = walk.update_workers(system, gateway, WORKERS, say)
    jobs = walk.wait_for_end(gateway, second.id)
    lost = walk.count_lost(gateway, jobs)
    say(
        f"rolling update of {replaced} workers: {len(jobs)} of {len(jobs)} jobs succeeded, "
        f"{lost} attempts lost, {walk.count_resumed(gateway, jobs)} jobs handed to another worker"
    )
    if lost:
        raise WalkFailed(f"{lost} attempts count as lost after a rolling update")
    _compare("the audit during the update", numbers, walk.read_numbers(gateway, second.id))
    return numbers


def _compare(what: str, expected: ReportNumbers, numbers: ReportNumbers) -> None:
    if expected.conditions != numbers.conditions:
        raise WalkFailed(
            f"{what} ran under other conditions, so numbers may differ: {expected.conditions} "
            f"and {numbers.conditions}"
        )
    if differences := find_differences(expected, numbers):
        shown = "\n  ".join(differences[:10])
        raise WalkFailed(f"{what} differs in {len(differences)} values:\n  {shown}")
    say(
        f"{what}: {numbers.count} numbers of the report, every text of its findings and the "
        f"digests of {len(numbers.models)} kinds of artifacts are equal ({numbers.digest[:16]})"
    )


def _run_on_one_machine(folder: Path) -> ReportNumbers:
    """The audit by `make serve` of this tree, with as many threads."""
    settings = {"PALIMPSEST_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with (
        run_serve(folder, **settings) as address,
        Client(address["url"], address["token"], retry_for_s=60) as gateway,
    ):
        audit = gateway.submit_audit(_read_spec().spec)
        walk.wait_for_end(gateway, audit.id)
        return walk.read_numbers(gateway, audit.id)


def _read_spec() -> AuditText:
    return read_audit_file(AUDIT)


if __name__ == "__main__":
    sys.exit(main())
