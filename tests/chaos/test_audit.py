"""A real audit (2 deletions, 100 steps) under faults: it finishes, with the artifacts of an
unbroken run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.system import TOKEN, System
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]  # each wait has its own limit

AUDIT: dict[str, Any] = {
    "name": "two deletions",
    "dataset": "mnist_5k",
    "model": "mlp",
    "pretrain": {"epochs": 1},
    "forget": {"deletions": 2},
    "unlearning": ["gradient_ascent"],
    "attacks": [{"name": "feature_recovery", "params": {"iterations": 100}}],
}
STAGES = "pretrain,train,unlearn,defend,retraining,attack,evaluate,forgetting,report,selftest"


NAMING = ("REPORT", "REPORT_HTML")  # roles of what names its audit


class Api:
    def __init__(self, url: str) -> None:
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=TIMEOUT_S
        )

    def audit(self, **more: Any) -> str:
        answer = self.http.post("/v1/audits", json={**AUDIT, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def jobs(self, audit: str) -> dict[str, dict[str, Any]]:
        """By stage; the evaluation of what was rebuilt apart from that of the models."""
        items = self.http.get("/v1/jobs", params={"audit": audit}).json()["items"]
        return {
            j["stage"] + (" of images" if "RECONSTRUCTION" in j["inputs"] else ""): j for j in items
        }

    def digests(self, audit: str) -> dict[str, str]:
        """Digest of every artifact, by stage and role, once the audit has succeeded; of the report
        without its submission."""
        done = wait_for(
            lambda: (
                (a := self.http.get(f"/v1/audits/{audit}").json())["state"]
                not in ("queued", "running")
                and a
            ),
            TIMEOUT_S,
            "the audit ends",
        )
        assert done["state"] == "succeeded", self.jobs(audit)
        return {
            f"{s}.{role}": self.digest_report(a["sha256"]) if role in NAMING else a["sha256"]
            for s, j in self.jobs(audit).items()
            for role, a in j["artifacts"].items()
        }

    def digest_report(self, sha256: str) -> str:
        """The digest of a report, as data or as a page, without what names its audit."""
        data = self.http.get(f"/v1/artifacts/{sha256}").content
        named = rb"(aud|job)_[0-9a-f]{20}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d"
        anonymous, count = re.subn(named, b"", data)
        assert count >= 2
        return hashlib.sha256(anonymous).hexdigest()


def attack_has_a_checkpoint(system: System, api: Api, audit: str) -> str:
    job = str(
        wait_for(lambda: api.jobs(audit).get("attack"), TIMEOUT_S, "the attack is planned")["id"]
    )
    wait_for(lambda: system.get_job(job).checkpoint, TIMEOUT_S, "the attack has a checkpoint")
    return job


def test_kills_and_a_flushed_redis_change_no_artifact(make_system: Callable[..., System]) -> None:
    # a beat a checkpoint: so that 100 short steps have one to go on from
    system = make_system(PALIMPSEST_CHECKPOINT_INTERVAL_S="0.05")
    api = Api(system.start_gateway())
    system.start_reconciler()
    system.start_worker(STAGES, name="all")
    wanted = api.digests(api.audit())
    assert {k.split(".")[0] for k in wanted} == {*STAGES.split(","), "evaluate of images"}

    killed_child = api.audit(no_cache=True)
    job = attack_has_a_checkpoint(system, api, killed_child)
    child = System.find_child(system.processes["all"])
    assert child is not None
    child.kill()
    assert api.digests(killed_child) == wanted
    assert system.get_job(job).attempt == 2

    killed_worker = api.audit(no_cache=True)
    job = attack_has_a_checkpoint(system, api, killed_worker)
    system.kill("all")
    system.redis.kill()
    system.redis.start()
    system.redis.client.flushall()
    system.start_worker(STAGES, name="all", timeout_s=0)
    assert api.digests(killed_worker) == wanted
    assert system.get_job(job).attempt == 2
    assert system.get_job(job).lost_count == 1


def test_the_same_audit_again_runs_nothing(make_system: Callable[..., System]) -> None:
    system = make_system()
    api = Api(system.start_gateway())
    system.start_reconciler()
    system.start_worker(STAGES, name="all")
    first = api.audit()
    wanted = api.digests(first)
    again = api.audit()
    assert {j["id"] for j in api.jobs(again).values()} == {
        j["id"] for j in api.jobs(first).values()
    }
    assert api.digests(again) == wanted
