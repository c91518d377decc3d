"""A browser and a served gateway for each file. A file that needs other ones has fixtures of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.console import launch_browser
from tests.support.gateway import GatewayProcess, serve_gateway


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
        yield served
