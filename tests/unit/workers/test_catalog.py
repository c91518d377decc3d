"""A worker whose stages no audit could run together does not start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.errors import PluginImportError
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.catalog import load_catalog, main
from workers.stages import registry


def work() -> None:
    """Make one from the other."""


@pytest.fixture
def waiting_for_each_other() -> Iterator[None]:
    """Two stages, each of which is right by itself."""
    registry.load()
    wiring = Wiring(scopes=(Scope.RELEASE,), on_demand=True)
    registry.register("one", needs=(Role.SHADOWS,), produces=(Role.BATCH_DELTAS,), wiring=wiring)(
        work
    )
    registry.register("other", needs=(Role.BATCH_DELTAS,), produces=(Role.SHADOWS,), wiring=wiring)(
        work
    )
    yield
    for name in ("one", "other"):
        del registry._plugins[name]


@pytest.fixture
def reported_without_numbers() -> Iterator[None]:
    registry.load()
    wiring = Wiring(scopes=(Scope.RELEASE,), reported=True)
    registry.register("further", needs=(Role.UNLEARNED,), produces=(Role.SHADOWS,), wiring=wiring)(
        work
    )
    yield
    del registry._plugins["further"]


@pytest.mark.usefixtures("reported_without_numbers")
def test_a_stage_that_no_audit_could_run_stops_the_worker() -> None:
    with pytest.raises(
        PluginImportError,
        match=r"^the stage further is reported, but does not always produce a role",
    ):
        load_catalog()


@pytest.mark.usefixtures("waiting_for_each_other")
def test_stages_that_wait_for_each_other_stop_the_worker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(
        PluginImportError,
        match=r"^the stages one and other wait for each other: each needs a role",
    ):
        load_catalog()
    assert main([]) == 1
    assert capsys.readouterr().err.startswith(
        "palimpsest: the stages one and other wait for each other"
    )


def test_the_stages_that_come_along_are_run_as_they_say() -> None:
    assert {entry.name for entry in load_catalog() if entry.kind == "stage"} >= {
        "pretrain",
        "train",
        "unlearn",
        "report",
    }
