"""An audit's report, which its last job produces."""

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
MANIFEST_FILE = "manifest.json"
JSON, HTML = "application/json", "text/html"  # the report for programs, and the one for people


@dataclass(frozen=True)
class Report:
    """The report of one audit. `json` and `html` are the bytes that the report job wrote; `html` is
    None if it has expired with the pictures that it shows;
    `manifest` is the envelope that `palimpsest verify` reads, None if the report job belongs to no
    audit, or it was not fetched."""

    job: str
    data: Mapping[str, Any]
    json: bytes = field(repr=False)
    html: bytes | None = field(default=None, repr=False)
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def from_bytes(
        cls,
        job: Job,
        contents: Mapping[str, bytes],
        manifest: Mapping[str, Any] | None = None,
    ) -> Report:
        """Read a report from the bytes of each media type.

        Raises:
            ClientError: they are not a report.
        """
        try:
            data = json.loads(contents[JSON])
        except (ValueError, RecursionError) as error:
            raise ClientError(f"the report of job {job.id} is not JSON: {error}") from error
        if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
            raise ClientError(
                f"the report of job {job.id} has a format that this version cannot read"
            )
        return cls(job.id, data, contents[JSON], contents.get(HTML), manifest)

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per attack on a released model: its scores next to their baselines."""
        rows: Sequence[Mapping[str, Any]] = self.data["rows"]
        return rows

    @property
    def missing(self) -> Sequence[Mapping[str, Any]]:
        """Expected rows that are missing, with the reason."""
        return self.data.get("missing") or []

    def save(self, folder: Path) -> list[Path]:
        """Write report.json, report.html and manifest.json into a folder, created if needed;
        returns the paths.

        Raises:
            WriteError: a file cannot be written; no file is incomplete.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        envelope = None if self.manifest is None else json.dumps(self.manifest).encode()
        files = {
            folder / "report.json": self.json,
            folder / "report.html": self.html,
            folder / MANIFEST_FILE: envelope,
        }
        written = {path: data for path, data in files.items() if data is not None}
        for path, data in written.items():
            write_atomically(path, data)
        return list(written)


def find_report_artifacts(job: Job | None, item_id: str) -> tuple[Job, dict[str, Artifact]]:
    """The report job, and the artifacts of its report by media type.

    Args:
        job: the report job of the requested item; None if there is none.
        item_id: the requested audit or job.

    Raises:
        NoReport: there is none, or not yet.
    """
    if job is None:
        raise NoReport(f"{item_id} has no report job, so it will have no report")
    if job.stage != STAGE:
        raise NoReport(
            f"{item_id} is a job of the stage {job.stage}: give an audit, or its report job"
        )
    by_type = {
        artifact.media_type.partition(";")[0]: artifact for artifact in job.artifacts.values()
    }
    if JSON not in by_type:
        why = f": {job.message}" if job.message else ""
        raise NoReport(f"there is no report of {item_id} yet: its job {job.id} is {job.state}{why}")
    return job, {
        kind: artifact
        for kind, artifact in by_type.items()
        if kind == JSON or (kind == HTML and artifact.expired_at is None)
    }
