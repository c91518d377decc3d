"""Tests that compute on a GPU. Without CUDA they are deselected; PALIMPSEST_TEST_DEVICE=cpu runs those
that make sense there on the CPU."""

from __future__ import annotations

import os

import pytest
import torch

FORCED = os.environ.get("PALIMPSEST_TEST_DEVICE")


def _can_run(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("gpu")
    if marker is None or (torch.cuda.is_available() and FORCED != "cpu"):
        return True
    return FORCED == "cpu" and not marker.kwargs.get("cuda_only", False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unfit = [item for item in items if not _can_run(item)]
    if unfit:
        items[:] = [item for item in items if item not in unfit]
        config.hook.pytest_deselected(items=unfit)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The one that is tested."""
    return torch.device("cpu" if FORCED == "cpu" else "cuda:0")
