"""push and artifacts, against a served gateway; the client's own side of an upload."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.client import Client, Conflict, NotFound, Pair, QuotaExceeded, ReadError
from shared.artifacts import compute_sha256
from tests.golden.planned_jobs import real_catalog
from tests.support import gateway as support
from tests.support.cli import COMMAND, Runner, make_runner
from tests.support.gateway import TOKEN, GatewayProcess, ManualWorker, serve_gateway

pytestmark = pytest.mark.slow


@pytest.fixture
def client(gateway: GatewayProcess) -> Client:
    return Client(gateway.url, TOKEN)


def test_a_file_is_pushed_listed_shown_and_deleted(run: Runner, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "before.safetensors").write_bytes(data)
    (tmp_path / "rows.csv").write_text("a,b\n")
    pushed = run("push", "before.safetensors", "rows.csv")
    digests = pushed.stdout.split()
    assert digests == [compute_sha256(data), compute_sha256(b"a,b\n")]
    assert "before.safetensors: 3.0 MiB" in pushed.stderr
    again = json.loads(run("push", "rows.csv", "--json").stdout)
    assert again == [{"path": "rows.csv", "sha256": digests[1], "size": 4}]
    listed = run("artifacts", "list")
    assert all(digest in listed.stdout for digest in digests)
    assert "of 64.0 GiB are used" in listed.stderr
    shown = json.loads(run("artifacts", "show", digests[0], "--json").stdout)
    assert (shown["media_type"], shown["size"]) == ("application/vnd.safetensors", len(data))
    run("artifacts", "delete", *digests)
    assert digests[0] not in run("artifacts", "list").stdout
    gone = run("artifacts", "show", digests[0])
    assert gone.returncode == 2
    assert f"there is no upload {digests[0]}" in gone.stderr


def test_what_cannot_be_read_is_told_in_a_sentence(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, says in (("missing.npz", "there is no file missing.npz"), ("folder", "not a file")):
        failed = run("push", name)
        assert failed.returncode == 1
        assert says in failed.stderr
        assert str(tmp_path) not in failed.stderr
        assert failed.stdout == ""


def test_a_file_that_is_there_is_not_sent_again(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(1 << 20))
    reported: list[tuple[int, int]] = []
    first = client.upload(path, on_progress=lambda sent, total: reported.append((sent, total)))
    assert reported == [(1 << 20, 1 << 20)]
    sent: list[str] = []
    original = httpx.Client.send

    def record(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        sent.append(request.method)
        return original(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", record)
    assert client.upload(path).sha256 == first.sha256
    assert sent == ["HEAD"]
    client.delete_artifact(first.sha256)
    with pytest.raises(NotFound):
        client.delete_artifact(first.sha256)


def test_a_file_that_changes_while_it_is_sent_is_refused(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(3 << 20))

    def shorten(_sent: int, _total: int) -> None:
        os.truncate(path, 1 << 20)

    with pytest.raises(ReadError, match="was changed while it was sent"):
        client.upload(path, on_progress=shorten)
    assert [one.size for one in client.list_uploads() if one.size == 3 << 20] == []


def test_a_full_quota_and_a_waiting_job_are_told(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(5000))
    with serve_gateway(tmp_path, PALIMPSEST_UPLOAD_QUOTA_BYTES="8000") as gateway:
        client = Client(gateway.url, TOKEN)
        sha256 = client.upload(path).sha256
        assert client.get_upload_space().used_bytes == 5000
        other = tmp_path / "other.bin"
        other.write_bytes(os.urandom(5000))
        with pytest.raises(QuotaExceeded, match="8,000 bytes"):
            client.upload(other)
        inputs = {"ORIGINAL": sha256, "TRAINING_SET": sha256}
        client.submit_job("unlearn", method="ascent", inputs=inputs)
        with pytest.raises(Conflict, match="needs upload"):
            client.delete_artifact(sha256)


def test_an_upload_is_deleted_with_what_was_made_of_it(
    run: Runner, client: Client, worker: ManualWorker, tmp_path: Path
) -> None:
    digests = []
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(os.urandom(2048))
        digests.append(run("push", name).stdout.strip())
        inputs = {"ORIGINAL": digests[-1], "TRAINING_SET": digests[-1]}
        client.submit_job("unlearn", method="ascent", inputs=inputs)
    refused = run("artifacts", "delete", digests[0], "--with-derived")
    assert refused.returncode == 1
    assert "not ended: 1 job; cancel first, or wait" in refused.stderr
    worker.finish_all()
    assert client.get_derived(digests[0]).job_count == 1
    done = run("artifacts", "delete", digests[0], "--with-derived", "--json")
    assert "1 job: 1 unlearn" in done.stderr
    (erased,) = json.loads(done.stdout)
    assert (erased["sha256"], erased["jobs"]) == (digests[0], 1)
    assert (erased["finished"], erased["artifacts"]) == (True, 2)
    with pytest.raises(NotFound):
        client.get_derived(digests[0])
    erasure = client.delete_artifact(digests[1], derived=True)
    assert erasure is not None
    assert (erasure.jobs, erasure.audits, erasure.finished) == (1, 0, True)


def test_a_deletion_with_all_that_is_derived_is_confirmed_on_a_terminal(
    gateway: GatewayProcess, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(1000))
    sha256 = client.upload(path).sha256
    pid, terminal = pty.fork()
    if pid == 0:
        words = ["artifacts", "delete", sha256, "--with-derived"]
        os.execve(COMMAND[0], [*COMMAND, *words], gateway.make_client_env())
    shown, answered = b"", 0
    with contextlib.suppress(OSError):  # a terminal whose program has ended
        while chunk := os.read(terminal, 4096):
            shown += chunk
            if not answered and b"Permanently delete" in shown:
                answered = os.write(terminal, b"n\n")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert b"1 artifact, the upload included: 1000 B" in shown, shown
    assert status == 1
    assert sha256 in {one.sha256 for one in client.list_uploads()}


def write_pair(folder: Path) -> None:
    for name in ("before.st", "a1.st", "a2.st", "b1.st", "b2.st", "base.st", "d.npz", "p.npz"):
        (folder / name).write_bytes(name.encode())


FILES = ("--deleted", "d.npz", "--public", "p.npz")
SHAPE = ("--classes", "10", "--input", "3x32x32")


@pytest.fixture(scope="module")
def real_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """It knows the plugins of this tree, and no worker is up."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(support, "make_catalog", real_catalog)
        with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
            yield served


