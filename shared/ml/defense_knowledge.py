"""What an attacker makes of the models who knows how the release was defended."""

from __future__ import annotations

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import JobInputs, SeededSubContext
from shared.ml.defenses import registry
from shared.ml.records import DefenseRecord, PublicSets
from shared.plugin_ref import validate_model
from shared.roles import Role

# a counter's progress is one in so many of the job's, and what follows starts from 0
PROGRESS_PARTS = 100


def apply_defense_knowledge(ctx: JobInputs, view: WhiteBoxView) -> WhiteBoxView:
    """What is seen, after the counter of the defense that DEFENSE names; as it is where there is
    none.

    Its randomness is its own: the seed of the job is the developer's too, whose draws no attacker
    knows.

    Raises:
        InvalidRequest: DEFENSE names no defense or not its parameters, or the counter lacks public
            samples.
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
