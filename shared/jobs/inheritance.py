"""The data files behind a job: those that it reads, and those behind all that it is made from, each
in one version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import func, select

from shared.data_files import DataFile, IdentifyFiles
from shared.errors import InvalidRequest
from shared.jobs.database import Database
from shared.jobs.tables import job_artifacts, jobs

MAKERS = 100  # of one artifact that are looked at, which differ in what they read

Data = Mapping[str, str]  # by path, the sha256 of its contents, or ABSENT


def merge_data(own: Data, behind: Iterable[tuple[str, Data]]) -> dict[str, str]:
    """What a job reads, with what is behind each of its inputs.

    Args:
        behind: role of the input, and the data files behind it.

    Raises:
        InvalidRequest: a file in two versions.
    """
    merged = dict(own)
    for role, data in behind:
        for path, sha256 in data.items():
            if merged.setdefault(path, sha256) != sha256:
                raise InvalidRequest(
                    f"{path!r} in the data root has changed since input {role} was produced: run "
                    "the job that produced it again",
                    f"inputs.{role}",
                )
    return merged


def data_behind(
    db: Database, tenant: str, sha256: str, identify: IdentifyFiles, field: str
) -> Data:
    """The data files behind an artifact, which several jobs may have made from different ones.

    The last job whose files are what the data root holds now counts, or else the last one. An
    artifact that no job has made has none.

    Args:
        identify: asked only where it matters.
        field: where the request names the artifact.

    Raises:
        InvalidRequest: as `identify`.
    """
    makers = _data_of_makers(db, tenant, sha256)
    if len(makers) < 2:
        return makers[0] if makers else {}
    paths = dict.fromkeys(path for data in makers for path in data)
    now = identify([DataFile(path, field, optional=True) for path in paths])
    current = (
        data for data in makers if all(now.get(path) == version for path, version in data.items())
    )
    return next(current, makers[0])


def _data_of_makers(db: Database, tenant: str, sha256: str) -> Sequence[Data]:
    """What the jobs have read that made an artifact; equal ones once, the last first."""
    mine = (job_artifacts.c.tenant == tenant) & (job_artifacts.c.sha256 == sha256)
    joined = select(jobs.c.data).join(job_artifacts, jobs.c.id == job_artifacts.c.job).where(mine)
    query = joined.group_by(jobs.c.data).order_by(func.max(jobs.c.created_at).desc()).limit(MAKERS)
    with db.read() as connection:
        return [json.loads(data) for data in connection.execute(query).scalars()]
