"""An audit's report, as its last job made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.client.errors import ClientError, NoReport
from services.client.files import told, write_whole
from services.client.records import Job

STAGE = "report"
JSON, HTML = "application/json", "text/html"  # what the report job makes: the report for programs, and for people


@dataclass(frozen=True)
class Report:
    """What leaked, of one audit. `json` and `html` are the very bytes that the job made."""

    job: str
    data: Mapping[str, Any]
    json: bytes = field(repr=False)
    html: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, job: Job, made: Mapping[str, bytes]) -> Report:
        """From the bytes of each media type that the job made.

        Raises:
            ClientError: they are no report.
        """
        try:
            data = json.loads(made[JSON])
        except ValueError as error:
            raise ClientError(f"the report of job {job.id} is not JSON: {error}") from error
        if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
            raise ClientError(f"what job {job.id} made is not a report that this version can read")
        return cls(job.id, data, made[JSON], made.get(HTML))

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One an attack on one released model: its scores beside their nulls."""
        rows: Sequence[Mapping[str, Any]] = self.data["rows"]
        return rows

    @property
    def missing(self) -> Sequence[Mapping[str, Any]]:
        """Rows that should be there and are not, with the reason."""
        return self.data.get("missing") or []

    def save(self, folder: Path) -> list[Path]:
        """Write report.json and report.html into a folder, which is made if need be; the paths.

        Raises:
            Unwritable: the disk refuses; a file is whole or not there.
        """
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files = {folder / "report.json": self.json, folder / "report.html": self.html}
        written = {path: data for path, data in files.items() if data is not None}
        for path, data in written.items():
            write_whole(path, data)
        return list(written)


def ready(job: Job | None, asked: str) -> tuple[Job, dict[str, str]]:
    """The job, and by media type the sha256 of each artifact that its report consists of.

    Args:
        job: the report job of what was asked for; None if there is none.

    Raises:
        NoReport: there is none, or not yet.
    """
    if job is None:
        raise NoReport(f"{asked} has no report job, so no report will come of it")
    if job.stage != STAGE:
        raise NoReport(f"{asked} is a job of the stage {job.stage}: name an audit, or the report job of one")
    made = {a.media_type.partition(";")[0]: a.sha256 for a in job.artifacts.values()}
    if JSON not in made:
        why = f": {job.message}" if job.message else ""
        raise NoReport(f"the report of {asked} is not there: its job {job.id} is {job.state}{why}")
    return job, {kind: sha256 for kind, sha256 in made.items() if kind in (JSON, HTML)}
