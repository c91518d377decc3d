"""Runs the built-in self-test of the code that audits use."""

from __future__ import annotations

from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.selftest.cases import run_all
from workers.stages import registry


@registry.register(
    "selftest",
    params=Params,
    produces=(Role.SELF_TEST,),
    # with the code of everything audits run, so changed code is tested again and unchanged code is
    # not
    runs=("stage", "dataset", "model", "unlearning", "defense", "attack", "metric"),
    wiring=Wiring(scopes=(Scope.AUDIT,), on_demand=True),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Run all cases with known answers, on the CPU. Failures are recorded, not raised, for the
    report."""
    return {Role.SELF_TEST: StageOutput.of_json(run_all(ctx.report_progress))}
