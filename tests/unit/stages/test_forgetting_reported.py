"""From an audit to its report: every release is compared with retraining, and a lazy one is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from tests.golden.planned_jobs import identify, real_catalog
from tests.support.local_plan import run_planned
from tests.support.tiny_chain import DATA, MODEL
from workers.context import StageOutput

AUDIT: dict[str, Any] = {
    "dataset": DATA,
    "model": MODEL,
    "pretrain": {"epochs": 1},
    "train": {"size": 20, "lr": 0.3, "batch_size": 4, "epochs": 10},
    "forget": {"deletions": 6},
    # one step so small that nothing is unlearned
    "unlearning": ["retrain", {"name": "gradient_ascent", "params": {"lr": 1e-9}}],
    "attacks": ["label_inference_black_box"],
    "probe": {"max_queries": 200, "resolution": 3},
    "evaluate": {"decoys": 5},
}


def run_audit(*skipped: str) -> dict[str, StageOutput]:
    """The outputs of the report job."""
    jobs = plan(AuditSpec.model_validate(AUDIT), real_catalog(), identify)
    outputs = run_planned(jobs, {"selftest", *skipped})
    (report,) = [job for job in jobs if job.stage == "report"]
    return outputs[report.request_key]


@pytest.mark.slow
def test_the_report_tells_what_was_forgotten() -> None:
    made = run_audit()
    report = json.loads(made["REPORT"].data)
    by_method = {row["unlearning"]["method"]: row["forgetting"] for row in report["rows"]}
    assert by_method["retrain"]["way"] == pytest.approx(1, abs=0.2)
    assert by_method["gradient_ascent"]["way"] == pytest.approx(0, abs=0.01)
    assert by_method["gradient_ascent"]["tests"]["three_sample"]["not_forgotten"] is True
    assert by_method["retrain"]["tests"]["three_sample"]["not_forgotten"] is False
    page = made["REPORT_HTML"].data.decode()
    table = page[page.index('id="forgotten"') :]
    assert table.index("gradient_ascent") < table.index("retrain, no defense")
    leaks = [row["unlearning"]["method"] for row in report["rows"] if row["finding"]["outcome"] == "leak"]  # fmt: skip
    if "gradient_ascent" not in leaks:  # a measured leak stays a leak
        assert "nothing was unlearned" in report["verdict"]["headline"]
        assert "Nothing was unlearned by gradient_ascent" in report["verdict"]["details"][0]


@pytest.mark.slow
def test_a_comparison_that_failed_is_missing() -> None:
    report = json.loads(run_audit("retraining", "forgetting")["REPORT"].data)
    assert len(report["missing"]) == 2
    assert all("have forgotten was not measured" in one["reason"] for one in report["missing"])
    assert all(row["forgetting"] is None for row in report["rows"])
