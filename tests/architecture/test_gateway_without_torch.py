"""The gateway starts and answers where torch cannot be imported at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import TIMEOUT_S

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys

class Blocker:
    banned = {"torch", "torchvision", "numpy", "safetensors", "torchmetrics"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.banned or name.startswith(("shared.ml", "workers")):
            raise ImportError(f"{name} is blocked")
        return None

sys.meta_path.insert(0, Blocker())

import services.admin, services.cli.main, services.client, services.gateway.__main__, services.reconciler
import services.pod_costs.__main__
from pathlib import Path
from tests.support.gateway import AUDIT, GatewayInProcess
import services.gateway.asgi

gateway = GatewayInProcess(Path(sys.argv[1]))
job = gateway.post()
assert gateway.http.post("/v1/audits", json=AUDIT).status_code == 202
worker = gateway.make_worker()
worker.finish_all()
shown = gateway.http.get(f"/v1/jobs/{job['id']}").get_json()
artifact = gateway.http.get(shown["artifacts"]["BASE"]["url"])
assert artifact.status_code == 200, artifact.get_data()
assert gateway.http.get("/openapi/openapi.json").status_code == 200
heavy = sorted(m for m in sys.modules if m.split(".")[0] in Blocker.banned or m.startswith(("shared.ml", "workers")))
assert not heavy, heavy
print("answered without torch")
"""


def test_the_gateway_answers_with_torch_blocked(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "answered without torch" in done.stdout
