"""What a served system says to what is wrong, in one sentence with the right exit status, and
leaves undone: wrong addresses, tokens, data sets and forget sets, and a disk that is full."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from services.client import Client, Unavailable
from shared.reporting.as_yaml import to_yaml
from tests.support.local_serve import make_clean_env
from tests.support.servers import find_free_port
from tests.support.source_tree import ROOT, copy_tree
from tests.support.system import FAST_SETTINGS
from tests.support.tiny_chain import DATA, MODEL, write_data
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow

Done = subprocess.CompletedProcess[str]
CLI = [sys.executable, "-m", "services.cli"]
SERVE = [sys.executable, "-m", "deploy.local.serve"]
FASHION = "shared/ml/datasets/fashion_mnist.py"
PIPELINE = {"model": MODEL, "unlearning": ["gradient_ascent"], "attacks": ["label_inference"]}


def run(command: list[str], folder: Path, **env: str) -> Done:
    return subprocess.run(
        command,
        cwd=folder,
        env=make_clean_env(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def only_sentence(done: Done, status: int) -> str:
    """The one line on standard error."""
    assert done.returncode == status, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("palimpsest: ")
    return line


def with_disks(disks: dict[Path, str], command: list[str]) -> list[str]:
    """The command in a namespace of its own, in which each folder is a disk of that size; they go
    when it ends."""
    mounts = [f"mount -t tmpfs -o size={size} tmpfs '{folder}'" for folder, size in disks.items()]
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    # cd: into what was mounted over the folder
    script = " && ".join([*mounts, 'cd "$PWD"', 'exec "$@"'])
    return ["unshare", *root, "--mount", "sh", "-c", script, "sh", *command]


class Served:
    """A served system whose home is a disk of its own, and whose artifacts lie on another."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process, self.folder = process, folder
        self.home, self.artifacts = (
            self.seen(folder / ".palimpsest"),
            self.seen(folder / "artifacts"),
        )

    def seen(self, folder: Path) -> Path:
        """The folder as the processes of the system see it."""
        return Path(f"/proc/{self.process.pid}/root{folder}")

    def inside(self, *command: str) -> Done:
        """Run a command that sees the folders as the processes of the system do."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return run(
            ["nsenter", "--target", str(self.process.pid), *user, "--mount", *command], self.folder
        )

    def at(self) -> dict[str, str]:
        return dict(json.loads((self.home / "serve.json").read_text()))

    def cli(self, *arguments: str, token: str | None = None) -> Done:
        at = self.at()
        env = {"PALIMPSEST_URL": at["url"], "PALIMPSEST_TOKEN": token or at["token"]}
        return run([*CLI, *arguments], self.folder, **env)

    def audit(self, *options: str, **spec: Any) -> Done:
        (self.folder / "audit.yaml").write_text(to_yaml({"dataset": DATA, **PIPELINE, **spec}))
        return self.cli("audit", "audit.yaml", *options)

    def pretrain(self, *options: str, epochs: int, dataset: Any = DATA) -> Done:
        params = {"dataset": dataset, "model": MODEL, "epochs": epochs}
        given = [
            word for name, value in params.items() for word in ("-p", f"{name}={json.dumps(value)}")
        ]
        return self.cli("pretrain", *given, *options)

    @contextmanager
    def client(self, retry_for_s: float = 3.0) -> Iterator[Client]:
        at = self.at()
        with Client(at["url"], at["token"], retry_for_s=retry_for_s) as client:
            yield client

    def states(self) -> dict[str, str]:
        with self.client() as client:
            return {job.id: job.state for job in client.list_jobs()}


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left on the disk, until the context ends."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 4096):
            pass
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bad")
    for name in (".palimpsest", "artifacts"):
        (folder / name).mkdir()
    # a machine without Debian's data set, whose way out is a proxy that is not there
    source = (ROOT / FASHION).read_text().replace("/usr/share/datasets", "/nowhere")
    tree = copy_tree(folder / "tree", {FASHION: source})
    write_data(folder)
    env = make_clean_env(
        **FAST_SETTINGS, PYTHONPATH=str(tree), PALIMPSEST_DATA_ROOT=str(folder),
        PALIMPSEST_ARTIFACTS_URL=f"file://{folder}/artifacts",
        **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    )  # fmt: skip
    # room for the checkpoints of a job that runs for minutes where the machine is busy: each is an
    # artifact, and stays
    disks = {folder / ".palimpsest": "48m", folder / "artifacts": "32m"}
    command = with_disks(disks, [*SERVE, "--workers", "attack=0"])
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        made = Served(process, folder)
        up = made.home / "serve.json"
        wait_for(lambda: up.exists() or process.poll() is not None, TIMEOUT_S, "serve is up")
        assert process.poll() is None, (folder / "serve.log").read_text()
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=TIMEOUT_S)
    assert status == 0


def test_a_dead_gateway(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{find_free_port()}"
    done = run([*CLI, "jobs"], tmp_path, PALIMPSEST_URL=url, PALIMPSEST_TOKEN="x")
    said = only_sentence(done, 1)
    assert f"{url} does not answer" in said
    assert "make serve" in said


def test_a_wrong_token(served: Served) -> None:
    said = only_sentence(served.cli("jobs", token="wrong"), 2)
    assert "token" in said
    assert "PALIMPSEST_TOKEN" in said


def test_an_unknown_data_set(served: Served) -> None:
    before = served.states()
    done = served.audit(dataset="cifar1000")
    assert done.returncode == 2
    for word in ("cifar1000", "cifar10, cifar100, csv, fashion_mnist"):
        assert word in done.stderr
    assert served.states() == before


def test_a_model_that_does_not_fit_the_data(served: Served) -> None:
    before = served.states()
    done = served.audit(dataset="breast_cancer", model="convnet")
    assert done.returncode == 2
    assert (
        "convnet needs images of at least 9 x 9 pixels, not a table (breast_cancer). Models that fit: mlp"
        in done.stderr
    )
    assert "model: convnet\n" in done.stderr  # the line of the file that is to blame
    assert served.states() == before


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (
            "fashion_mnist",
            ["could not be downloaded", "PALIMPSEST_DATA_ROOT", "dataset-fashion-mnist"],
        ),
        ("cifar100", ["could not be downloaded", "put cifar100.npz", "PALIMPSEST_DATA_ROOT"]),
    ],
)
def test_data_that_cannot_be_had(served: Served, dataset: Any, words: list[str]) -> None:
    before = served.states()
    done = served.audit("--watch", dataset=dataset)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # among what was followed where it was seen to happen, else after it
    (said,) = [line for line in (done.stdout + done.stderr).splitlines() if "invalid:" in line]
    assert all(word in said for word in words), said
    made = served.states().keys() - before.keys()
    with served.client() as client:
        jobs = [client.get_job(job) for job in made]
    # the report says that nothing was measured
    needing = [j for j in jobs if j.stage not in ("selftest", "report")]
    assert {j.state for j in needing} == {"failed"}
    assert not any(j.artifacts for j in needing)


def test_a_file_that_is_not_in_the_data_root(served: Served) -> None:
    before = served.states()
    done = served.audit(dataset={"name": "npz", "params": {"path": "nowhere.npz"}})
    assert done.returncode == 2
    for word in (
        "path: nowhere.npz\n",
        "no 'nowhere.npz' in the data root of the gateway",
        "PALIMPSEST_DATA_ROOT",
    ):
        assert word in done.stderr
    assert served.states() == before


def test_a_file_that_is_replaced(served: Served) -> None:
    """Between two jobs: another result. While a job waits: a refusal."""
    path = served.folder / "replaced.npz"
    mine = {"name": "npz", "params": {"path": path.name}}

    def write(seed: int) -> None:
        write_data(served.folder, seed, path.name)

    def made() -> tuple[str, str]:
        job = served.pretrain(epochs=1, dataset=mine).stdout.strip()
        assert served.cli("watch", job).returncode == 0
        with served.client() as client:
            return job, client.get_job(job).artifacts["BASE"].sha256

    write(0)
    first = made()
    assert made() == first
    write(1)
    second = made()
    assert not {*first} & {*second}
    busy = served.pretrain(epochs=1000, dataset="mnist_5k").stdout.strip()
    wait_for(
        lambda: served.states()[busy] == "running",
        TIMEOUT_S,
        "the only worker of its group is busy",
    )
    waiting = served.pretrain(epochs=2, dataset=mine).stdout.strip()
    write(2)
    assert served.cli("cancel", busy).returncode == 0
    done = served.cli("watch", waiting)
    assert done.returncode == 1
    assert (
        "'replaced.npz' in the data root has changed since the job was planned"
        in done.stdout + done.stderr
    )


@pytest.mark.parametrize(
    ("forget", "word"),
    [
        ({"deletions": 3, "size": 2}, "forget sets of 2"),
        ({"deletions": 1, "size": 5}, "a forget set of 5 samples does not fit"),
        ({"indices": [[4]]}, "no sample 4"),
        ({"deletions": 0}, "forget.deletions"),
        ({"size": 0}, "forget.size"),
    ],
)
def test_forget_sets_that_a_training_set_of_four_has_not(
    served: Served, forget: dict[str, int], word: str
) -> None:
    before = served.states()
    done = served.audit(train={"size": 4}, forget=forget)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert served.states() == before


def test_forget_sets_that_a_finished_training_set_has_not(served: Served) -> None:
    """Of inputs that are named by their sha256, only the worker sees how large they are."""
    base = served.pretrain(epochs=1).stdout.strip()
    dataset = f"dataset={json.dumps(DATA)}"
    train = served.cli("train", "-i", f"BASE={base}", "-p", dataset, "-p", "size=4", "--watch")
    with served.client() as client:
        artifacts = client.get_job(train.stdout.split()[0]).artifacts
    unlearn = ["unlearn", "gradient_ascent", "-p", "deletions=3", "-p", "size=2"]
    for role in ("ORIGINAL", "TRAINING_SET"):
        unlearn += ["-i", f"{role}={artifacts[role].sha256}"]
    done = served.cli(*unlearn, "--watch")
    assert done.returncode == 1
    assert (
        "params.deletions: 3 deletions of 2 need more than the 4 samples"
        in done.stdout + done.stderr
    )


def test_a_job_waits_for_room_on_a_full_disk_and_is_not_charged(served: Served) -> None:
    log = served.folder / ".palimpsest/logs/worker-train-1.log"
    with filled(served.artifacts):
        job = served.pretrain(epochs=2).stdout.strip()

        def waits() -> bool:
            lines = served.inside("cat", str(log)).stdout.splitlines()
            return any(
                "a store is unavailable" in line and "No space left" in line for line in lines
            )

        wait_for(waits, TIMEOUT_S, "the worker's log says what it waits for")
        with served.client() as client:
            assert (client.get_job(job).state, client.get_job(job).artifacts) == ("running", {})
    assert served.cli("watch", job).returncode == 0
    with served.client() as client:
        assert client.get_job(job).lost_count == 0
    kept = [p for p in served.artifacts.rglob("*") if p.is_file()]
    assert kept
    assert all(hashlib.sha256(p.read_bytes()).hexdigest() == p.name for p in kept)


# so that the first posts find room in it, if the running job does not take it
EMPTY_LOG = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
database.execute("SELECT count(*) FROM jobs").fetchone()
print(database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0])
"""


