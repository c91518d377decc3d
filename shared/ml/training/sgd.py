"""Stochastic gradient descent that can stop after any step and go on bit-equal."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.datasets._base import Samples
from shared.ml.training.recipe import Recipe

Loss = Callable[[Tensor, int], Tensor]


def train(network: nn.Module, samples: Samples, recipe: Recipe, ctx: Context) -> float:
    """Train `network` in place on the mean cross-entropy of `samples`; see `descend`.

    Returns:
        mean loss of the last epoch's steps since the start or the last resume, in nats.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """

    def loss_of(picked: Tensor, _step: int) -> Tensor:
        images, labels = samples.pick(picked)
        return cross_entropy(network(images.to(ctx.device)), labels.to(ctx.device))

    return descend(network, len(samples.labels), recipe, ctx, loss_of)


def descend(
    network: nn.Module, n: int, recipe: Recipe, ctx: Context, loss_of: Loss, masks: dict[str, Tensor] | None = None
) -> float:
    """Lower a loss over `n` samples, in place, on the context's device; ends in eval mode.

    The order of epoch e is drawn from the generator `epoch e`, so a step number is all of the position.

    Args:
        loss_of: the loss of a step, from the samples picked for it (indices below n) and its number.
        masks: by weight's name, 1 where the weight may move and 0 where not; all may when not given.

    Returns:
        mean loss of the last epoch's steps since the start or the last resume, in nats.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """
    network.to(ctx.device).train(recipe.batch_norm == "trained")
    weights = dict(network.named_parameters())
    velocity = {name: torch.zeros_like(w) for name, w in weights.items()}
    total = recipe.steps(n)
    start = _resume(network, velocity, ctx)
    losses: list[float] = []
    order = _order(ctx, start // (total // recipe.epochs), n)
    for step in range(start, total):
        epoch, batch = divmod(step, total // recipe.epochs)
        if batch == 0:
            order, losses = _order(ctx, epoch, n), []
        loss = loss_of(order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size], step)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise JobFailed("invalid", f"training diverged: the loss at step {step} is {losses[-1]}; lower lr")
        gradients = torch.autograd.grad(loss, list(weights.values()))
        _step(weights, velocity, gradients, recipe, recipe.lr_at(step, total), masks)
        ctx.progress(step + 1, total, loss=losses[-1])
        if ctx.due():
            state = {f"network.{k}": v for k, v in network.state_dict().items()}
            ctx.save(step + 1, state | {f"velocity.{k}": v for k, v in velocity.items()})
    require_finite(network, f"training diverged: after step {total - 1}", "lower lr")
    network.eval()
    return sum(losses) / max(1, len(losses))


def require_finite(network: nn.Module, when: str, remedy: str) -> None:
    """Refuse weights and statistics that are not finite.

    Raises:
        JobFailed: `invalid`; says `when` they were so and the `remedy`.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise JobFailed("invalid", f"{when} {name!r} is not finite; {remedy}")


def _order(ctx: Context, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=ctx.generator(f"epoch {epoch}"))


@torch.no_grad()
def _step(
    weights: dict[str, nn.Parameter],
    velocity: dict[str, Tensor],
    gradients: tuple[Tensor, ...],
    recipe: Recipe,
    lr: float,
    masks: dict[str, Tensor] | None,
) -> None:
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        change = velocity[name].mul_(recipe.momentum).add_(gradient).add_(weight, alpha=recipe.weight_decay)
        if masks is not None:
            change.mul_(masks[name])  # all of it: weight decay, too, would move a weight that must stay
        weight.sub_(change, alpha=lr)


def _resume(network: nn.Module, velocity: dict[str, Tensor], ctx: Context) -> int:
    found = ctx.resume()
    if found is None:
        return 0
    step, tensors = found
    network.load_state_dict({k: tensors[f"network.{k}"] for k in network.state_dict()})
    for name, v in velocity.items():
        v.copy_(tensors[f"velocity.{name}"])
    return step


@torch.no_grad()
def logits(network: nn.Module, images: Tensor, device: torch.device, batch: int = 64) -> Tensor:
    """Logits [N, num_classes] of images [N, C, H, W], on the CPU; the network in eval mode.

    Batch and memory format are those that run quickest on one core: 64 fit into its cache.
    """
    network.to(device).to(memory_format=torch.channels_last).eval()
    return torch.cat([network(part.to(device)).cpu() for part in images.split(batch)])
