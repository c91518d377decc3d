"""What an attacker makes of the models who knows how the release was defended."""

from __future__ import annotations

from shared.choices import validated
from shared.ml.context import JobInputs, Part
from shared.ml.defenses import registry
from shared.ml.observations import Observation
from shared.ml.records import Defense, Public
from shared.roles import Role

GLANCE = 100  # a counter's progress is one in so many of the job's, and what follows starts from 0


def apply_defense_knowledge(ctx: JobInputs, seen: Observation) -> Observation:
    """What is seen, after the counter of the defense that DEFENSE names; as it is where there is none.

    Its randomness is its own: the seed of the job is the developer's too, whose draws no attacker knows.

    Raises:
        InvalidRequest: DEFENSE names no defense or not its parameters, or the counter lacks public samples.
    """
    done = Defense.read(ctx.input(Role.DEFENSE), Role.DEFENSE)
    plugin = registry.get(done.method)
    if plugin.counter is None:
        return seen
    params = validated(plugin.params, done.params, f"DEFENSE: {done.method}", f"inputs.{Role.DEFENSE}")
    public = Public.read(ctx.input(Role.PUBLIC), Role.PUBLIC)
    countered: Observation = plugin.counter(seen, params, public, Part(ctx, 0, GLANCE))
    return countered
