"""The curvature of the mean loss, as the Gauss-Newton matrix: products and lengths of steps.

The Hessian of a network is not positive definite; this matrix is never negative, and equals it
where the loss is convex in the outputs and they are linear in the weights.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.functional import softmax

from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.second_derivatives import differentiable_attention
from shared.ml.training.recipe import Recipe

Weights = dict[str, Tensor]
BATCH_SIZE = 256  # samples whose curvature is computed at a time


def multiply_curvature(
    network: nn.Module, samples: Samples, direction: Weights, ctx: Context
) -> Weights:
    """The Gauss-Newton matrix of the mean loss on the samples, times a direction."""
    weights = {name: w.detach() for name, w in network.named_parameters()}
    product: Weights = {name: d * 0 for name, d in direction.items()}
    for images in samples.images.split(BATCH_SIZE):
        part = _multiply_gauss_newton(network, weights, images.to(ctx.device), direction)
        product = add(product, part, 1 / len(samples.labels))
    return product


def compute_damping(recipe: Recipe, n: int) -> float:
    """What to add to the curvature so that a Newton step goes as far as training on `n` samples
    would: its weight decay, and 1 / t, t the sum of its steps (`Recipe.sum_steps`).

    Along curvature h, gradient descent goes (1 - exp(-t h)) / h times the gradient, about 1 / (h +
    1 / t): it follows the gradient where it was short, and converges where it was long.
    """
    return recipe.weight_decay + 1 / recipe.sum_steps(n)


def measure_curvature(
    network: nn.Module, samples: Samples, direction: Weights, ctx: Context
) -> float:
    """The curvature of the mean loss along a direction: d^T H d / d^T d. 0 for a direction of
    length 0."""
    length_sq = dot(direction, direction)
    if not length_sq:
        return 0.0
    return dot(direction, multiply_curvature(network, samples, direction, ctx)) / length_sq


def dot(one: Weights, other: Weights) -> float:
    return sum((a.double() * other[name].double()).sum().item() for name, a in one.items())


def add(one: Weights, other: Weights, alpha: float) -> Weights:
    return {name: a + alpha * other[name] for name, a in one.items()}


@differentiable_attention()
def _multiply_gauss_newton(
    network: nn.Module, weights: Weights, images: Tensor, direction: Weights
) -> Weights:
    """Sum over the images of J^T (diag p - p p^T) J direction."""

    def compute_logits(w: Weights) -> Tensor:
        return functional_call(network, w, (images,))

    logits, logit_changes = jvp(compute_logits, (weights,), (direction,))[:2]
    p = softmax(logits, dim=1)
    weighted = p * (logit_changes - (p * logit_changes).sum(1, keepdim=True))
    pullback = vjp(compute_logits, weights)[1]
    (product,) = pullback(weighted)
    return dict(product)
