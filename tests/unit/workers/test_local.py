"""One stage here and now."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.roles import Role
from workers.context import JobContext, StageOutput
from workers.local import run_stage
from workers.stages import registry


@pytest.fixture
def listing() -> Iterator[None]:
    """A stage that says what it was given."""
    registry.load()

    def run(ctx: JobContext) -> dict[str, StageOutput]:
        """List what it was given."""
        return {Role.METRICS: StageOutput.of_json(sorted(ctx.inputs))}

    registry.register("listing", uses=(Role.BASE,), many=(Role.METRICS,), produces=(Role.METRICS,))(
        run
    )
    yield
    del registry._plugins["listing"]


@pytest.mark.usefixtures("listing")
def test_a_stage_is_given_the_roles_that_it_names_and_numbered_ones() -> None:
    one = StageOutput.of_json(1)
    roles = [
        "BASE",
        "METRICS_1",
        "METRICS_20",
        "METRICS_x",
        "METRICS_0",
        "METRICS_",
        "METRICS",
        "ORIGINAL",
        "ORIGINAL_1",
    ]
    made = run_stage("listing", dict.fromkeys(roles, one))
    assert made[Role.METRICS].data == StageOutput.of_json(["BASE", "METRICS_1", "METRICS_20"]).data