def accepted_until_one_is_refused(served: Served, seeds: Iterator[int]) -> list[str]:
    """Post jobs until the gateway says that the disk is full. Those before found room: SQLite
    writes over a log that it has emptied, and over pages that it has freed; new pages it has none,
    so this ends."""
    accepted: list[str] = []
    params = {"dataset": DATA, "model": MODEL, "epochs": 1}
    with served.client(retry_for_s=0) as client:

        def post_until_refused() -> None:
            while True:
                accepted.append(client.submit_job("pretrain", params=params, seed=next(seeds)).id)

        with pytest.raises(Unavailable, match="disk is full"):
            post_until_refused()
    return accepted


def test_a_full_disk_under_everything_loses_nothing(served: Served) -> None:
    job = served.pretrain(epochs=1000).stdout.strip()
    wait_for(lambda: served.states()[job] == "running", TIMEOUT_S, "it runs")
    before = served.states().keys()
    done = served.inside(
        sys.executable, "-c", EMPTY_LOG, str(served.folder / ".palimpsest/palimpsest.db")
    )
    assert done.stdout == "0\n", done.stderr
    seeds = count(1)
    with filled(served.home):
        accepted = accepted_until_one_is_refused(served, seeds)
        # that work goes on may empty the log again at any time, so this one may be taken
        while (done := served.pretrain("--seed", str(next(seeds)), epochs=1)).returncode == 0:
            accepted += [done.stdout.strip(), *accepted_until_one_is_refused(served, seeds)]
        assert "disk is full" in only_sentence(done, 1)
        assert served.states().keys() == before | set(accepted)  # no more, no less
    assert served.process.poll() is None
    done = served.cli("watch", job)
    assert done.returncode == 0, done.stdout
    assert served.states().keys() == before | set(accepted)
    if accepted[1:]:
        assert served.cli("cancel", *accepted[1:]).returncode == 0
    assert (
        served.cli("watch", *accepted[:1], served.pretrain(epochs=3).stdout.strip()).returncode == 0
    )


