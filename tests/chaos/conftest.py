"""Systems that the tests of a module share: starting one takes most of the time of a short test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import create_database
from tests.support.system import System


@pytest.fixture(scope="module")
def shared_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sleep_tree: Path
) -> Iterator[Callable[[str], System]]:
    """Gives the module's system on sqlite or postgresql: a reconciler, a worker `worker-sleep`, and
    its Redis is up.

    Tests that share it may kill Redis and the worker's children, and leave no job behind.
    """
    made: dict[str, System] = {}

    def give(store: str) -> System:
        if store not in made:
            url = (
                create_database(request.getfixturevalue("postgres_server"))
                if store == "postgresql"
                else None
            )
            made[store] = System(tmp_path_factory.mktemp(f"shared-{store}"), sleep_tree, url)
            made[store].start_reconciler()
            made[store].start_worker("sleep")
        if made[store].redis.process is None:
            made[store].redis.start()
        return made[store]

    yield give
    for system in made.values():
        system.close()
