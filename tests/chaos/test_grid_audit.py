"""An audit of 4 unlearning methods x 3 defenses x 3 attacks x 2 seeds: shared jobs once, a killed
worker is no loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.system import TOKEN, System
from tests.support.tiny_chain import DATA, MODEL, write_data
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]  # each wait has its own limit

STAGES = (
    "pretrain,train,unlearn,defend,retraining,probe,attack,shadow,evaluate,forgetting,report,"
    "selftest"
)
AUDIT: dict[str, Any] = {
    "name": "a grid",
    "dataset": DATA,
    "model": MODEL,
    "pretrain": {"epochs": 1},
    "train": {"size": 12},
    "forget": {"deletions": 3},
    "unlearning": ["retrain", "gradient_ascent", "fine_tune", "sisa"],
    "defenses": ["none", {"name": "pruning", "params": {"share": 0.3}}, "dp_sgd"],
    "attacks": [
        {"name": "feature_recovery", "params": {"iterations": 30}},
        "label_inference",
        "label_inference_black_box",
    ],
    "probe": {"max_queries": 500, "resolution": 3},
    "evaluate": {"decoys": 5},
    "seeds": [0, 1],
}
# With shards or without, in private or not: four trainings a seed, and as many retrainings. A
# method under dp_sgd unlearns for itself. Probes are of each training's original. An evaluation an
# attack, and one of each release's use.
ONCE = {
    "pretrain": 1, "train": 2 * 4, "unlearn": 2 * 4 * 2, "defend": 2 * 4 * 3, "probe": 2 * 4, "attack": 2 * 4 * 3 * 3,
    "evaluate": 2 * 4 * 3 * 3 + 2 * 4 * 3, "report": 1, "selftest": 1,
    "retraining": 2 * 4, "forgetting": 2 * 4 * 3,
}  # fmt: skip


def test_shared_jobs_run_once_and_a_killed_worker_costs_nothing(
    make_system: Callable[..., System],
) -> None:
    system = make_system()
    data = system.home / "data"
    data.mkdir()
    write_data(data)
    system.env["PALIMPSEST_DATA_ROOT"] = str(data)
    url = system.start_gateway()
    http = httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=TIMEOUT_S
    )
    system.start_reconciler()
    for name in ("one", "other"):
        system.start_worker(STAGES, name=name)
    answer = http.post("/v1/audits", json=AUDIT)
    assert answer.status_code == 202, answer.text
    audit = answer.json()["id"]

    def states() -> Counter[tuple[str, str]]:
        told = http.get(f"/v1/audits/{audit}").json()["stages"]
        return Counter({(stage, state): n for stage, by in told.items() for state, n in by.items()})

    wait_for(lambda: states()["attack", "succeeded"] >= 5, 4 * TIMEOUT_S, "some attacks are done")
    system.kill("one", group=True)
    system.start_worker(STAGES, name="third", timeout_s=0)
    ended = wait_for(
        lambda: (
            (a := http.get(f"/v1/audits/{audit}").json())["state"] not in ("queued", "running")
            and a
        ),
        4 * TIMEOUT_S,
        "the audit ends",
    )
    jobs = everything(http, audit)
    assert ended["state"] == "succeeded", [j for j in jobs if j["state"] != "succeeded"][:3]
    assert Counter(j["stage"] for j in jobs) == ONCE
    ends = Counter(
        state for j in jobs for state in system.list_transitions(j["id"]) if state == "succeeded"
    )
    assert ends["succeeded"] == sum(ONCE.values())  # none was done twice
    # what the killed worker held, if anything, was started over
    assert sum(j["lost_count"] for j in jobs) <= 1

    (report,) = (j for j in jobs if j["stage"] == "report")
    told = json.loads(http.get(f"/v1/artifacts/{report['artifacts']['REPORT']['sha256']}").content)
    assert (len(told["rows"]), told["missing"]) == (ONCE["attack"], [])
    cells = {
        (r["unlearning"]["method"], r["defense"]["method"], r["attack"]["method"], r["seed"])
        for r in told["rows"]
    }
    assert len(cells) == 4 * 3 * 3 * 2


def everything(http: httpx.Client, audit: str) -> list[dict[str, Any]]:
    """All jobs of an audit, page after page."""
    found: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        params = {"audit": audit, "limit": 200} | ({"page": page} if page else {})
        body = http.get("/v1/jobs", params=params).json()
        found += body["items"]
        if not (page := body["next"]):
            return found
