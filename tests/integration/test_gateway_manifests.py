"""GET /v1/audits/{id}/manifest."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from services.signing import create_key
from shared import VERSION
from tests.support.gateway import AUDIT, AUDIT_JOB_COUNT, GatewayInProcess
from tests.support.yaml_text import load_yaml


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    create_key(tmp_path / "key")
    made = GatewayInProcess(tmp_path, signing_key=tmp_path / "key")
    yield made
    made.close()


def post_audit(gateway: GatewayInProcess, **changes: Any) -> str:
    return str(gateway.http.post("/v1/audits", json=AUDIT | changes).get_json()["id"])


def get_envelope(gateway: GatewayInProcess, audit: str) -> dict[str, Any]:
    answer = gateway.http.get(f"/v1/audits/{audit}/manifest")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return dict(answer.get_json())


def read_statement(envelope: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(envelope["payload"])))


def test_it_names_all_that_the_report_was_made_from(gateway, tmp_path):
    audit = post_audit(gateway)
    gateway.make_worker().finish_all()
    envelope = get_envelope(gateway, audit)
    payload = base64.b64decode(envelope["payload"])
    load_pem_public_key((tmp_path / "key.pub").read_bytes()).verify(
        base64.b64decode(envelope["signatures"][0]["sig"]),
        b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload),
    )
    jobs = gateway.http.get(f"/v1/jobs?audit={audit}&limit=200").get_json()["items"]
    statement = read_statement(envelope)
    (report,) = (job for job in jobs if job["stage"] == "report")
    assert statement["subject"] == [
        {"name": "report.json", "digest": {"sha256": report["artifacts"]["REPORT"]["sha256"]}}
    ]
    manifest = statement["predicate"]
    assert (manifest["audit"]["id"], manifest["palimpsest"]) == (audit, VERSION)
    assert manifest["report"] == {"job": report["id"], "finished_at": report["finished_at"]}
    spec = load_yaml(manifest["audit"]["yaml"])
    assert (spec["name"], spec["unlearning"], spec["seeds"]) == (
        "two methods", ["ascent", "retrain"], [0, 1],
    )  # fmt: skip
    listed = {job["id"]: job for job in manifest["jobs"]}
    assert len(listed) == AUDIT_JOB_COUNT
    for job in jobs:
        for name in ("stage", "method", "params", "seed", "inputs", "code", "data", "state"):
            assert listed[job["id"]][name] == job[name]
        assert listed[job["id"]]["artifacts"] == {
            role: artifact["sha256"] for role, artifact in job["artifacts"].items()
        }
    models = {(one["role"], one["job"]): one["sha256"] for one in manifest["models"]}
    assert models == {
        (role, job["id"]): artifact["sha256"]
        for job in jobs
        for role, artifact in job["artifacts"].items()
        if role in ("BASE", "ORIGINAL", "UNLEARNED", "RELEASED")
    }
    assert {one["role"] for one in manifest["data"]["sets"]} == {"TRAINING_SET", "FORGET_SETS"}


def test_the_same_report_has_the_same_manifest(gateway):
    audit = post_audit(gateway)
    gateway.make_worker().finish_all()
    first = gateway.http.get(f"/v1/audits/{audit}/manifest")
    again = gateway.http.get(
        f"/v1/audits/{audit}/manifest", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert again.status_code == 304
    other = post_audit(gateway, name="the same jobs")
    gateway.make_worker().finish_all()
    one, two = (read_statement(get_envelope(gateway, a))["predicate"] for a in (audit, other))
    assert (one["audit"]["id"], two["audit"]["id"]) == (audit, other)
    assert one["models"] == two["models"]


def test_before_there_is_a_report(gateway):
    audit = post_audit(gateway)
    answer = gateway.http.get(f"/v1/audits/{audit}/manifest")
    assert answer.status_code == 409
    assert "has no report yet" in answer.get_json()["detail"]
    for unknown in ("aud_" + "0" * 20, "aud_1"):
        assert gateway.http.get(f"/v1/audits/{unknown}/manifest").status_code == 404


def test_a_gateway_without_a_key_signs_nothing(tmp_path):
    gateway = GatewayInProcess(tmp_path)
    audit = post_audit(gateway)
    gateway.make_worker().finish_all()
    envelope = get_envelope(gateway, audit)
    assert envelope["signatures"] == []
    assert read_statement(envelope)["predicate"]["audit"]["id"] == audit
    gateway.close()
