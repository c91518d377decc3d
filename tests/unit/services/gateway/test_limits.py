"""services.gateway.__main__: how many connections the limit of open files leaves room for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.waiting import TIMEOUT_S

SCRIPT = """
import resource
from services.gateway.__main__ import _limit_connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(_limit_connections(4096), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("soft", "hard", "said", "warned"),
    [
        (1024, 5000, "4096 4352", False),
        (1024, 1024, "768 1024", True),
        (100, 200, "100 200", True),
        (5000, 5000, "4096 5000", False),
    ],
)
def test_the_limit_is_raised_and_kept_to(soft: int, hard: int, said: str, warned: bool) -> None:
    script = SCRIPT.format(soft=soft, hard=hard)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stdout.strip() == said
    assert ("PALIMPSEST_MAX_CONNECTIONS" in done.stderr) == warned
