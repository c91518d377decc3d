"""The view of an adaptive attacker: one who knows how the release was defended."""

from __future__ import annotations

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import JobInputs, SeededSubContext
from shared.ml.defenses import registry
from shared.ml.records import DefenseRecord, PublicSets
from shared.plugin_ref import validate_model
from shared.roles import Role

# the adaptive view's share of the job's progress is one in this many; the attack restarts from 0
PROGRESS_PARTS = 100


def apply_defense_knowledge(ctx: JobInputs, view: WhiteBoxView) -> WhiteBoxView:
    """Apply the adaptive view of the defense that DEFENSE names; the view is unchanged if it has
    none.

    It draws from its own generators: the developer uses the job's seed too, and no attacker knows
    those draws.

    Raises:
        InvalidRequest: DEFENSE names an unknown defense or wrong parameters, or the adaptive view
            lacks public samples.
    """
    defense = DefenseRecord.read(ctx.read_input(Role.DEFENSE), Role.DEFENSE)
    plugin = registry.get(defense.method)
    if plugin.adaptive_view is None:
        return view
    params = validate_model(
        plugin.params, defense.params, f"DEFENSE: {defense.method}", f"inputs.{Role.DEFENSE}"
    )
    public = PublicSets.read(ctx.read_input(Role.PUBLIC), Role.PUBLIC)
    adaptive_view: WhiteBoxView = plugin.adaptive_view(
        view, params, public, SeededSubContext(ctx, 0, PROGRESS_PARTS)
    )
    return adaptive_view