@pytest.fixture
def planning_run(
    real_gateway: GatewayProcess,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Runner:
    """`palimpsest`, for that gateway."""
    monkeypatch.chdir(tmp_path)
    return make_runner(real_gateway.url, monkeypatch, capfdbinary)


def test_a_dry_run_of_a_pair_quotes_its_audit_and_sends_no_file(
    planning_run: Runner, tmp_path: Path
) -> None:
    run = planning_run
    write_pair(tmp_path)
    words = (
        "pair", "before.st", "ascent=a1.st", "a2.st", "scrub=b1.st", "b2.st",
        "--model", "timm:resnet18", *SHAPE, *FILES, "--mean", ".5,.4,.3", "--std", "1,1,1",
        "--base", "base.st", "--training-set", "50000", "--size", "1", "--name", "ticket 811",
        "--attack", "feature_recovery:preset=fast", "--dry-run",
    )  # fmt: skip
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    digest = {name: compute_sha256(name.encode()) for name in os.listdir(tmp_path)}
    assert answer["audit"] == {
        "name": "ticket 811",
        "dataset": {
            "name": "own_samples",
            "params": {
                "deleted": f"upload:{digest['d.npz']}",
                "public": f"upload:{digest['p.npz']}",
                "num_classes": 10,
            },
        },
        "model": {"name": "timm", "params": {"name": "resnet18"}},
        "original": digest["before.st"],
        "base": digest["base.st"],
        "releases": [
            {"name": "ascent", "weights": [digest["a1.st"], digest["a2.st"]]},
            {"name": "scrub", "weights": [digest["b1.st"], digest["b2.st"]]},
        ],
        "ingest": {
            "input_shape": [3, 32, 32],
            "num_classes": 10,
            "mean": [0.5, 0.4, 0.3],
            "std": [1.0, 1.0, 1.0],
            "size": 1,
            "training_set": 50000,
        },
        "attacks": [{"name": "feature_recovery", "params": {"preset": "fast"}}],
    }
    assert answer["quote"]["unknown"] == answer["total"]
    table = run(*words)
    assert re.search(r"^ingest +- +2 .*no history", table.stdout, re.MULTILINE)
    assert "no worker is up for attack, evaluate, ingest, report, selftest" in table.stdout
    assert json.loads(run("artifacts", "list", "--json").stdout) == []
    assert json.loads(run("audits", "--json").stdout) == []


def test_pictures_of_a_pair_get_the_size_that_the_model_takes(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path / "a.st", {"after": [tmp_path / "b.st"]}, "mlp", 10, (1, 28, 28),
        tmp_path / "d.zip", tmp_path / "p.npz",
    )  # fmt: skip
    params = pair.build_audit(dict.fromkeys(pair.files, "0" * 64))["dataset"]["params"]
    assert (params["size"], params["grey"]) == (28, True)


def test_retrained_models_retained_samples_and_rows(planning_run: Runner, tmp_path: Path) -> None:
    """Retrained models come by deletion, then by seed; rows by deletion."""
    write_pair(tmp_path)
    digest = {name: compute_sha256(name.encode()) for name in os.listdir(tmp_path)}

    def run(*more: str) -> dict[str, Any]:
        words = ("pair", "before.st", "a1.st", "a2.st", "--model", "mlp", "--dry-run", "--json")
        done = planning_run(*words, *more)
        assert done.returncode == 0, done.stderr
        audit: dict[str, Any] = json.loads(done.stdout)["audit"]
        return audit

    trained = ("--retrained", "b1.st,b2.st", "--retrained", "base.st,p.npz")
    audit = run(*SHAPE, *FILES, "--retained", "p.npz", *trained)
    assert audit["retrained"] == [
        [digest["b1.st"], digest["b2.st"]], [digest["base.st"], digest["p.npz"]],
    ]  # fmt: skip
    assert audit["dataset"]["params"]["retained"] == f"upload:{digest['p.npz']}"
    digits = ("--classes", "10", "--input", "1x28x28", "--dataset", "mnist_5k")
    audit = run(*digits, "--rows", "3711,3712,5,6", "--size", "2")
    assert audit["dataset"] == "mnist_5k"
    assert audit["ingest"]["rows"] == [[3711, 3712], [5, 6]]


def test_deleted_files_are_named_by_deletion() -> None:
    pair = Pair(
        before="model:before",
        after={"after": ["model:one", "model:two"]},
        dataset="declared:mine",
        deleted_files=["cat/1.png", "cat/2.png"],
    )
    audit = pair.build_audit({})
    assert audit["dataset"] == "declared:mine"
    assert audit["ingest"]["files"] == [["cat/1.png"], ["cat/2.png"]]


def test_a_pair_without_samples_infers_classes_and_searches_for_random_directions_too(
    planning_run: Runner, tmp_path: Path
) -> None:
    write_pair(tmp_path)
    words = (
        "pair",
        "before.st",
        "a1.st",
        "a2.st",
        "--model",
        "mlp",
        *SHAPE,
        "--label",
        "a=b",
        "--dry-run",
        "--json",
    )

    def run(*more: str) -> dict[str, Any]:
        audit: dict[str, Any] = json.loads(planning_run(*words, *more).stdout)["audit"]
        return audit

    alone = run()
    assert "dataset" not in alone
    assert alone["attacks"] == [
        {"name": "feature_recovery", "params": {"labels": "inferred", "controls": 2}},
        "label_inference",
    ]
    public = run("--public", "p.npz")
    assert {*public["dataset"]["params"]} == {"public", "num_classes"}
    assert public["attacks"] == alone["attacks"]
    deleted = run("--deleted", "d.npz")
    assert {*deleted["dataset"]["params"]} == {"deleted", "num_classes"}
    assert deleted["attacks"] == ["feature_recovery", "label_inference"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a1.st", *SHAPE, "--retrained", "b1.st"), "need the deleted samples"),
        (("a1.st", *FILES, *SHAPE, "--rows", "1"), "belong to a data set"),
        (("a1.st", *SHAPE, *FILES, "--dataset", "cifar10", "--rows", "1"), "not both"),
        (("a1.st", *SHAPE, "--dataset", "cifar10", "--rows", "1", "--files", "a"), "not both"),
        (("a1.st", *SHAPE, "--dataset", "cifar10", "--rows", "x"), "--rows"),
        (("a1.st", *FILES, "--classes", "10", "--input", "32x32"), "CxHxW"),
        (("a1.st", *FILES, *SHAPE, "--mean", "grey"), "--mean"),
        (("x=a1.st", "x=a2.st", *FILES, *SHAPE), "named twice"),
        (("gone.st", *FILES, *SHAPE), "there is no file gone.st"),
        (("a1.st", *FILES, "--classes", "1", "--input", "1x2x3"), "--classes"),
    ],
)
def test_what_a_pair_cannot_be_is_told(
    run: Runner, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    write_pair(tmp_path)
    done = run("pair", "before.st", "--model", "mlp", "--dry-run", *words)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert done.stdout == ""
