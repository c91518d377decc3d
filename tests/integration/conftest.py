"""For tests of client and command line. A file whose gateway knows other plugins has a `gateway` of
its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.gateway import queue_counts
from services.gateway.console import home
from services.signing import create_key
from tests.support.cli import Runner, make_runner, serve_full_catalog
from tests.support.gateway import GatewayProcess, ManualWorker
from tests.support.local_serve import run_serve
from tests.support.waiting import TIMEOUT_S


@pytest.fixture(autouse=True)
def _read_figures_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts and homes are new for every caller, however slow this machine is."""
    monkeypatch.setattr(queue_counts, "CHEAP_S", math.inf)
    monkeypatch.setattr(home, "CHEAP_S", math.inf)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with serve_full_catalog(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def worker(gateway: GatewayProcess) -> Iterator[ManualWorker]:
    made = gateway.make_worker()
    yield made
    made.finish_all()


@pytest.fixture
def run(
    gateway: GatewayProcess,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Runner:
    monkeypatch.chdir(tmp_path)
    return make_runner(gateway.url, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `api` is served."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[httpx.Client]:
    """The gateway of a whole `make serve`, with its token in every request."""
    with run_serve(folder) as at:
        headers = {"Authorization": f"Bearer {at['token']}"}
        with httpx.Client(base_url=at["url"], headers=headers, timeout=TIMEOUT_S) as client:
            yield client


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's private key; the public one stands beside it."""
    path = tmp_path_factory.mktemp("keys") / "key"
    create_key(path)
    return path


@pytest.fixture(scope="module")
def signing_gateway(
    tmp_path_factory: pytest.TempPathFactory, key: Path
) -> Iterator[GatewayProcess]:
    """A gateway that signs reports with it."""
    folder = tmp_path_factory.mktemp("gateway")
    with serve_full_catalog(folder, PALIMPSEST_SIGNING_KEY=str(key)) as served:
        yield served
