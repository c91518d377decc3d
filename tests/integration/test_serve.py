"""One machine: what the README says of `make serve`, line by line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.client import Client
from tests.support.local_serve import make_clean_env
from tests.support.source_tree import ROOT
from tests.support.waiting import TIMEOUT_S
from tests.support.yaml_text import load_yaml

pytestmark = pytest.mark.slow


def block(file: str, word: str) -> str:
    """The one fenced block of shell in a file that has the word in it."""
    (script,) = (
        b for b in re.findall(r"```sh\n(.*?)```", (ROOT / file).read_text(), re.DOTALL) if word in b
    )
    return str(script)


def jobs(api: httpx.Client) -> list[dict[str, Any]]:
    """All jobs there are."""
    return list(api.get("/v1/jobs", params={"limit": 200}).json()["items"])


def run(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=make_clean_env(),
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_curl_lines_of_an_audit(api: httpx.Client, folder: Path) -> None:
    run(block("docs/http.md", "curl"), folder)
    assert "Deleted" in (folder / "report.html").read_text()
    (audit,) = api.get("/v1/audits").json()["items"]
    assert audit["state"] == "succeeded"


def test_every_stage_by_hand_from_the_command_line(api: httpx.Client, folder: Path) -> None:
    run(block("docs/by-hand.md", "palimpsest pretrain"), folder)
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["defense"]["params"]["share"] == 0.3
    assert found["metrics"]["psnr"]["n"] == 4


def test_every_stage_by_hand_with_curl(api: httpx.Client, folder: Path) -> None:
    before = {job["id"] for job in jobs(api)}
    out = run(block("docs/by-hand.md", "curl"), folder)
    made = [job for job in jobs(api) if job["id"] not in before]
    (job,) = (job for job in made if job["stage"] == "evaluate")
    evaluation = api.get(f"/v1/artifacts/{job['artifacts']['EVALUATION']['sha256']}")
    assert out.endswith(evaluation.text)
    evaluation = evaluation.json()
    assert evaluation["metrics"]["psnr"]["n"] == 2
    assert evaluation["threat_model"]["attack"] == "feature_recovery"
    stages = {q["stage"] for q in api.get("/v1/queues").json()["items"]}
    assert stages >= {"pretrain", "train", "unlearn", "attack", "evaluate"}
    assert {j["state"] for j in made} == {"succeeded"}


def test_the_readme_s_cli_lines(api: httpx.Client, folder: Path) -> None:
    script = block("README.md", "palimpsest audit")
    shutil.copytree(ROOT / "examples", folder / "examples", dirs_exist_ok=True)
    out = run(script, folder)
    assert (folder / "quick/report.html").exists()
    assert "succeeded" in out
    assert "attack" in out


def test_the_demo_uses_what_is_served_and_shows_what_leaked(
    api: httpx.Client, folder: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "deploy.local.demo",
        "--audit",
        str(ROOT / "examples/quick.yaml"),
    ]
    env = make_clean_env(COLUMNS="160")
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for word in (
        "gradient_ascent",
        "retrain",
        "feature_recovery",
        "label_inference",
        "psnr",
        "class mean",
    ):
        assert word in done.stdout
    assert "saved .palimpsest/demo/report.html" in done.stderr
    assert api.get("/readyz").status_code == 200


def test_a_quote_is_within_a_factor_of_two_of_what_is_then_measured(
    api: httpx.Client, folder: Path
) -> None:
    """Processor seconds and memory, as the jobs record them: other processes keep both waiting."""
    spec = load_yaml((ROOT / "examples/quick.yaml").read_text())
    connection = json.loads((folder / ".palimpsest/serve.json").read_text())
    with Client(connection["url"], connection["token"]) as client:
        for _ in client.watch(client.submit_audit(spec).id):  # it ran above
            pass
        quote = client.dry_run({**spec, "seeds": [1]}).quote
        assert quote.unknown == 0
        assert {row.basis for row in quote.stages if row.new} == {"equal"}
        audit = client.submit_audit({**spec, "seeds": [1]})
        for _ in client.watch(audit.id):
            pass
        jobs = [client.get_job(job) for job in audit.created]
    costs = [job.raw["cost"] for job in jobs]
    measured = sum(cost["cpu_seconds"] for cost in costs)
    assert measured / 2 < quote.cpu_seconds < measured * 2
    peak = max(cost["memory_bytes"] for cost in costs)
    assert quote.memory_bytes is not None
    assert peak / 2 < quote.memory_bytes < peak * 2
