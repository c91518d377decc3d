"""Holds the code that audits run on against cases whose answer is known."""

from __future__ import annotations

from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, Output
from workers.selftest.cases import run_all
from workers.stages import registry


@registry.register(
    "selftest",
    params=Params,
    produces=(Role.SELF_TEST,),
    # with the code of all that audits run on, so that what has changed is tested again, and what has not is not
    runs=("stage", "dataset", "model", "unlearning", "defense", "attack", "metric"),
    wiring=Wiring(scopes=(Scope.AUDIT,), on_demand=True),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Run all cases whose answer is known, on the CPU. What fails is told, not raised: the report must say so."""
    return {Role.SELF_TEST: Output.of_json(run_all(ctx.progress))}
