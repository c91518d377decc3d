"""The board, the alerts and the scrape configuration fit what a gateway's /metrics returns."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from services.gateway.auth import METRICS_PATH
from shared.jobs import worker_registry
from shared.jobs.outbox_reader import process_outbox
from tests.support.gateway import GatewayInProcess
from tests.support.metrics import Metrics, parse_metrics
from tests.support.source_tree import ROOT

FOLDER = ROOT / "deploy/monitoring"
BOARD = json.loads((FOLDER / "grafana-board.json").read_text())
ALERTS = YAML(typ="safe").load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    *(pytest.param(t["expr"], id=p["title"]) for p in PANELS for t in p["targets"]),
    *(pytest.param(alert["expr"], id=alert["alert"]) for alert in ALERTS),
]
PROMETHEUS_OWN = {"up": {"job"}}
ADDED = {"job", "instance", "le"}  # labels that Prometheus, or a histogram, adds


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metrics]:
    """Of a gateway for which everything has happened that is counted."""
    gateway = GatewayInProcess(tmp_path_factory.mktemp("gateway"), metrics_interval_s=0.001)
    for n in range(3):
        gateway.post({"stage": "sleep", "seed": n})
    worker = gateway.make_worker()
    worker.finish(worker.claim())
    worker.fail(worker.claim())
    worker_registry.record_heartbeat(gateway.db, worker.name, memory_bytes=1, device_memory_bytes=1)
    worker_registry.record_service_heartbeat(gateway.db, "reconciler")
    process_outbox(gateway.db)
    yield parse_metrics(gateway.http.get(METRICS_PATH).get_data(as_text=True))
    gateway.close()


def _walk(node: Any) -> Iterator[Any]:
    """A PromQL expression and all of its parts."""
    yield node
    for name in ("lhs", "rhs", "expr", "args", "param", "vector_selector"):
        parts = getattr(node, name, None)
        for part in parts if isinstance(parts, list) else [parts]:
            if type(part).__module__ == type(node).__module__ and part is not None:
                yield from _walk(part)


def _parse(expression: str) -> list[Any]:
    return list(_walk(promql_parser.parse(expression.replace("$stage", ".*"))))


def _list_labels(metrics: Metrics, name: str) -> set[str]:
    if name in PROMETHEUS_OWN:
        return PROMETHEUS_OWN[name] | ADDED
    of_samples = [{n for n, _ in labels} for sample, labels in metrics.samples if sample == name]
    assert of_samples, f"/metrics has no {name}"
    return set.union(*of_samples) | ADDED


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_what_there_is(metrics: Metrics, expression: str) -> None:
    nodes = _parse(expression)
    selectors = [n for n in nodes if type(n).__name__ == "VectorSelector"]
    assert selectors
    known = set()
    for selector in selectors:
        labels = _list_labels(metrics, selector.name)
        asked = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", str(selector)))
        assert asked <= labels, f"{selector.name} has no label {asked - labels}"
        known |= labels
    grouped = re.findall(r"(?:by|on|without|ignoring) ?\(([\w, ]+)\)", expression)
    for label in (label.strip() for group in grouped for label in group.split(",")):
        assert label in known, f"nothing in {expression} has a label {label}"


def test_what_is_asked_for_is_checked(metrics: Metrics) -> None:
    with pytest.raises(AssertionError, match="has no palimpsest_jbos"):
        test_every_expression_asks_for_what_there_is(metrics, "sum(palimpsest_jbos)")
    with pytest.raises(AssertionError, match="has no label"):
        test_every_expression_asks_for_what_there_is(metrics, 'palimpsest_jobs{stat="x"}')
    with pytest.raises(AssertionError, match="has a label stagee"):
        test_every_expression_asks_for_what_there_is(metrics, "sum by (stagee) (palimpsest_jobs)")
    with pytest.raises(ValueError, match=r"."):
        _parse("sum by (stage palimpsest_jobs")


def test_every_metric_is_named_by_the_conventions(metrics: Metrics) -> None:
    for name in metrics.names:
        assert re.fullmatch(r"palimpsest_[a-z_]+", name), name
        assert not re.search(r"_(ms|milliseconds|minutes|mb|kb|percent)(_|$)", name), name


def test_nearly_every_metric_is_shown(metrics: Metrics) -> None:
    shown = " ".join(str(param.values[0]) for param in EXPRESSIONS)
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in metrics.names}
    unseen = {name for name in families if not re.search(rf"{name}(_|\b)", shown)}
    assert unseen == {
        "palimpsest_artifacts",
        "palimpsest_build_info",
        "palimpsest_inventory_age_seconds",
        "palimpsest_snapshot_read_seconds",
        "palimpsest_tenant_jobs_finished",
    }


def test_every_alert_says_what_to_do() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS) >= 10
    for alert in ALERTS:
        notes = alert["annotations"]
        page, _, anchor = notes["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in anchors, f"{alert['alert']}: no heading #{anchor}"
        assert f"`{alert['alert']}`" in text
        assert len(notes["runbook"]) > 20
        assert alert["labels"]["severity"] in ("critical", "warning")
        for label in re.findall(r"\$labels\.(\w+)", notes["description"]):
            assert label in alert["expr"] or label in ("store", "worker", "stage")


def test_the_board_lets_its_user_choose_the_source() -> None:
    variables = {v["name"]: v for v in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in PANELS:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_boards_panels_have_places_of_their_own() -> None:
    """What Grafana's schema would say of it (version 39): there is none to be had offline."""
    assert BOARD["schemaVersion"] == 39
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place.keys() == {"h", "w", "x", "y"}
        assert place["x"] + place["w"] <= 24
    for one, other in itertools.combinations(BOARD["panels"], 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']} covers {other['title']}"
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat")
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) >= 1


def test_the_scrape_configuration_asks_the_right_path() -> None:
    config = YAML(typ="safe").load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == METRICS_PATH
    assert job["job_name"] == "palimpsest"  # as the alert on `up` has it
    assert config["rule_files"] == ["alerts.yml"]
    assert "credentials_file" in job["authorization"]  # no secret in the file


def test_no_secret_is_in_the_files() -> None:
    for path in FOLDER.iterdir():
        assert not re.search(r"whsec_|Bearer |password", Path(path).read_text())
