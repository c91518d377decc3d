"""/metrics of a gateway over a real job store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from services.gateway.snapshot_cache import SnapshotCache
from shared.errors import TransientError
from shared.jobs import monitoring, worker_registry
from shared.jobs.outbox_reader import process_outbox
from tests.support.gateway import TENANT, GatewayInProcess
from tests.support.metrics import Metrics, parse_metrics

SCRAPE_TOKEN = "only-for-metrics"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path, metrics_interval_s=0.001, metrics_token=SCRAPE_TOKEN)
    yield made
    made.close()


def scrape(gateway: GatewayInProcess) -> Metrics:
    answer = gateway.http.get("/metrics")
    assert answer.status_code == 200
    return parse_metrics(answer.get_data(as_text=True))


def test_live_jobs_ends_and_workers_are_shown(gateway: GatewayInProcess) -> None:
    for n in range(4):
        gateway.post({"stage": "sleep", "seed": n})
    worker = gateway.make_worker()
    worker.finish(worker.claim())
    worker.fail(worker.claim())
    worker.claim()
    worker_registry.record_heartbeat(gateway.db, worker.name, memory_bytes=5_000)
    worker_registry.record_service_heartbeat(gateway.db, "reconciler")
    process_outbox(gateway.db)
    metrics = scrape(gateway)
    assert metrics["palimpsest_jobs", {"stage": "sleep", "state": "queued"}] == 1
    assert metrics["palimpsest_jobs", {"stage": "sleep", "state": "running"}] == 1
    assert metrics["palimpsest_tenant_jobs", {"tenant": TENANT, "state": "queued"}] == 1
    assert 0 < metrics["palimpsest_queue_oldest_age_seconds", {"stage": "sleep"}] < 60
    finished = {"stage": "sleep", "state": "succeeded"}
    assert metrics["palimpsest_jobs_finished_total", finished] == 1
    assert metrics["palimpsest_job_failures_total", {"stage": "sleep", "failure": "error"}] == 1
    busy = {"stage": "sleep", "device": "cpu", "state": "running"}
    assert metrics["palimpsest_workers", busy] == 1
    assert metrics["palimpsest_worker_memory_bytes", {"worker": worker.name}] == 5_000
    assert metrics["palimpsest_job_run_seconds_count", {"stage": "sleep"}] == 2
    assert metrics["palimpsest_job_run_seconds_bucket", {"stage": "sleep", "le": "+Inf"}] == 2
    assert metrics["palimpsest_artifacts", {"origin": "job"}] == 1
    assert metrics["palimpsest_disk_free_bytes", {"store": "jobs"}] > 0
    assert metrics["palimpsest_service_heartbeat_age_seconds", {"service": "reconciler"}] < 60
    assert metrics["palimpsest_outbox_rows", {}] == 0
    assert metrics["palimpsest_snapshot_age_seconds", {}] < 10


def test_ended_jobs_that_are_deleted_stay_counted(gateway: GatewayInProcess) -> None:
    gateway.post()
    worker = gateway.make_worker()
    claim = worker.claim()
    worker.finish(claim)
    process_outbox(gateway.db)
    with gateway.db.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    assert scrape(gateway)["palimpsest_job_run_seconds_count", {"stage": "sleep"}] == 1


def test_requests_are_counted_by_route(gateway: GatewayInProcess) -> None:
    gateway.post()
    for n in range(3):
        gateway.http.get(f"/v1/jobs/job_{n:020}")
    gateway.http.get("/no/such/path")
    gateway.http.client.open("/v1/jobs", method="BREW")
    metrics = scrape(gateway)
    missing = {"route": "/v1/jobs/<job_id>", "method": "GET", "status": "404"}
    assert metrics["palimpsest_http_requests_total", missing] == 3
    posted = {"route": "/v1/jobs", "method": "POST", "status": "202"}
    assert metrics["palimpsest_http_requests_total", posted] == 1
    nowhere = {"route": "none", "method": "GET", "status": "404"}
    assert metrics["palimpsest_http_requests_total", nowhere] == 1
    assert metrics["palimpsest_http_request_seconds_count", {
        "route": "/v1/jobs/<job_id>", "method": "GET"
    }] == 3  # fmt: skip
    assert "BREW" not in str(metrics.samples)


def test_counts_of_requests_are_of_all_processes_and_survive_them(tmp_path: Path) -> None:
    route = {"route": "/v1/workers", "method": "GET", "status": "200"}
    for expected in (1.0, 2.0):
        gateway = GatewayInProcess(tmp_path, metrics_interval_s=0.001)
        gateway.http.get("/v1/workers")
        assert scrape(gateway)["palimpsest_http_requests_total", route] == expected
        gateway.close()


def test_counts_that_cannot_be_stored_are_kept(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = gateway.app.extensions["palimpsest"].monitor.request_counts
    gateway.http.get("/v1/workers")

    def refuse(*_: Any) -> None:
        raise TransientError("away")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.db, "run_transaction", refuse)
        counts.flush()
    route = {"route": "/v1/workers", "method": "GET", "status": "200"}
    assert scrape(gateway)["palimpsest_http_requests_total", route] == 1


def test_both_formats_are_well_formed(gateway: GatewayInProcess) -> None:
    gateway.post()
    process_outbox(gateway.db)
    text = gateway.http.get("/metrics")
    assert text.content_type.startswith("text/plain")
    names = {family.name for family in parse_text(text.get_data(as_text=True))}
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    openmetrics = gateway.http.get("/metrics", headers=accept)
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    assert openmetrics.get_data(as_text=True).endswith("# EOF\n")
    # OpenMetrics names a family of counters and of infos without its suffix
    bare = {family.name for family in parse_openmetrics(openmetrics.get_data(as_text=True))}
    assert {name.removesuffix("_info") for name in names} == bare
    assert all(name.startswith("palimpsest_") for name in names)


@pytest.mark.parametrize(
    ("path", "token", "method", "status"),
    [
        ("/metrics", SCRAPE_TOKEN, "GET", 200),
        ("/metrics", "wrong", "GET", 401),
        ("/metrics", None, "GET", 401),
        ("/metrics/", SCRAPE_TOKEN, "GET", 401),
        ("/v1/jobs", SCRAPE_TOKEN, "GET", 401),
        ("/v1/workers", SCRAPE_TOKEN, "GET", 401),
        ("/metrics", SCRAPE_TOKEN, "POST", 401),
    ],
)
def test_the_scrape_token_opens_metrics_and_nothing_else(
    gateway: GatewayInProcess, path: str, token: str | None, method: str, status: int
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = gateway.http.client.open(path, method=method, headers=headers)
    assert answer.status_code == status


def test_an_empty_scrape_token_opens_nothing(tmp_path: Path) -> None:
    gateway = GatewayInProcess(tmp_path, metrics_token=" ")
    for headers in ({"Authorization": "Bearer "}, {"Authorization": "Bearer"}, {}):
        assert gateway.http.client.get("/metrics", headers=headers).status_code == 401
    gateway.close()


def test_old_figures_are_given_while_the_store_is_away(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.post()
    before = scrape(gateway)

    def fail(*_: Any) -> Any:
        raise TransientError("the job store did not answer")

    monkeypatch.setattr("services.gateway.monitoring.monitor.read_store_figures", fail)
    time.sleep(0.05)
    after = scrape(gateway)
    queued = ("palimpsest_jobs", {"stage": "sleep", "state": "queued"})
    assert after[queued] == before[queued] == 1
    assert after["palimpsest_snapshot_age_seconds", {}] > 0.05


def test_without_figures_a_scrape_is_told_to_come_again(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise TransientError("the job store did not answer")

    monkeypatch.setattr("services.gateway.monitoring.monitor.read_store_figures", fail)
    assert gateway.http.get("/metrics").status_code == 503


def _make_counting_read(pause_s: float) -> tuple[list[int], Callable[[], int]]:
    reads: list[int] = []

    def read() -> int:
        time.sleep(pause_s)
        reads.append(len(reads))
        return len(reads)

    return reads, read


def test_many_who_ask_at_once_read_once() -> None:
    reads, read = _make_counting_read(0.1)
    cache = SnapshotCache("figures", read, interval_s=10.0)
    threads = [threading.Thread(target=cache.get_current) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    assert cache.get_current().value == 1


def test_a_slow_read_gives_the_old_figures() -> None:
    reads, read = _make_counting_read(0.0)
    slow = threading.Event()

    def read_slowly() -> int:
        if reads:
            slow.wait(10)
        return read()

    cache = SnapshotCache("figures", read_slowly, interval_s=0.0, wait_s=0.05, max_share=1e9)
    assert cache.get_current().value == 1
    started_at = time.monotonic()
    assert cache.get_current().value == 1
    assert 0.04 < time.monotonic() - started_at < 1
    slow.set()
    cache._refreshing and cache._refreshing.wait(5)
    assert cache.get_current().value in (2, 3)


def test_reading_takes_a_share_of_the_time_at_most() -> None:
    reads, read = _make_counting_read(0.05)
    cache = SnapshotCache("figures", read, interval_s=0.0, max_share=0.1)
    cache.get_current()
    cache.get_current()
    assert len(reads) == 1


def test_tenants_with_few_jobs_are_summed(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {(f"t{n}", "queued"): n + 1 for n in range(5)}
    monkeypatch.setattr(monitoring, "MAX_NAMED_TENANTS", 2)
    assert monitoring._sum_small_tenants(counts) == {
        ("t4", "queued"): 5,
        ("t3", "queued"): 4,
        ("other", "queued"): 6,
    }
