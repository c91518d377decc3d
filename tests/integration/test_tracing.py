"""OpenTelemetry: one trace per audit, from its submission over all its attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import tracing
from tests.support.gateway import AUDIT, GatewayInProcess
from tests.support.sleep_jobs import make_params
from tests.support.system import System
from tests.support.trace_collector import TraceCollector, run_collector
from tests.support.waiting import TIMEOUT_S, wait_for
from workers.attempt_spans import record_attempt


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with run_collector() as listening:
        yield listening


@pytest.fixture
def traced(
    collector: TraceCollector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[GatewayInProcess]:
    """A gateway whose process sends traces to the collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing._find_processor.cache_clear()
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()
    processor = tracing._find_processor()
    assert processor is not None
    processor.shutdown()
    tracing._find_processor.cache_clear()


def flush() -> None:
    processor = tracing._find_processor()
    assert processor is not None
    processor.force_flush(int(TIMEOUT_S * 1000))


def test_a_submission_and_its_attempts_are_one_trace(
    traced: GatewayInProcess, collector: TraceCollector
) -> None:
    audit = traced.http.post("/v1/audits", json=AUDIT).get_json()["id"]
    worker = traced.make_worker()
    claim = worker.claim()
    record_attempt(claim, "succeeded", 2.5, "w1")
    record_attempt(claim, "failed: error: a cell value of the user's", 0.5, "w1")
    flush()
    (first,) = [span for span in collector.spans if span.name == "submit"]
    assert first.parent == ""
    others = [span for span in collector.spans if span is not first]
    assert {span.trace for span in others} == {first.trace}
    assert {span.parent for span in others} == {first.id}
    assert len({span.id for span in collector.spans}) == len(collector.spans)
    runs = [span for span in others if span.name == "pretrain"]
    assert [(span.seconds, span.is_error) for span in runs] == [(2.5, False), (0.5, True)]
    assert runs[0].attributes["palimpsest.audit"] == audit
    assert runs[0].attributes["palimpsest.job"] == claim.job.id
    assert "queue pretrain" in collector.list_names()
    assert "cell value" not in repr(collector.spans)


def test_a_repeated_submission_is_no_second_beginning(
    traced: GatewayInProcess, collector: TraceCollector
) -> None:
    for _ in range(2):
        traced.http.post("/v1/audits", json=AUDIT, headers={"Idempotency-Key": "one"})
    traced.post()
    flush()
    assert collector.list_names() == ["submit", "submit"]
    assert len({span.trace for span in collector.spans}) == 2


def test_a_collector_that_is_away_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing._find_processor.cache_clear()
    gateway = GatewayInProcess(tmp_path)
    assert gateway.post()["state"] == "queued"
    gateway.close()
    tracing._find_processor.cache_clear()


@pytest.mark.slow
def test_a_worker_sends_its_attempts(
    collector: TraceCollector, make_system: Callable[..., System], sleep_tree: Path
) -> None:
    system = make_system(
        sleep_tree, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100"
    )
    system.start_worker("sleep")
    job = system.submit("sleep", make_params(system, "traced", steps=1))
    wait_for(lambda: "sleep" in collector.list_names(), TIMEOUT_S, "the attempt's span arrives")
    (span,) = [span for span in collector.spans if span.name == "sleep"]
    assert span.attributes["palimpsest.job"] == job
    assert span.attributes["palimpsest.outcome"] == "succeeded"


@pytest.mark.parametrize("endpoint", [None, "", "http://127.0.0.1:1"])
def test_without_endpoint_or_package_nothing_is_recorded(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    if endpoint is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setattr(tracing.importlib.util, "find_spec", lambda _name: None)
    tracing._find_processor.cache_clear()
    assert tracing._find_processor() is None
    tracing._find_processor.cache_clear()
