"""A worker and its GPU: which one it sees, leases and reports, and a chain of jobs on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shared.jobs.device_leases import list_device_leases
from shared.jobs.queries import get_job
from tests.support.tiny_chain import DATA, MODEL, write_data
from tests.support.worker_bench import TENANT, Bench, open_bench
from workers.catalog import get_device_kind
from workers.devices import list_devices

pytestmark = pytest.mark.gpu
cuda_only = pytest.mark.gpu(cuda_only=True)

SHOW = """
import json
from workers.devices import list_devices
print(json.dumps([[d.id, d.kind] for d in list_devices()]))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device) -> Iterator[Bench]:
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(root))
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/palimpsest.db")
    if device.type == "cpu":
        monkeypatch.setattr("workers.runner.list_devices", list)
    with open_bench(tmp_path, root) as opened:
        yield opened


def _show(visible: str) -> list[list[str]]:
    """What a process sees to which only these are visible."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": visible,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    shown: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return shown


def test_a_chain_of_jobs_runs_on_the_device(bench: Bench, device: torch.device) -> None:
    write_data(bench.root)
    bench.train()
    bench.run("attack", "feature_recovery", iterations=20)
    for job in bench.jobs.values():
        cost = get_job(bench.db, TENANT, job.id).cost
        assert cost is not None
        assert bool(cost.device_memory_bytes) == (device.type == "cuda")
    with bench.db.read() as connection:
        ran_on = set(connection.exec_driver_sql("SELECT ran_on FROM jobs").scalars())
    leases = list_device_leases(bench.db, 45)
    if device.type == "cuda":
        assert ran_on == {f"{torch.cuda.get_device_name(0)}, 1 thread"}
        assert [(one.worker, one.id) for one in leases] == [("w1", list_devices()[0].id)]
    else:
        assert (ran_on, leases) == ({"cpu, 1 thread"}, [])


def test_equal_work_is_reused_on_the_same_kind_of_device(bench: Bench) -> None:
    write_data(bench.root)
    first = bench.run("pretrain", dataset=DATA, model=MODEL)
    with bench.db.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET dedup_key = NULL")
    second = bench.run("pretrain", dataset=DATA, model=MODEL)
    assert second.reused_from == first.id


@cuda_only
def test_a_device_has_an_id_of_its_own_and_memory() -> None:
    devices = list_devices()
    assert len({device.id for device in devices}) == len(devices) == torch.cuda.device_count()
    assert all(device.id.startswith(("GPU-", "MIG-")) for device in devices)
    assert all(device.memory_bytes > 1 << 30 for device in devices)
    assert devices[0].kind == get_device_kind()


@cuda_only
def test_visible_devices_are_followed() -> None:
    first = list_devices()[0]
    assert _show("") == []
    assert _show("-1") == []
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        assert _show("0") == [[first.id, first.kind]]
    assert _show(first.id) == [[first.id, first.kind]]
