"""Differentially private training."""

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
        1.0,
        gt=0,
        le=1e6,
        description="maximum norm of one sample's gradient; larger gradients are clipped",
    )
    delta: float = Field(
        1e-5,
        gt=0,
        lt=1,
        description="probability that the epsilon guarantee fails; choose it below 1 / N",
    )


def compute_epsilon(recipe: Recipe, n: int, delta: float) -> float:
    """The guarantee of one training by that recipe on `n` samples: epsilon at `delta`, by Renyi
    accounting (opacus).

    Adding or removing one sample changes the probability of any outcome by at most a factor
    e^epsilon, except for `delta`. `n`, which sets the sampling rate and divides the noisy sum, is
    public and stays the same for both neighbours.
    """
    return _account(recipe.noise_multiplier, min(1.0, recipe.batch_size / n), recipe, n, delta)


def compute_replacement_epsilon(recipe: Recipe, n: int, delta: float) -> float | None:
    """The same for training sets of equal size that differ by a replaced sample; None if batches
    are sampled.

    A replaced sample moves the clipped sum twice as far, which is as half the noise where every
    step uses all samples. With sampling there is no such rule.
    """
    if recipe.batch_size < n:
        return None
    return _account(recipe.noise_multiplier / 2, 1.0, recipe, n, delta)


def _account(noise: float, rate: float, recipe: Recipe, n: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant  # takes a second, and only needed here

    accountant = RDPAccountant()
    accountant.history = [(noise, rate, recipe.count_steps(n))]
    return float(accountant.get_epsilon(delta))


@registry.register(
    "dp_sgd",
    params=DPSGDParams,
    needs=(Role.RECIPE,),
    trains=("noise_multiplier", "max_grad_norm"),
    source=(
        "Abadi et al. 2016, arXiv 1607.00133, algorithm 1; epsilon after Mironov 2017, arXiv "
        "1702.07476"
    ),
    acts="training",
    strength="noise_multiplier",
)
def compute_guarantee(recipe: Recipe, n: int, params: DPSGDParams) -> dict[str, float]:
    """DP-SGD: clip each sample's gradient and add noise to every step.

    The original is trained this way, and so are the steps of retraining and gradient ascent; other
    methods' steps are plain. Epsilon is that of one training: an attacker who sees the original and
    a retrained model sees two. There is no adaptive attack: the guarantee holds against attackers
    who know the defense, and noise that entered every step of training cannot be subtracted from
    the weights or averaged away.

    Returns:
        epsilon at delta, with epsilon_replacement where it is known, noise_multiplier and
        max_grad_norm of the recipe.
    """
    replacement = compute_replacement_epsilon(recipe, n, params.delta)
    return {
        "epsilon": compute_epsilon(recipe, n, params.delta),
        **({} if replacement is None else {"epsilon_replacement": replacement}),
        "delta": params.delta,
        "noise_multiplier": recipe.noise_multiplier,
        "max_grad_norm": recipe.max_grad_norm,
    }
