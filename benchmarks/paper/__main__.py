"""Run the paper's audits through the queue and write docs/results.md. Finished jobs are reused.

make paper                   at a reduced width, for two cores
make paper ARGS=--full       the paper's own scale, for a GPU
make paper ARGS=--print      print the audits as YAML, run nothing
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

from benchmarks.paper.audit_specs import FULL, REDUCED, Scale, build_audits
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.feature_recovery import DEFAULT_SETTING, ESTIMATES
from benchmarks.paper.results_page import RunSummary, write_page
from deploy.local.demo import start_server, wait_until_up
from deploy.local.layout import Layout
from services.cli.output.progress import follow
from services.client import Audit, Client, ClientError, Job
from shared.errors import InvalidRequest
from shared.forgetting import Forgetting
from shared.ml.samples import open_dataset
from shared.ml.tensors import read_tensors
from shared.plugin_ref import PluginRef
from shared.reporting.as_yaml import to_yaml
from shared.reporting.forgetting import read_forgetting
from shared.roles import Role

PICTURED_ESTIMATES = ("approximate, from the pair", "exact, with base, N and k")


def main() -> int:
    """0 success, 1 something failed (the available results are written), 2 usage error, 130
    interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--home", type=Path, default=Path(".palimpsest"), help="folder for all state"
    )
    parser.add_argument("--full", action="store_true", help="the paper's own scale")
    parser.add_argument(
        "--print", action="store_true", help="print the audits as YAML, and run nothing"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results.md"), help="the document to write"
    )
    parser.add_argument(
        "--pictures", type=Path, default=Path("docs/images/paper"), help="folder for its figures"
    )
    options = parser.parse_args()
    scale = FULL if options.full else REDUCED
    if options.print:
        sys.stdout.write("---\n".join(map(to_yaml, build_audits(scale).values())))
        return 0
    command = "make paper ARGS=--full" if options.full else "make paper"
    return run_audits(scale, Layout(options.home), options.out, options.pictures, command)


def run_audits(scale: Scale, layout: Layout, out: Path, pictures: Path, command: str) -> int:
    """Run all audits on a running serve or a temporary one, and write the document."""
    try:
        data = _describe_data(scale)
    except InvalidRequest as error:
        print(f"{error}\nWhere to put CIFAR-10: docs/data.md.", file=sys.stderr)
        return 2
    # one pretraining is long; evaluations are half of all jobs
    server = start_server(layout, train=2, evaluate=2)
    try:
        if not wait_until_up(layout, server):
            return server.returncode if server else 1
        served = json.loads(layout.served_file.read_text())
        os.environ |= {"PALIMPSEST_URL": served["url"], "PALIMPSEST_TOKEN": served["token"]}
        with Client(retry_for_s=60) as client:
            try:
                audits = {
                    name: client.submit_audit(spec) for name, spec in build_audits(scale).items()
                }
            except ClientError as error:
                print(f"not accepted: {error}", file=sys.stderr)
                return 2
            status = follow([audit.id for audit in audits.values()], json_lines=False)
            if status == 130:
                return status
            _write_results(scale, client, audits, out, pictures, command, data)
        print(f"wrote {out}")
        return status
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait()


def _write_results(
    scale: Scale,
    client: Client,
    audits: Mapping[str, Audit],
    out: Path,
    pictures: Path,
    command: str,
    data: str,
) -> None:
    jobs = {name: list(client.list_jobs(audit=audit.id)) for name, audit in audits.items()}
    evaluations = {name: list(_fetch_evaluations(client, found)) for name, found in jobs.items()}
    pictures_by_estimate = {}
    for estimate in PICTURED_ESTIMATES:
        kind, gradient_from = ESTIMATES[estimate]
        if images := _fetch_pictures(
            client, evaluations.get(f"{kind}, {DEFAULT_SETTING}", []), gradient_from
        ):
            pictures_by_estimate[estimate] = images
    evidence = Evidence(
        scale,
        {name: [evaluation for evaluation, _ in pairs] for name, pairs in evaluations.items()},
        pictures_by_estimate,
        {name: list(_fetch_forgetting(client, found)) for name, found in jobs.items()},
    )
    jobs_by_id = {job.id: job for found in jobs.values() for job in found}
    write_page(
        _summarize_run(list(jobs_by_id.values()), evidence, command, data), evidence, out, pictures
    )


def _fetch_evaluations(client: Client, jobs: list[Job]) -> Iterator[tuple[dict[str, Any], Job]]:
    """The content of each evaluation, and its job."""
    for job in jobs:
        if job.stage == "evaluate" and job.state == "succeeded":
            yield json.loads(client.fetch(job.id, Role.EVALUATION)), job


def _fetch_forgetting(client: Client, jobs: list[Job]) -> Iterator[Forgetting]:
    for job in jobs:
        if job.stage == "forgetting" and job.state == "succeeded":
            yield read_forgetting(client.fetch(job.id, Role.FORGETTING), Role.FORGETTING)


def _fetch_pictures(
    client: Client, evaluations: list[tuple[dict[str, Any], Job]], gradient_from: str
) -> Mapping[str, Tensor] | None:
    """Of the first seed."""
    for evaluation, job in sorted(evaluations, key=lambda pair: pair[0]["seed"]):
        attack = evaluation["attack"]
        if (
            attack
            and attack["method"] == "feature_recovery"
            and attack["params"]["gradient_from"] == gradient_from
        ):
            images, _ = read_tensors(client.fetch(job.id, Role.PICTURES), Role.PICTURES)
            return {
                name.removeprefix(f"{Role.RECONSTRUCTION}."): image
                for name, image in images.items()
            }
    return None


def _describe_data(scale: Scale) -> str:
    """Each data set with the size of its train split.

    Raises:
        InvalidRequest: one cannot be read.
    """
    references = (PluginRef.model_validate(d) for d in (scale.image_dataset, *scale.table_datasets))
    return ", ".join(
        f"{reference.name} ({len(open_dataset(reference).load('train').labels):,} training samples)"
        for reference in references
    )


def _summarize_run(jobs: list[Job], evidence: Evidence, command: str, data: str) -> RunSummary:
    spans = [(datetime.fromisoformat(j.started_at), datetime.fromisoformat(j.finished_at), j.stage)
             for j in jobs if j.started_at and j.finished_at]  # fmt: skip
    stage_seconds: defaultdict[str, float] = defaultdict(float)
    for start, end, stage in spans:
        stage_seconds[stage] += (end - start).total_seconds()
    conditions = {
        str(c): c for es in evidence.evaluations.values() for e in es for c in [e["provenance"]]
    }
    versions = "; ".join(
        f"torch {c['torch']}, Python {c['python']}, {c['device']}, {c['threads']} thread(s) per job"
        for c in conditions.values()
    )
    return RunSummary(
        data,
        _describe_machine(),
        _measure_busy_s(spans),
        sum(job.raw["cost"]["cpu_seconds"] for job in jobs if job.raw["cost"]),
        stage_seconds,
        len(jobs),
        versions,
        command,
    )


def _measure_busy_s(spans: list[tuple[datetime, datetime, str]]) -> float:
    """Seconds during which at least one job ran, so that the pause of an interrupted run does not
    count."""
    total, until = 0.0, None
    for start, end, _ in sorted(spans):
        begin = start if until is None else max(start, until)
        total += max(0.0, (end - begin).total_seconds())
        until = end if until is None else max(until, end)
    return total


def _describe_machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in info.read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory:.0f} GiB"


if __name__ == "__main__":
    sys.exit(main())
