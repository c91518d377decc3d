"""Dry runs: the jobs that a submission would create, and what they will cost from what past jobs
took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from services.gateway.api._blueprint import Query
from services.gateway.deps import current_store
from services.gateway.schemas import PlannedJobView, serialize_planned_job
from shared.jobs.quote import Quote
from shared.jobs.records import PlannedJob

MAX_WORKERS = 1000


class DryRunQuery(Query):
    """Of a submission."""

    dry_run: bool = Field(
        False,
        description="return the jobs that it would create and what they would cost, and store "
        "nothing",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=MAX_WORKERS,
        description="with `dry_run`: also estimate the time with this many workers of each kind",
    )


class StageQuoteView(BaseModel):
    """What the new jobs of one stage and method will cost, as far as there is history."""

    stage: str
    method: str | None
    jobs: int
    reused: int
    new: int
    unknown: int = Field(
        description="new jobs whose cost is unknown, because there are no similar past jobs"
    )
    seconds: float | None = Field(description="per job: median of the past jobs")
    seconds_low: float | None = Field(description="the shortest of the past jobs")
    seconds_high: float | None = Field(description="the longest of the past jobs")
    cpu_seconds: float | None = Field(description="processor seconds of all new jobs")
    memory_bytes: int | None = Field(description="peak of one worker process")
    device_memory_bytes: int | None = Field(description="peak on one accelerator")
    basis: str | None = Field(
        description="what the past jobs have in common with these: `equal` (all but seeds, code "
        "and data), `similar` (other methods made their inputs), or `other_settings` (only stage "
        "and method: a guess)"
    )
    past_jobs: int = Field(
        description="number of past jobs that the estimate of a job is based on, at least"
    )
    workers: int = Field(description="live workers that serve the stage")


class QuoteView(BaseModel):
    """What an audit will cost. Jobs without history are not in the figures, but counted."""

    stages: list[StageQuoteView]
    cpu_seconds: float = Field(description="processor seconds of all new jobs")
    memory_bytes: int | None = Field(description="largest peak of a worker process")
    device_memory_bytes: int | None = Field(description="largest peak on an accelerator")
    unknown: int = Field(
        description="new jobs whose cost is unknown, because there are no similar past jobs"
    )
    wall_seconds: float | None = Field(
        description="from the first start to the last end, with the live workers if nothing else "
        "runs; null if a stage has no worker"
    )
    workers: int | None = Field(description="the query's number of workers of each kind")
    wall_seconds_with_workers: float | None = Field(description="the same with this many workers")
    machines: list[str] = Field(description="the kinds of machine on which the past jobs ran")
    unserved_stages: list[str] = Field(description="stages that need a worker and have none")


class DryRun(BaseModel):
    """The jobs that a submission would create."""

    dry_run: bool
    total: int
    reused: int
    new: int
    jobs: list[PlannedJobView]
    costs: list[str] = Field(
        description="notes on costs that are easily overlooked, such as queries"
    )
    quote: QuoteView


def describe_dry_run(
    planned: Sequence[PlannedJob], costs: Sequence[str], workers: int | None
) -> dict[str, Any]:
    """The answer to a dry run, as `DryRun` describes it."""
    shared_keys = [job.request_key for job in planned if not job.no_cache]
    existing = current_store().find_live_duplicates(shared_keys)
    quote = current_store().quote_jobs(planned, existing, workers=workers)
    return {
        "dry_run": True,
        "total": len(planned),
        "reused": len(existing),
        "new": len(planned) - len(existing),
        "jobs": [serialize_planned_job(j, existing.get(j.request_key)) for j in planned],
        "costs": list(costs),
        "quote": _serialize_quote(quote),
    }


def _serialize_quote(quote: Quote) -> dict[str, Any]:
    """A quote, as `QuoteView` describes it; seconds to the millisecond."""

    def shorten(value: Any) -> Any:
        return round(value, 3) if isinstance(value, float) else value

    fields = {name: shorten(value) for name, value in asdict(quote).items()}
    stages = [{name: shorten(value) for name, value in asdict(row).items()} for row in quote.stages]
    return {**fields, "stages": stages}
