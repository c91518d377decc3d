"""Every kind of fault once, with SQLite as the job store. A file each, so that they run side by
side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.storm.suite import check_storm


@pytest.mark.long
@pytest.mark.timeout(3600)  # it waits for events; each wait has its own limit
def test_nothing_is_lost_doubled_stuck_or_charged_in_a_storm(tmp_path: Path) -> None:
    check_storm(tmp_path, "sqlite")
