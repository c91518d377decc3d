"""A data file that is replaced: between two submissions there are new jobs and new results, and a
job that was waiting is refused. Planned as the gateway does it, run as a worker does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.jobs.queries import get_job, list_events
from shared.jobs.records import Job
from tests.support.lpips import FILE, make_random_weights
from tests.support.tiny_chain import DATA, MODEL, write_data
from tests.support.worker_bench import TENANT, Bench, open_bench
from workers.context import JobContext
from workers.runner import BROKEN_DEVICE_STATUS, MachineInfo, Runner
from workers.stages import registry as stages

pytestmark = pytest.mark.slow

FOLDER = {"name": "image_folder", "params": {"path": "faces", "size": 9}}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(root))
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/palimpsest.db")
    with open_bench(tmp_path, root) as opened:
        yield opened


def write_faces(root: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for place in ("a", "b"):
        (root / "faces" / place).mkdir(parents=True, exist_ok=True)
        for n in range(20):
            Image.fromarray(draw.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
                root / f"faces/{place}/{n}.png"
            )


Write = Callable[[Path, int], None]
EACH = pytest.mark.parametrize(
    ("dataset", "write"), [(DATA, write_data), (FOLDER, write_faces)], ids=["file", "folder"]
)


@EACH
def test_what_is_replaced_between_two_submissions_gives_new_results(
    bench: Bench, dataset: Any, write: Write
) -> None:
    def made() -> Job:
        return bench.run("pretrain", dataset=dataset, model=MODEL)

    write(bench.root, 0)
    first = made()
    assert made().id == first.id
    write(bench.root, 1)
    second = made()
    assert second.request_key != first.request_key
    assert second.cache_key != first.cache_key
    assert second.reused_from is None
    assert {a.sha256 for a in second.artifacts}.isdisjoint(a.sha256 for a in first.artifacts)
    write(bench.root, 0)
    assert [a.sha256 for a in made().artifacts] == [a.sha256 for a in first.artifacts]


@EACH
def test_what_is_replaced_while_a_job_waits_is_refused(
    bench: Bench, dataset: Any, write: Write
) -> None:
    write(bench.root, 0)
    waiting = bench.post("pretrain", dataset=dataset, model=MODEL)
    write(bench.root, 1)
    job = bench.end(waiting)
    path = dataset["params"]["path"]
    assert (job.state, job.failure) == ("failed", "invalid")
    assert str(job.message).startswith(
        f"params.dataset.params.path: {path!r} in the data root has changed since the"
    )
    assert "submit it again" in str(job.message)
    assert bench.run("pretrain", dataset=dataset, model=MODEL).id != waiting


def test_what_is_replaced_while_a_job_runs_gives_no_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage = Runner._run_stage

    def replacing(*arguments: Any) -> Any:
        outputs = run_stage(*arguments)
        write_data(bench.root, 1)
        return outputs

    monkeypatch.setattr(Runner, "_run_stage", replacing)
    write_data(bench.root, 0)
    job = bench.end(bench.post("pretrain", dataset=DATA, model=MODEL))
    assert (job.state, job.failure, job.artifacts) == ("failed", "invalid", ())
    assert "'tiny.npz' in the data root has changed since the job was planned" in str(job.message)


def test_a_job_that_reads_what_its_inputs_name_is_refused_too(bench: Bench) -> None:
    """`evaluate` is told by FORGET_SETS which data set to take its public samples from."""
    draw = np.random.default_rng(0)
    arrays = {
        "images": draw.random((200, 9, 9)),
        "labels": np.arange(200) % 4,
        "test_labels": np.arange(40) % 4,
    }
    np.savez(bench.root / "tiny.npz", **arrays, test_images=draw.random((40, 9, 9)))
    bench.train()
    waiting = bench.post("evaluate")
    assert bench.end(waiting).data_digests == bench.jobs["pretrain"].data_digests
    fresh = bench.post("evaluate", decoys=5)
    # the train split is the same
    np.savez(bench.root / "tiny.npz", **arrays, test_images=draw.random((40, 9, 9)))
    job = bench.end(fresh)
    assert (job.state, job.failure) == ("failed", "invalid")
    assert "'tiny.npz' in the data root has changed since the job was planned" in str(job.message)


def write_weights(root: Path, scale: float) -> None:
    from safetensors.torch import save_file

    save_file({name: scale * tensor for name, tensor in make_random_weights().items()}, root / FILE)


def test_replaced_weights_of_lpips_are_noticed_in_the_same_ways(bench: Bench) -> None:
    write_data(bench.root)
    bench.train()
    write_weights(bench.root, 1)
    first = bench.run("evaluate", lpips_weights=FILE)
    waiting = bench.post("evaluate", lpips_weights=FILE, decoys=5)
    write_weights(bench.root, 2)
    second = bench.end(bench.post("evaluate", lpips_weights=FILE))
    assert second.state == "succeeded", second.message
    assert second.request_key != first.request_key
    assert {a.sha256 for a in second.artifacts if a.role == "EVALUATION"} != {
        a.sha256 for a in first.artifacts if a.role == "EVALUATION"
    }
    refused = get_job(bench.db, TENANT, waiting)
    assert (refused.state, refused.failure) == ("failed", "invalid")
    assert str(refused.message).startswith(
        f"params.lpips_weights: {FILE!r} in the data root has changed"
    )


def test_another_cpu_is_another_condition(bench: Bench) -> None:
    """What its vector instructions round, others round otherwise: nothing is reused."""
    write_data(bench.root)
    keys = []
    for cpu in ("DEFAULT", "AVX2", "AVX2"):
        bench.runner.machine = MachineInfo(torch.__version__, "cpu", 1, cpu)
        # as if planned for other code: an equal job is planned again
        with bench.db.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET dedup_key = NULL")
        keys.append(bench.run("pretrain", dataset=DATA, model=MODEL).cache_key)
    assert len(set(keys)) == 2
    assert bench.jobs["pretrain"].reused_from is not None


def test_another_kind_of_device_is_another_condition(bench: Bench) -> None:
    """A result of a GPU never answers for one of a CPU, nor for one of another GPU."""
    write_data(bench.root)
    keys = []
    for kind in ("cpu", "NVIDIA H100", "NVIDIA T4", "NVIDIA H100", "cpu"):
        bench.runner.devices = SimpleNamespace(  # type: ignore[assignment]
            choose=lambda _, kind=kind: (torch.device("cpu"), kind)
        )
        with bench.db.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET dedup_key = NULL")
        keys.append(bench.run("pretrain", dataset=DATA, model=MODEL).cache_key)
        assert (bench.jobs["pretrain"].reused_from is None) == (len(keys) <= 3)
    assert (keys[0], keys[1]) == (keys[4], keys[3])
    assert len(set(keys)) == 3


def _replace_target(monkeypatch: pytest.MonkeyPatch, target: Any) -> None:
    """What `pretrain` does."""
    known = stages.get("pretrain")
    replaced = SimpleNamespace(
        target=target, methods=known.methods, kind=known.kind, name=known.name,
        params=known.params, stall_timeout_s=None,
    )  # fmt: skip
    monkeypatch.setattr("workers.runner.stages", SimpleNamespace(get=lambda _: replaced))


def test_a_job_computes_in_float32(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(bench.root)
    run, seen = stages.get("pretrain").target, []

    def look(ctx: JobContext) -> Any:
        seen.append((
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
            torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cuda"),
            torch.is_autocast_enabled("cpu"), ctx.device,
        ))  # fmt: skip
        return run(ctx)

    _replace_target(monkeypatch, look)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's own default
    bench.run("pretrain", dataset=DATA, model=MODEL)
    assert seen == [(False, False, "highest", False, False, torch.device("cpu"))]


def test_a_process_whose_gpu_has_failed_gives_its_job_back_and_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA refuses everything afterwards: the next job would fail for nothing."""
    write_data(bench.root)

    def fail(_: JobContext) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nCompile with")

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr("workers.runner.os._exit", leave)
    with monkeypatch.context() as broken:
        _replace_target(broken, fail)
        job_id = bench.post("pretrain", dataset=DATA, model=MODEL)
        with pytest.raises(SystemExit, match=str(BROKEN_DEVICE_STATUS)):
            bench.runner.run_until_idle()
    job = get_job(bench.db, TENANT, job_id)
    assert (job.state, job.lost_count) == ("queued", 1)
    (*_, last) = list_events(bench.db, TENANT, job_id, 0)[1]
    assert "'the GPU reported an error: CUDA error: an illegal memory access'" in str(last.data)


def test_what_a_deletion_took_of_an_ending_job_is_stored_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes were there before, of another job that was deleted since."""
    store_outputs = Runner._store_outputs

    def deleting(self: Runner, *arguments: Any) -> Any:
        artifacts = store_outputs(self, *arguments)
        for artifact in artifacts:
            self.artifacts.delete(artifact.sha256)
        return artifacts

    monkeypatch.setattr(Runner, "_store_outputs", deleting)
    write_data(bench.root, 0)
    job = bench.run("pretrain", dataset=DATA, model=MODEL)
    assert all(bench.runner.artifacts.is_intact(a.sha256, a.size) for a in job.artifacts)
