"""Requests generated from the gateway's own OpenAPI document: what it answers is what the document
says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import AUDIT, TOKEN, GatewayProcess, serve_gateway

CONFIG = Path(__file__).parents[1] / "support/schemathesis.toml"
SEED = "20240229"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway with work in every state, so that lists have items and links lead somewhere."""
    # that no key is refused for another reason than that it is wrong
    with serve_gateway(tmp_path, PALIMPSEST_MAX_FAILED_KEYS_PER_MINUTE="1000000") as served:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(
            base_url=served.url, headers=headers, trust_env=False, timeout=60
        ) as client:
            worker = served.make_worker()
            client.post("/v1/audits", json=AUDIT)
            worker.finish_all()
            weights = client.post("/v1/artifacts", content=b"weights").json()["sha256"]
            model = {"weights": weights, "model": "mlp", "input_shape": [1, 2, 2], "num_classes": 2}
            client.post("/v1/models", json={"name": "before", **model})
            file = {"name": "own", "params": {"path": f"upload:{weights}"}}
            client.post("/v1/datasets", json={"name": "mine", "dataset": file})
            for _ in range(2):
                worker.finish(worker.claim())
            client.post("/v1/models", json={"name": "late", **model, "num_classes": 3})
            for n in range(4):
                client.post("/v1/jobs", json={"stage": "sleep", "seed": n})
            worker.fail(worker.claim())
            worker.report_progress(worker.claim(), 1, 2)
        yield served


def generate(gateway: GatewayProcess, examples: int, cases: int) -> None:
    """Run Schemathesis, `examples` an operation and phase; it must find nothing in at least `cases`
    requests."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
        f"{gateway.url}/openapi/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
        "--seed", SEED, "--max-examples", str(examples), "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=gateway.folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    sys.stdout.write(said)
    assert done.returncode == 0, said
    generated = re.search(r"(\d+) generated", said.replace(",", ""))
    assert generated, said
    assert int(generated[1]) >= cases, said
    assert "Traceback" not in (gateway.folder / "gateway.log").read_text()


@pytest.mark.slow
def test_a_thousand_requests(gateway: GatewayProcess) -> None:
    generate(gateway, 2, 1000)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_thousand_requests(gateway: GatewayProcess) -> None:
    generate(gateway, 1600, 20_000)
