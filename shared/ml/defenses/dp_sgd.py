"""Train in private, so that no sample shows."""

from __future__ import annotations

from pydantic import Field

from shared.ml.defenses import registry
from shared.ml.training.recipe import Recipe
from shared.plugins import Params
from shared.roles import Role


class DPSGDParams(Params):
    noise_multiplier: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="noise, as a multiple of max_grad_norm; more is more private",
    )
    grid: list[float] = Field(
        [0.1, 0.3, 1.0, 3.0, 10.0],
        min_length=1,
        max_length=32,
        description="settings of a sweep, weakest first",
    )
    max_grad_norm: float = Field(
        1.0, gt=0, le=1e6, description="longest gradient of one sample; longer is shortened"
    )
    delta: float = Field(
        1e-5,
        gt=0,
        lt=1,
        description="probability that the epsilon guarantee fails; choose it below 1 / N",
    )


def compute_epsilon(recipe: Recipe, n: int, delta: float) -> float:
    """What one training by that recipe on `n` samples promises: epsilon at `delta`, by Renyi
    accounting (opacus).

    One sample more or less changes the chance of any outcome by at most a factor e^epsilon, but for
    `delta`.
    """
    from opacus.accountants import RDPAccountant  # takes a second, and only needed here

    accountant = RDPAccountant()
    accountant.history = [
        (recipe.noise_multiplier, min(1.0, recipe.batch_size / n), recipe.count_steps(n))
    ]
    return float(accountant.get_epsilon(delta))


@registry.register(
    "dp_sgd",
    params=DPSGDParams,
    needs=(Role.RECIPE,),
    trains=("noise_multiplier", "max_grad_norm"),
    source="Abadi et al. 2016, arXiv 1607.00133, algorithm 1; epsilon after Mironov 2017, arXiv 1702.07476",
    acts="training",
    strength="noise_multiplier",
)
def compute_guarantee(recipe: Recipe, n: int, params: DPSGDParams) -> dict[str, float]:
    """Train in private (DP-SGD): no gradient of a sample longer than a bound, and noise on every
    step's sum.

    The original is trained so, and so is what retraining and gradient ascent do; other methods'
    steps are bare. Epsilon is that of one training: who sees the original and a retrained model
    sees two. There is no adaptive attack: what is promised holds against whoever knows it, and
    noise that went into every step of training, where later gradients met it, is nothing that could
    be taken off the weights or averaged away.

    Returns:
        epsilon at delta, noise_multiplier and max_grad_norm of the recipe.
    """
    return {
        "epsilon": compute_epsilon(recipe, n, params.delta),
        "delta": params.delta,
        "noise_multiplier": recipe.noise_multiplier,
        "max_grad_norm": recipe.max_grad_norm,
    }
