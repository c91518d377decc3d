"""For tests of client and command line. A file whose gateway knows other plugins has a `gateway` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Run, gateway_of_every_stage, runner
from tests.support.gateway import GatewayProcess, HandWorker


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_of_every_stage(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def worker(gateway: GatewayProcess) -> Iterator[HandWorker]:
    made = gateway.worker()
    yield made
    made.run_all()


@pytest.fixture
def run(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(gateway.url, monkeypatch, capfdbinary)
