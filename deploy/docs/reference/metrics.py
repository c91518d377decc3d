"""Every metric of /metrics, and every alert."""

from __future__ import annotations

from prometheus_client.core import Metric
from ruamel.yaml import YAML

from deploy.docs.markdown import escape_text, write_block, write_code, write_table
from deploy.docs.repository import ROOT
from services.gateway.monitoring.families import Figures, make_families
from shared.jobs.monitoring import Inventory, StageQueues, StoreFigures

_ALERTS = "deploy/monitoring/alerts.yml"
_TEXT = f"""# Metrics and alerts

`GET /metrics` has all metrics in the formats of Prometheus and OpenMetrics.
[Operations](../operations.md#metrics-and-logs) says how to scrape it and how old the figures are.

## Metrics

{{metrics}}
## Alerts

The rules are in [{_ALERTS}](../../{_ALERTS}). What to do about each:
[operations](../operations.md#alerts).

{{alerts}}"""


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    rows = [
        (
            write_code(_name_samples(metric)),
            metric.type,
            ", ".join(map(write_code, _list_labels(metric))),
            escape_text(metric.documentation),
        )
        for metric in make_families(_make_nothing())
    ]
    metrics = write_table(("metric", "type", "labels", "meaning"), rows)
    return {"metrics.md": _TEXT.format(metrics=metrics, alerts="\n".join(_write_alerts()))}


def _make_nothing() -> Figures:
    """The figures of a system in which nothing has happened."""
    store = StoreFigures(StageQueues({}, {}), (), {}, 0, 0, {})
    return Figures(store, 0.0, 0.0, Inventory({}, {}), 0.0, {})


def _name_samples(metric: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    return f"{metric.name}{suffix}"


def _list_labels(metric: Metric) -> tuple[str, ...]:
    if metric.type == "info":
        return ("version",)
    return tuple(getattr(metric, "_labelnames", ()))


def _write_alerts() -> list[str]:
    groups = YAML(typ="safe").load((ROOT / _ALERTS).read_text())["groups"]
    return [
        f"### {rule['alert']}\n\n"
        f"{rule['annotations']['summary']} ({rule['labels']['severity']}, after {rule['for']}). "
        f"[What to do](../../{rule['annotations']['runbook_url']}).\n\n"
        + write_block(rule["expr"], "text")
        for group in groups
        for rule in group["rules"]
    ]
