"""repeat: run the jobs behind one row of a saved report again, and compare the results."""

from __future__ import annotations

import hashlib
import json as jsonlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.output.console import (
    FAILED,
    OK,
    Json,
    UsageError,
    make_client,
    print_json,
    print_note,
    print_table,
    stdout_console,
)
from services.cli.output.progress import follow
from services.client import Client, ClientError, Job
from services.client.repetition import (
    ComparedScore,
    RecordedJob,
    compare_scores,
    find_differences,
    list_jobs_behind,
    select_row,
)
from services.client.verification import load_public_key, read_unverified, verify_report


def repeat(
    report: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The folder that `palimpsest report` saved."),
    ],
    row: Annotated[
        int, typer.Option("--row", min=1, help="Row of the full table, counted from 1.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="The signer's public key: verify the report first."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run all jobs behind one row of a saved report again, without the cache, and compare every
    result; exit with status 1 if the evaluation differs."""
    folder = report if report.is_dir() else report.parent
    if key is None:
        manifest = read_unverified(folder)
        print_note("palimpsest: the report is not verified (no --key)")
    else:
        manifest = verify_report(folder, load_public_key(key)).predicate
    reported = select_row(_read_report(folder), row)
    recorded = list_jobs_behind(manifest, reported["evaluation"])
    with make_client() as gateway:
        new_ids = _submit(gateway, recorded)
    if not json:
        print_note(f"row {row}: {len(recorded)} jobs submitted")
    status = follow([new_ids[recorded[-1].id]], json)
    if status != OK:
        raise typer.Exit(status)
    with make_client() as gateway:
        repeated = {job.id: gateway.get_job(new_ids[job.id]) for job in recorded}
        role = recorded[-1].find_role(reported["evaluation"])
        data = gateway.fetch(new_ids[recorded[-1].id], role)
    is_identical = hashlib.sha256(data).hexdigest() == reported["evaluation"]
    scores = compare_scores(reported, jsonlib.loads(data))
    raise typer.Exit(_print_comparison(row, recorded, repeated, is_identical, scores, json))


def _read_report(folder: Path) -> Mapping[str, Any]:
    try:
        report = jsonlib.loads((folder / "report.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        report = None
    if not isinstance(report, dict):
        raise ClientError("report.json is not a report")
    return report


def _submit(gateway: Client, recorded: Sequence[RecordedJob]) -> dict[str, str]:
    """Submit the jobs, each after its inputs; returns the new ids by the recorded ones."""
    new_ids: dict[str, str] = {}
    for job in recorded:
        try:
            submitted = gateway.submit_job(**job.build_request(new_ids))
        except ClientError as error:
            for new_id in new_ids.values():
                gateway.cancel(new_id)
            raise UsageError(f"job {job.id} ({job.stage}) cannot be repeated: {error}") from error
        new_ids[job.id] = submitted.id
    return new_ids


def _print_comparison(
    row: int,
    recorded: Sequence[RecordedJob],
    repeated: Mapping[str, Job],
    is_identical: bool,
    scores: Sequence[ComparedScore],
    json: bool,
) -> int:
    digests = {
        job_id: {role: artifact.sha256 for role, artifact in job.artifacts.items()}
        for job_id, job in repeated.items()
    }
    differing = find_differences(recorded, digests)
    causes = [
        f"the {what} of {job.stage} changed"
        for job in recorded
        for what, before, after in (
            ("code", job.code, repeated[job.id].raw.get("code")),
            ("data files", job.data, repeated[job.id].raw.get("data")),
        )
        if before != after
    ]
    if json:
        print_json(
            {
                "row": row,
                "identical": is_identical,
                "differing": differing,
                "changed": causes,
                "jobs": {job.id: repeated[job.id].id for job in recorded},
                "metrics": {
                    one.metric: {"reported": one.reported, "repeated": one.repeated}
                    for one in scores
                },
            }
        )
        return OK if is_identical else FAILED
    if scores:
        cells = [[one.metric, f"{one.reported:.6g}", f"{one.repeated:.6g}"] for one in scores]
        print_table(["metric", "reported", "repeated"], cells)
    if is_identical:
        stdout_console().print(f"row {row} was repeated: its evaluation has the same bytes")
        return OK
    stdout_console().print(
        f"row {row} differs: {', '.join(dict.fromkeys(differing)) or 'its evaluation'}"
    )
    for cause in dict.fromkeys(causes):
        print_note(cause)
    if not causes:
        print_note(
            "neither code nor data files changed: another type of processor, or another "
            "number of threads, can round differently"
        )
    return FAILED