def full_disk(folder: Path) -> list[str]:
    home = folder / "home"
    home.mkdir()
    filler = f'head -c 2m /dev/zero > "{home}/filler" 2>/dev/null; "$@"; status=$?; ls -A "{home}"; exit $status'
    return with_disks({home: "1m"}, ["sh", "-c", filler, "sh", *SERVE, "--home", str(home)])


def a_file(folder: Path) -> list[str]:
    (folder / "home").touch()
    return [*SERVE, "--home", str(folder / "home")]


@pytest.mark.parametrize(
    ("home", "words", "left"),
    [
        (full_disk, ["is full", "free some space", "--home"], "filler\n"),
        (a_file, ["cannot write", "--home"], ""),
    ],
)
def test_a_serve_with_nowhere_to_write(
    tmp_path: Path, home: Callable[[Path], list[str]], words: list[str], left: str
) -> None:
    done = run(home(tmp_path), tmp_path)
    said = only_sentence(done, 2)
    assert all(word in said for word in words), said
    assert done.stdout == left


@pytest.mark.parametrize(
    ("options", "env", "word"),
    [
        (["--port", "99999"], {}, "99999"),
        ([], {"PALIMPSEST_LEASE_S": "never"}, "PALIMPSEST_LEASE_S"),
        ([], {"PALIMPSEST_DATABASE_URL": "nonsense"}, "PALIMPSEST_DATABASE_URL"),
    ],
)
def test_a_serve_that_is_told_nonsense(
    tmp_path: Path, options: list[str], env: dict[str, str], word: str
) -> None:
    done = run([*SERVE, *options], tmp_path, **env)
    assert done.returncode == 2
    assert word in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".palimpsest/serve.json").exists()
