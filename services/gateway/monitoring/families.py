"""The figures as metrics, under names that follow Prometheus's conventions: look up here what a
metric means.

All but the age of the figures are of the whole system, so every process of every gateway gives the
same ones: scrape one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from shared import VERSION
from shared.jobs.metric_totals import BUCKETS_S, OVERFLOW, Labels
from shared.jobs.monitoring import Inventory, StoreFigures
from shared.jobs.records import Worker
from shared.jobs.states import Failure

PREFIX = "palimpsest_"

# name: (name of the totals, help, labels)
_COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "jobs_finished": ("jobs_finished", "Jobs that have ended.", ("stage", "state")),
    "tenant_jobs_finished": (
        "tenant_jobs_finished",
        "Jobs that have ended, by tenant; tenants after the first 50 are counted as other.",
        ("tenant", "state"),
    ),
    "job_failures": ("job_failures", "Jobs that have failed, by reason.", ("stage", "failure")),
    "attempts_lost": (
        "attempts_lost",
        "Attempts whose worker died, stalled or stopped renewing its lease.",
        ("stage",),
    ),
    "writes_refused": (
        "writes_refused",
        "Writes of attempts that were over: their job had been given to another one.",
        ("stage",),
    ),
    "webhook_attempts": (
        "webhook_attempts",
        "Attempts to deliver a webhook: delivered, retried (to be tried again) or failed (given "
        "up).",
        ("outcome",),
    ),
    "http_requests": (
        "http_requests",
        "Responses of all gateway processes, by route.",
        ("route", "method", "status"),
    ),
}
_HISTOGRAMS = {
    "job_wait_seconds": (
        "job_wait",
        "Time from when a job was queued to the start of its last attempt.",
    ),
    "job_run_seconds": ("job_run", "Duration of the last attempt of jobs that have ended."),
}


@dataclass(frozen=True)
class Figures:
    """What one scrape returns.

    inventory: None until it has been read.
    disks: free and total bytes by what is stored there.
    """

    store: StoreFigures
    store_age_s: float
    store_took_s: float
    inventory: Inventory | None
    inventory_age_s: float
    disks: Mapping[str, tuple[int, int]]


def make_families(figures: Figures) -> Iterator[Metric]:
    """Every metric."""
    store = figures.store
    yield _make_gauge("jobs", "Live jobs.", ("stage", "state"), store.queues.counts)
    yield _make_gauge(
        "queue_oldest_age_seconds",
        "For how long the job has been queued that has been queued longest; 0 without one.",
        ("stage",),
        {(stage,): store.queues.oldest_age_s.get(stage, 0.0) for stage, _ in store.queues.counts},
    )
    yield from _make_worker_gauges(store.workers)
    for name, (totals, help_text, labels) in _COUNTERS.items():
        counter = CounterMetricFamily(PREFIX + name, help_text, labels=labels)
        zeros = dict.fromkeys(_list_expected_labels(name, store), 0.0)
        for values, total in sorted({**zeros, **store.totals.get(totals, {})}.items()):
            counter.add_metric(values, total)
        yield counter
    for name, (totals, help_text) in _HISTOGRAMS.items():
        yield _make_histogram(name, totals, help_text, store.totals)
    yield _make_request_summary(store.totals)
    yield _make_gauge(
        "service_heartbeat_age_seconds",
        "Time since a service last did a round.",
        ("service",),
        {(service,): age for service, age in store.service_ages_s.items()},
    )
    yield _make_gauge(
        "outbox_rows", "Events that are not counted yet.", (), {(): store.outbox_size}
    )
    yield _make_gauge(
        "webhook_deliveries_pending",
        "Webhook deliveries that have not ended.",
        (),
        {(): store.pending_deliveries},
    )
    yield from _make_storage_gauges(figures)
    yield _make_gauge(
        "snapshot_age_seconds", "Age of these figures.", (), {(): figures.store_age_s}
    )
    yield _make_gauge(
        "snapshot_read_seconds", "How long it took to read them.", (), {(): figures.store_took_s}
    )
    build = InfoMetricFamily(f"{PREFIX}build", "The running version.")
    build.add_metric((), {"version": VERSION})
    yield build


def _list_expected_labels(name: str, store: StoreFigures) -> list[Labels]:
    """Labels under which something may be counted that alerts wait for. They are there with 0
    before: Prometheus sees no increase in a counter that is new."""
    stages = {stage for stage, _ in store.queues.counts}
    stages |= {stage for worker in store.workers for stage in worker.stages}
    if name == "job_failures":
        return [(stage, str(failure)) for stage in stages for failure in Failure]
    if name in ("attempts_lost", "writes_refused"):
        return [(stage,) for stage in stages]
    if name == "webhook_attempts":
        return [(outcome,) for outcome in ("delivered", "retried", "failed")]
    return []


def _make_gauge(
    name: str, help_text: str, labels: tuple[str, ...], values: Mapping[Any, float]
) -> Metric:
    gauge = GaugeMetricFamily(PREFIX + name, help_text, labels=labels)
    for key, value in sorted(values.items()):
        gauge.add_metric(key, value)
    return gauge


def _make_worker_gauges(workers: tuple[Worker, ...]) -> Iterator[Metric]:
    """Of the workers that were seen within the hour. One that serves several stages counts for each
    of them."""
    counts: Counter[Labels] = Counter()
    for worker in workers:
        for stage in worker.stages:
            counts[stage, worker.device, _get_worker_state(worker)] += 1
    yield _make_gauge(
        "workers",
        "Workers by stage: idle, running, draining, or silent (not seen for 20 seconds).",
        ("stage", "device", "state"),
        counts,
    )
    live = [worker for worker in workers if worker.live]
    yield _make_gauge(
        "worker_memory_bytes",
        "Memory of a worker's process that belongs to no file, swap included.",
        ("worker",),
        {(w.id,): w.memory_bytes for w in live if w.memory_bytes is not None},
    )
    yield _make_gauge(
        "worker_device_memory_bytes",
        "Memory that a worker has reserved on its accelerator.",
        ("worker", "device"),
        {
            (w.id, w.device): w.device_memory_bytes
            for w in live
            if w.device_memory_bytes is not None
        },
    )


def _get_worker_state(worker: Worker) -> str:
    if not worker.live:
        return "silent"
    if worker.drain:
        return "draining"
    return "idle" if worker.job is None else "running"


def _make_histogram(
    name: str, totals_name: str, help_text: str, totals: Mapping[str, Mapping[Labels, float]]
) -> Metric:
    buckets = totals.get(f"{totals_name}_bucket", {})
    sums = totals.get(f"{totals_name}_sum", {})
    histogram = HistogramMetricFamily(PREFIX + name, help_text, labels=("stage",))
    for stage in sorted({stage for stage, _ in buckets}):
        so_far, cumulated = 0.0, []
        for bound in (*(f"{b:g}" for b in BUCKETS_S), OVERFLOW):
            so_far += buckets.get((stage, bound), 0.0)
            cumulated.append((bound, so_far))
        histogram.add_metric((stage,), cumulated, sums.get((stage,), 0.0))
    return histogram


def _make_request_summary(totals: Mapping[str, Mapping[Labels, float]]) -> Metric:
    summary = SummaryMetricFamily(
        f"{PREFIX}http_request_seconds",
        "Time to compute responses; of a long one, its beginning.",
        labels=("route", "method"),
    )
    counts: Counter[Labels] = Counter()
    for (route, method, _status), n in totals.get("http_requests", {}).items():
        counts[route, method] += int(n)
    for labels, seconds in sorted(totals.get("http_request_seconds", {}).items()):
        summary.add_metric(labels, counts[labels], seconds)
    return summary


def _make_storage_gauges(figures: Figures) -> Iterator[Metric]:
    inventory = figures.inventory or Inventory({}, {})
    yield _make_gauge(
        "tenant_jobs",
        "Live jobs by tenant; tenants after the 50 with most are counted as other.",
        ("tenant", "state"),
        inventory.tenant_counts,
    )
    artifacts = inventory.artifacts
    yield _make_gauge(
        "artifacts",
        "Artifacts, by origin; each tenant that has one counts.",
        ("origin",),
        {(origin,): n for origin, (n, _) in artifacts.items()},
    )
    yield _make_gauge(
        "artifact_bytes",
        "Size of all artifacts, by origin; each tenant that has one counts.",
        ("origin",),
        {(origin,): size for origin, (_, size) in artifacts.items()},
    )
    yield _make_gauge(
        "inventory_age_seconds",
        "Age of the figures about tenants and artifacts, which are made less often.",
        (),
        {(): figures.inventory_age_s} if figures.inventory else {},
    )
    yield _make_gauge(
        "disk_free_bytes",
        "Free space where local artifacts and a SQLite job store are kept.",
        ("store",),
        {(store,): free for store, (free, _) in figures.disks.items()},
    )
    yield _make_gauge(
        "disk_size_bytes",
        "Size of the disk where local artifacts and a SQLite job store are kept.",
        ("store",),
        {(store,): size for store, (_, size) in figures.disks.items()},
    )
