"""Run the paper's audits through the queue and write docs/results.md. What has run already is not run again.

make paper                   at a reduced width, for two cores
make paper ARGS=--full       the paper's own scale, for a GPU
make paper ARGS=--print      the audits as YAML, and nothing else
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.paper.audits import FULL, REDUCED, Scale, audits
from benchmarks.paper.document import Run, write
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.recovery import ESTIMATES, USUAL
from deploy.local.demo import serving, wait_until_up
from deploy.local.layout import Layout
from services.cli.following import follow
from services.client import Audit, Client, ClientError, Job
from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.ml.samples import open_dataset
from shared.ml.tensors import read_tensors
from shared.reporting.as_yaml import to_yaml
from shared.roles import Role

PICTURED = ("approximate, from the pair", "exact, with base, N and k")


def main() -> int:
    """0 written, 1 something failed (what there is was written all the same), 2 wrong use, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".palimpsest"), help="folder for all state")
    parser.add_argument("--full", action="store_true", help="the paper's own scale")
    parser.add_argument("--print", action="store_true", help="print the audits as YAML, and run nothing")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="what to write")
    parser.add_argument("--pictures", type=Path, default=Path("docs/images/paper"), help="folder of its drawings")
    given = parser.parse_args()
    scale = FULL if given.full else REDUCED
    if given.print:
        sys.stdout.write("---\n".join(map(to_yaml, audits(scale).values())))
        return 0
    command = "make paper ARGS=--full" if given.full else "make paper"
    return run(scale, Layout(given.home), given.out, given.pictures, command)


def run(scale: Scale, layout: Layout, out: Path, pictures: Path, command: str) -> int:
    """Serve if nothing is served yet, run all audits, write the document, stop what was started."""
    try:
        for dataset in (scale.images, *scale.tables):
            open_dataset(Choice.model_validate(dataset)).load("test")
    except InvalidRequest as error:
        print(f"{error}\nThe real CIFAR-10: docs/data.md says where it may lie.", file=sys.stderr)
        return 2
    server = serving(layout, train=2, evaluate=2)  # one pretraining is long; evaluations are half of all jobs
    try:
        if not wait_until_up(layout, server):
            return server.returncode if server else 1
        at = json.loads(layout.served.read_text())
        os.environ |= {"PALIMPSEST_URL": at["url"], "PALIMPSEST_TOKEN": at["token"]}
        with Client(retry_for_s=60) as client:
            try:
                made = {name: client.submit_audit(spec) for name, spec in audits(scale).items()}
            except ClientError as error:
                print(f"not accepted: {error}", file=sys.stderr)
                return 2
            status = follow([audit.id for audit in made.values()], as_json=False)
            if status == 130:
                return status
            _written(scale, client, made, out, pictures, command)
        print(f"wrote {out}")
        return status
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait()


def _written(scale: Scale, client: Client, made: Mapping[str, Audit], out: Path, pictures: Path, command: str) -> None:
    jobs = {name: list(client.list_jobs(audit=audit.id)) for name, audit in made.items()}
    evaluations = {name: list(_evaluations(client, found)) for name, found in jobs.items()}
    shown = {}
    for estimate in PICTURED:
        kind, gradient_from = ESTIMATES[estimate]
        if images := _pictures(client, evaluations.get(f"{kind}, {USUAL}", []), gradient_from):
            shown[estimate] = images
    evidence = Evidence(scale, {name: [told for told, _ in found] for name, found in evaluations.items()}, shown)
    every = {job.id: job for found in jobs.values() for job in found}
    write(_told(list(every.values()), evidence, command), evidence, out, pictures)


def _evaluations(client: Client, jobs: list[Job]) -> Iterator[tuple[dict[str, Any], Job]]:
    """What each evaluation says, and its job."""
    for job in jobs:
        if job.stage == "evaluate" and job.state == "succeeded":
            yield json.loads(client.fetch(job.id, Role.EVALUATION)), job


def _pictures(
    client: Client, found: list[tuple[dict[str, Any], Job]], gradient_from: str
) -> Mapping[str, Tensor] | None:
    """Of the first seed."""
    for told, job in sorted(found, key=lambda pair: pair[0]["seed"]):
        attack = told["attack"]
        if attack and attack["method"] == "feature_recovery" and attack["params"]["gradient_from"] == gradient_from:
            images, _ = read_tensors(client.fetch(job.id, Role.PICTURES), Role.PICTURES)
            return {name.removeprefix(f"{Role.RECONSTRUCTION}."): image for name, image in images.items()}
    return None


def _told(jobs: list[Job], evidence: Evidence, command: str) -> Run:
    spans = [(datetime.fromisoformat(j.started_at), datetime.fromisoformat(j.finished_at), j.stage)
             for j in jobs if j.started_at and j.finished_at]  # fmt: skip
    work: defaultdict[str, float] = defaultdict(float)
    for start, end, stage in spans:
        work[stage] += (end - start).total_seconds()
    conditions = {str(c): c for es in evidence.evaluations.values() for e in es for c in [e["provenance"]]}
    versions = "; ".join(
        f"torch {c['torch']}, Python {c['python']}, {c['device']}, {c['threads']} thread(s) a job"
        for c in conditions.values()
    )
    return Run(_machine(), _covered(spans), work, len(jobs), versions, command)


def _covered(spans: list[tuple[datetime, datetime, str]]) -> float:
    """Seconds in which at least one job ran: a run that was interrupted does not count its pause."""
    total, until = 0.0, None
    for start, end, _ in sorted(spans):
        begin = start if until is None else max(start, until)
        total += max(0.0, (end - begin).total_seconds())
        until = end if until is None else max(until, end)
    return total


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory:.0f} GiB"


if __name__ == "__main__":
    sys.exit(main())
