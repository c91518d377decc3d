"""`--dry-run` of two hundred data sets of strangers: planned by the digests of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.jobs import queries, worker_registry
from tests.golden.planned_jobs import real_catalog
from tests.support.gateway import TENANT, GatewayInProcess
from tests.support.strangers import Stranger, settle

pytestmark = pytest.mark.slow


def audit_of(stranger: Stranger) -> dict[str, object]:
    model = "mlp" if stranger.name == "csv" else "convnet"
    dataset = {"name": stranger.name, "params": stranger.params}
    return {
        "dataset": dataset,
        "model": model,
        "unlearning": ["retrain"],
        "attacks": ["label_inference"],
    }


def test_a_dry_run_plans_what_is_there_and_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    strangers = settle(tmp_path / "data")
    gateway = GatewayInProcess(tmp_path, publish=False, data_root=tmp_path / "data")
    worker_registry.publish_catalog(gateway.db, real_catalog())
    for stranger in strangers:
        answer = gateway.http.post("/v1/audits?dry_run=true", json=audit_of(stranger))
        # what is wrong with contents, workers find: nothing of a file is parsed here
        assert answer.status_code == 200, (stranger.what, answer.get_json())
        assert str(tmp_path) not in answer.get_data(as_text=True)
        gone = {**stranger.params, "path": f"no-{stranger.params['path']}"}
        spec = {**audit_of(stranger), "dataset": {"name": stranger.name, "params": gone}}
        answer = gateway.http.post("/v1/audits?dry_run=true", json=spec)
        assert (answer.status_code, answer.get_json()["field"]) == (422, "dataset.params.path")
        assert gone["path"] in answer.get_json()["detail"]
        assert str(tmp_path) not in answer.get_data(as_text=True)
    assert queries.list_jobs(gateway.db, TENANT, limit=1).items == []
    named = strangers[0]
    for forget, field in (({"files": ["a.png"]}, "forget.files"), ({"class": 12}, "forget.class")):
        answer = gateway.http.post(
            "/v1/audits?dry_run=true", json={**audit_of(named), "forget": forget}
        )
        assert (answer.status_code, answer.get_json()["field"]) == (422, field)
    body = {**audit_of(named), "forget": {"rows": [3, 7]}}
    assert gateway.http.post("/v1/audits?dry_run=true", json=body).status_code == 200
    gateway.close()
