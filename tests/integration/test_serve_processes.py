"""One machine: what `make serve` starts, stops and replaces, its ports, and one more worker."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.local_serve import make_clean_env, run_serve
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow


def post(api: httpx.Client, stage: str, inputs: dict[str, str] | None = None, **more: Any) -> str:
    answer = api.post("/v1/jobs", json={"stage": stage, "inputs": inputs or {}, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_second_attack_worker_takes_work_while_the_first_one_has_some(
    api: httpx.Client, folder: Path
) -> None:
    data = {"dataset": "mnist_5k"}
    base = post(api, "pretrain", params={**data, "model": "mlp", "epochs": 1})
    trained = post(api, "train", {"BASE": base}, params=data)
    unlearned = post(
        api,
        "unlearn",
        {"ORIGINAL": trained, "TRAINING_SET": trained},
        method="gradient_ascent",
        params={"deletions": 2},
    )
    inputs = {"ORIGINAL": trained, "UNLEARNED": unlearned, "LABELS": unlearned}
    attacks = [
        post(
            api,
            "attack",
            inputs,
            method="feature_recovery",
            seed=seed,
            params={"iterations": 100_000, "restarts": 64},
        )
        for seed in (0, 1)
    ]
    first = wait_for(
        lambda: next(
            (j for a in attacks if (j := api.get(f"/v1/jobs/{a}").json())["state"] == "running"),
            None,
        ),
        TIMEOUT_S,
        "an attack runs",
    )
    assert [api.get(f"/v1/jobs/{a}").json()["state"] for a in attacks].count("queued") == 1
    worker = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.worker", "attack"], cwd=folder, env=make_clean_env()
    )
    try:
        other = next(a for a in attacks if a != first["id"])
        second = wait_for(
            lambda: (j := api.get(f"/v1/jobs/{other}").json())["state"] == "running" and j,
            TIMEOUT_S,
            "the other one runs",
        )
        assert second["worker"] != first["worker"]
        assert api.get(f"/v1/jobs/{first['id']}").json()["state"] == "running"
        live = {w["id"]: w["job"] for w in api.get("/v1/workers").json()["items"] if w["live"]}
        assert live[first["worker"]] == first["id"]
        assert live[second["worker"]] == other
        queue = next(q for q in api.get("/v1/queues").json()["items"] if q["stage"] == "attack")
        assert queue["workers"] == 2
        for job in attacks:
            assert api.post(f"/v1/jobs/{job}/cancel").status_code == 202
            wait_for(
                lambda job=job: api.get(f"/v1/jobs/{job}").json()["state"] == "cancelled",
                TIMEOUT_S,
                "cancelled",
            )
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=TIMEOUT_S) == 0


def test_the_doctor_finds_what_is_served_well_and_says_when_nothing_is(
    api: httpx.Client, folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "deploy.local.doctor"]

    def doctor(where: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=where,
            env=make_clean_env(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )

    well = doctor(folder)
    assert well.returncode == 0, well.stdout + well.stderr
    assert "FAIL" not in well.stdout
    for what in ("access", "store", "broker", "artifacts", "workers"):
        assert f"ok   {what}" in well.stdout
    nothing = doctor(tmp_path)
    assert nothing.returncode == 2
    assert "start it with `make serve`" in nothing.stderr


def test_a_second_serve_of_the_folder_is_refused(api: httpx.Client, folder: Path) -> None:
    command = [sys.executable, "-m", "deploy.local.serve"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=make_clean_env(),
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 2
    assert "already running in" in done.stderr
    assert f"at {str(api.base_url).rstrip('/')}: stop it first" in done.stderr


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_any_process_that_dies_comes_back(api: httpx.Client, folder: Path) -> None:
    def named(*words: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(supervisor).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end while it is looked at
                if alive(process) and any(word in c for c in process.cmdline() for word in words):
                    found.append(process)
        return found

    supervisor = int((folder / ".palimpsest/run/supervisord.pid").read_text())
    for words in (
        ("services.gateway",),
        ("services.reconciler",),
        ("valkey-server", "redis-server"),
    ):
        (process,) = named(*words)
        family = process.children(recursive=True)
        process.kill()
        wait_for(
            lambda process=process, words=words: [p for p in named(*words) if p.pid != process.pid],
            TIMEOUT_S,
            f"{words[0]} is back",
        )
        wait_for(
            lambda family=family: not any(map(alive, family)),
            TIMEOUT_S,
            f"nothing of the old {words[0]} is left",
        )

    def answers() -> bool:
        try:
            return api.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, TIMEOUT_S, "the gateway answers again")


def test_a_taken_port_is_told_and_the_preferred_one_is_only_preferred(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "deploy.local.serve", "--port", str(port)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=make_clean_env(),
            capture_output=True,
            check=False,
            text=True,
            timeout=TIMEOUT_S,
        )
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr


@pytest.mark.long
def test_a_killed_serve_leaves_nothing_that_the_next_one_minds(tmp_path: Path) -> None:
    one_worker = ["--workers", "train=0", "unlearn=0", "evaluate=0"]
    command = [sys.executable, "-m", "deploy.local.serve", *one_worker]
    first = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=make_clean_env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pid = tmp_path / ".palimpsest/run/supervisord.pid"
    wait_for(pid.exists, TIMEOUT_S, "the supervisor runs")
    supervisor = psutil.Process(int(pid.read_text()))
    wait_for(lambda: len(supervisor.children()) >= 4, TIMEOUT_S, "it has started everything")
    family = [supervisor, *supervisor.children(recursive=True)]
    first.kill()
    first.wait()
    with run_serve(tmp_path, *one_worker) as at:
        assert httpx.get(f"{at['url']}/livez").status_code == 200
        assert not [p for p in family if alive(p)]
    assert not (tmp_path / ".palimpsest/serve.json").exists()
