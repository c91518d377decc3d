"""A plugin is one file: dropped in, it is in the catalog, validated, run and contract-tested. A
broken one stops the worker with its name."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.jobs import worker_registry
from shared.jobs.database import Database
from tests.support.local_serve import make_clean_env
from tests.support.source_tree import ROOT, copy_tree
from tests.support.system import TOKEN, System
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow

HALFWAY = '''
"""Half of a gradient ascent step: a plugin that only this test knows."""

import torch
from pydantic import Field

from shared.ml.unlearning.gradient_ascent import GradientAscentParams, unlearn as ascend
from shared.ml.unlearning import registry


class HalfwayParams(GradientAscentParams):
    share: float = Field(0.5, gt=0, le=1, description="share of the step that is taken")


@registry.register("halfway", params=HalfwayParams, needs=("ORIGINAL",), source="this test", exact=False)
def unlearn(inputs, retain, forget, params, ctx):
    """Go a share of the way of gradient ascent."""
    before = {n: p.detach().clone() for n, p in inputs.original.named_parameters()}
    model = ascend(inputs, retain, forget, params, ctx)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(before[name] + params.share * (p - before[name]))
    return model
'''
FILE = "shared/ml/unlearning/halfway.py"
STAGES = "pretrain,train,unlearn"


def test_a_new_unlearning_method_is_one_dropped_file(
    make_system: Callable[..., System], tmp_path: Path
) -> None:
    tree = copy_tree(tmp_path / "tree", {FILE: HALFWAY})
    system = make_system(tree)
    system.start_worker(STAGES, name="all")
    system.start_reconciler()
    with httpx.Client(
        base_url=system.start_gateway(),
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=TIMEOUT_S,
    ) as api:
        entry = next(
            e
            for e in api.get("/v1/catalog").json()["kinds"]["unlearning"]
            if e["name"] == "halfway"
        )
        assert entry["summary"] == "Go a share of the way of gradient ascent."

        def post(**body: object) -> httpx.Response:
            return api.post("/v1/jobs", json=body)

        base = post(
            stage="pretrain", params={"dataset": "mnist_5k", "model": "mlp", "epochs": 1}
        ).json()["id"]
        trained = post(stage="train", params={"dataset": "mnist_5k"}, inputs={"BASE": base}).json()[
            "id"
        ]
        unlearning = {
            "stage": "unlearn", "method": "halfway", "inputs": {"ORIGINAL": trained, "TRAINING_SET": trained},
        }  # fmt: skip
        refused = post(**unlearning, params={"share": 1.5, "deletions": 2})
        assert refused.status_code == 422
        assert refused.json()["field"] == "params.share"
        job = post(**unlearning, params={"share": 0.25, "deletions": 2}).json()["id"]
        whole = post(**{**unlearning, "method": "gradient_ascent"}, params={"deletions": 2}).json()[
            "id"
        ]
        done = [system.wait(j) for j in (job, whole)]
        assert [j.state for j in done] == ["succeeded", "succeeded"]
        weights = [next(a.sha256 for a in j.artifacts if a.role == "UNLEARNED") for j in done]
        assert weights[0] != weights[1]


def test_the_dropped_file_is_contract_tested(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree", {FILE: HALFWAY})
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/contract",
        "-q",
        "-k",
        "halfway",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command,
        cwd=tree,
        env=make_clean_env(PYTHONPATH=str(tree)),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_a_plugin_that_does_not_import_stops_the_worker_with_its_name(
    make_system: Callable[..., System], tmp_path: Path
) -> None:
    tree = copy_tree(
        tmp_path / "tree", {"shared/ml/unlearning/broken.py": "import a_module_that_is_not_there\n"}
    )
    system = make_system(tree)
    worker = system.start_worker("attack", name="broken", timeout_s=0)
    assert worker.wait(timeout=TIMEOUT_S) == 1
    assert "shared/ml/unlearning/broken.py cannot be imported" in system.read_log("broken")
    assert not system.load_catalog().plugins


def test_a_worker_that_is_stopped_does_not_wait_for_what_it_still_imports(
    make_system: Callable[..., System], tmp_path: Path
) -> None:
    """A pool child that has not registered has no job."""
    slow = f"import time, pathlib\npathlib.Path({str(tmp_path / 'began')!r}).touch()\ntime.sleep(300)\n"
    system = make_system(copy_tree(tmp_path / "tree", {"shared/ml/unlearning/slow.py": slow}))
    worker = system.start_worker("attack", name="slow", timeout_s=0)
    wait_for((tmp_path / "began").exists, TIMEOUT_S, "the pool child imports the plugins")
    worker.terminate()
    assert worker.wait(timeout=TIMEOUT_S) == 0


def test_serve_does_not_begin_with_a_plugin_that_does_not_import(tmp_path: Path) -> None:
    tree = copy_tree(
        tmp_path / "tree", {"shared/ml/unlearning/broken.py": "import a_module_that_is_not_there\n"}
    )
    command = [sys.executable, "-m", "deploy.local.serve"]
    env = make_clean_env(PYTHONPATH=str(tree))
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert "shared/ml/unlearning/broken.py cannot be imported" in said
    assert not (tmp_path / ".palimpsest/run/supervisord.pid").exists()


@pytest.mark.long
def test_serve_publishes_the_catalog_of_its_code_before_its_gateway_answers(tmp_path: Path) -> None:
    database = tmp_path / ".palimpsest/palimpsest.db"
    plain, more = copy_tree(tmp_path / "plain", {}), copy_tree(tmp_path / "more", {FILE: HALFWAY})
    counts = []
    for tree in (plain, more):  # the second time what the first code published is in the store
        command = [
            sys.executable,
            "-m",
            "deploy.local.serve",
            "--workers",
            "train=0",
            "unlearn=0",
            "attack=0",
            "evaluate=0",
        ]
        with (tmp_path / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env=make_clean_env(PYTHONPATH=str(tree)),
                stdout=log,
                stderr=log,
            )
        up = tmp_path / ".palimpsest/serve.json"
        wait_for(
            lambda up=up, process=process: up.exists() or process.poll() is not None,
            TIMEOUT_S,
            "serve is up",
        )
        db = Database(f"sqlite:///{database}")
        counts.append(len(worker_registry.load_catalog(db).plugins))
        db.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=TIMEOUT_S) == 0
    assert counts[1] == counts[0] + 1
