"""An audit's report, as its last job made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .atomic_file import disk_errors, write_atomically
from .errors import ClientError, NoReport
from .records import Artifact, Job

STAGE = "report"
JSON, HTML = "application/json", "text/html"  # the report for programs, and the one for people


@dataclass(frozen=True)
class Report:
    """What one audit found to leak. `json` and `html` are the bytes that the report job wrote."""

    job: str
    data: Mapping[str, Any]
    json: bytes = field(repr=False)
    html: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_bytes(cls, job: Job, contents: Mapping[str, bytes]) -> Report:
        """Read a report from the bytes of each media type.

        Raises:
            ClientError: they are no report.
        """
        try:
            data = json.loads(contents[JSON])
        except (ValueError, RecursionError) as error:
            raise ClientError(f"the report of job {job.id} is not JSON: {error}") from error
        if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
            raise ClientError(f"what job {job.id} made is not a report that this version can read")
        return cls(job.id, data, contents[JSON], contents.get(HTML))

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per attack on a released model: its scores next to their baselines."""
        rows: Sequence[Mapping[str, Any]] = self.data["rows"]
        return rows

    @property
    def missing(self) -> Sequence[Mapping[str, Any]]:
        """Rows that should be there and are not, with the reason."""
        return self.data.get("missing") or []

    def save(self, folder: Path) -> list[Path]:
        """Write report.json and report.html into a folder, which is made if need be; the paths.

        Raises:
            WriteError: the disk refuses; a file is whole or not there.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files = {folder / "report.json": self.json, folder / "report.html": self.html}
        written = {path: data for path, data in files.items() if data is not None}
        for path, data in written.items():
            write_atomically(path, data)
        return list(written)


def find_report_artifacts(job: Job | None, item_id: str) -> tuple[Job, dict[str, Artifact]]:
    """The report job, and by media type the artifacts that its report consists of.

    Args:
        job: the report job of what the caller asked for; None if there is none.
        item_id: the audit or job that the caller asked for.

    Raises:
        NoReport: there is none, or not yet.
    """
    if job is None:
        raise NoReport(f"{item_id} has no report job, so no report will come of it")
    if job.stage != STAGE:
        raise NoReport(
            f"{item_id} is a job of the stage {job.stage}: name an audit, or the report job of one"
        )
    by_type = {
        artifact.media_type.partition(";")[0]: artifact for artifact in job.artifacts.values()
    }
    if JSON not in by_type:
        why = f": {job.message}" if job.message else ""
        raise NoReport(
            f"the report of {item_id} is not there: its job {job.id} is {job.state}{why}"
        )
    return job, {kind: artifact for kind, artifact in by_type.items() if kind in (JSON, HTML)}
