"""The jobs behind one row of a report, from its manifest, to run them again and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ClientError

MAX_JOBS = 200  # behind one row; an audit plans about ten


class NotRepeatable(ClientError):
    """The manifest does not say how a row was made."""


@dataclass(frozen=True)
class RecordedJob:
    """A job as the manifest records it. `inputs` are by role {job, role} or {sha256}, `artifacts`
    digests by role."""

    id: str
    stage: str
    method: str | None
    params: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, Mapping[str, str]]
    artifacts: Mapping[str, str]
    code: str
    data: Mapping[str, str]

    @property
    def parents(self) -> list[str]:
        """The jobs whose artifacts are its inputs."""
        return [source["job"] for source in self.inputs.values() if "job" in source]

    def find_role(self, sha256: str) -> str | None:
        """The role of its artifact with that digest; None if it has none."""
        return next((role for role, digest in self.artifacts.items() if digest == sha256), None)

    def build_request(self, new_ids: Mapping[str, str]) -> dict[str, Any]:
        """Arguments of `submit_job` that run it again on what the new jobs make; `new_ids` are by
        the id of the recorded job."""
        inputs = {
            role: {"job": new_ids[source["job"]], "role": source.get("role", role)}
            if "job" in source
            else {"sha256": source["sha256"]}
            for role, source in self.inputs.items()
        }
        return {
            "stage": self.stage,
            "method": self.method,
            "params": dict(self.params),
            "inputs": inputs,
            "seed": self.seed,
            "no_cache": True,
        }


def select_row(report: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """A row of report.json, counted from 1.

    Raises:
        NotRepeatable: there is no such row.
    """
    rows = report.get("rows")
    if not isinstance(rows, list) or not 1 <= number <= len(rows):
        count = len(rows) if isinstance(rows, list) else 0
        raise NotRepeatable(f"there is no row {number}: the report has {count} rows")
    row = rows[number - 1]
    if not isinstance(row, dict) or not isinstance(row.get("evaluation"), str):
        raise NotRepeatable(f"row {number} does not name its evaluation")
    return row


def list_jobs_behind(manifest: Mapping[str, Any], evaluation: str) -> list[RecordedJob]:
    """The job that made an evaluation and all that it depends on, each after its inputs.

    Args:
        evaluation: sha256 of the EVALUATION.

    Raises:
        NotRepeatable: the manifest does not have them all, or they depend on each other in a
            circle.
    """
    recorded = _read_jobs(manifest)
    last = next((job for job in recorded.values() if job.find_role(evaluation)), None)
    if last is None:
        raise NotRepeatable(f"no job in the manifest made evaluation {evaluation[:12]}")
    ordered: dict[str, RecordedJob] = {}
    pending = [(last.id, False)]
    open_ids: set[str] = set()
    while pending:
        job_id, inputs_are_done = pending.pop()
        if job_id in ordered:
            continue
        job = recorded.get(job_id)
        if job is None:
            raise NotRepeatable(f"the manifest lacks job {job_id[:40]}")
        if inputs_are_done:
            ordered[job_id] = job
            continue
        if job_id in open_ids:
            raise NotRepeatable(f"the manifest makes job {job_id[:40]} an input of itself")
        open_ids.add(job_id)
        if len(open_ids) > MAX_JOBS:
            raise NotRepeatable(f"more than {MAX_JOBS} jobs are behind this row")
        pending += [(job_id, True), *((parent, False) for parent in job.parents)]
    return list(ordered.values())


def _read_jobs(manifest: Mapping[str, Any]) -> dict[str, RecordedJob]:
    jobs = manifest.get("jobs")
    try:
        return {one["id"]: _read_job(one) for one in jobs or ()}
    except (TypeError, KeyError, AttributeError, ValueError):
        raise NotRepeatable("the manifest has jobs that this version cannot read") from None


def _read_job(one: Mapping[str, Any]) -> RecordedJob:
    sources = {str(role): _read_source(source) for role, source in one["inputs"].items()}
    seed, params, method = one["seed"], one["params"], one["method"]
    if type(seed) is not int or not isinstance(params, dict):
        raise ValueError("not a job")
    return RecordedJob(
        id=str(one["id"]),
        stage=str(one["stage"]),
        method=None if method is None else str(method),
        params=params,
        seed=seed,
        inputs=sources,
        artifacts={str(role): str(sha256) for role, sha256 in one["artifacts"].items()},
        code=str(one["code"]),
        data={str(path): str(sha256) for path, sha256 in one["data"].items()},
    )


def _read_source(source: Mapping[str, Any]) -> dict[str, str]:
    read = {str(name): str(value) for name, value in source.items()}
    if ("job" in read) == ("sha256" in read):
        raise ValueError("not a source")
    return read


@dataclass(frozen=True)
class ComparedScore:
    """The mean of a metric in the row, and in its repetition."""

    metric: str
    reported: float
    repeated: float


def compare_scores(row: Mapping[str, Any], evaluation: Any) -> list[ComparedScore]:
    """The means of the metrics that both have; `evaluation` may be anything.

    A report also derives metrics, which an evaluation does not have.
    """
    before, after = _read_means(row), _read_means(evaluation)
    return [ComparedScore(name, before[name], after[name]) for name in before if name in after]


def _read_means(scored: Any) -> dict[str, float]:
    metrics = scored.get("metrics") if isinstance(scored, dict) else None
    means = {
        str(name): score.get("mean")
        for name, score in (metrics.items() if isinstance(metrics, dict) else ())
        if isinstance(score, dict)
    }
    return {name: float(mean) for name, mean in means.items() if isinstance(mean, int | float)}


def find_differences(
    jobs: Sequence[RecordedJob], repeated: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """`STAGE ROLE` of every artifact whose bytes differ; `repeated` are digests by role, by the id
    of the recorded job."""
    return [
        f"{job.stage} {role}"
        for job in jobs
        for role, sha256 in job.artifacts.items()
        if repeated.get(job.id, {}).get(role) != sha256
    ]
