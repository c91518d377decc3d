"""Stochastic gradient descent that can stop after any step and go on bit-equal."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.optimisers import read_state, write_state
from shared.ml.training.private import poisson, private_gradients
from shared.ml.training.recipe import Recipe

Loss = Callable[[Tensor, int], Tensor]
Gradients = dict[str, Tensor]
Change = Callable[[Tensor, Gradients], None]


def train(network: nn.Module, samples: Samples, recipe: Recipe, ctx: Context, record: Change | None = None) -> float:
    """Train `network` in place on the mean cross-entropy of `samples`, by DP-SGD if the recipe says so.

    Args:
        record: is told of every step which samples it saw (their positions) and by how much the weights changed.

    Returns:
        mean loss of the last epoch's steps, in nats.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
        InvalidRequest: DP-SGD with BatchNorm that is trained.
    """
    n = len(samples.labels)

    def loss_of(picked: Tensor, _step: int) -> Tensor:
        images, labels = samples.pick(picked)
        return compute_loss(network(images.to(ctx.device)), labels.to(ctx.device))

    def private(_picked: Tensor, step: int) -> tuple[Tensor, float, Gradients]:
        picked = poisson(n, recipe, ctx, step)
        loss, gradients = private_gradients(network, samples.pick(picked), min(n, recipe.batch_size), recipe, ctx, step)
        return picked, loss, gradients

    if not recipe.private:
        return _run(network, n, recipe, ctx, _plain(network, loss_of), record)
    if recipe.batch_norm == "trained":
        raise InvalidRequest(
            "DP-SGD needs batch_norm frozen: a batch's statistics mix its samples", "params.batch_norm"
        )
    return _run(network, n, recipe, ctx, private, record)


def descend(
    network: nn.Module, n: int, recipe: Recipe, ctx: Context, loss_of: Loss, masks: Gradients | None = None
) -> float:
    """Lower a loss over `n` samples, in place, on the context's device; ends in eval mode.

    Args:
        loss_of: the loss of a step, from the samples picked for it (indices below n) and its number.
        masks: by weight's name, 1 where the weight may move and 0 where not; all may when not given.

    Returns:
        mean loss of the last epoch's steps, in nats.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """
    return _run(network, n, recipe, ctx, _plain(network, loss_of), None, masks)


# From the samples whose turn it is and the step's number: those it looked at, their loss, its gradient.
Step = Callable[[Tensor, int], tuple[Tensor, float, Gradients]]


def _plain(network: nn.Module, loss_of: Loss) -> Step:
    weights = dict(network.named_parameters())

    def step_of(picked: Tensor, step: int) -> tuple[Tensor, float, Gradients]:
        loss = loss_of(picked, step)
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        return picked, loss.item(), gradients

    return step_of


def _run(
    network: nn.Module,
    n: int,
    recipe: Recipe,
    ctx: Context,
    step_of: Step,
    record: Change | None,
    masks: Gradients | None = None,
) -> float:
    """All steps. The order of epoch e is drawn from the generator `epoch e`: a step's number is all of the position."""
    network.to(ctx.device).train(recipe.batch_norm == "trained")
    weights = dict(network.named_parameters())
    # one tensor after another: several together (foreach) may differ in the last bit
    optimiser = torch.optim.SGD(
        weights.values(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, foreach=False
    )
    total = recipe.steps(n)
    start, losses = _resume(network, optimiser, ctx)
    order = _order(ctx, start // (total // recipe.epochs), n)
    for step in range(start, total):
        epoch, batch = divmod(step, total // recipe.epochs)
        if batch == 0:
            order, losses = _order(ctx, epoch, n), []
        turn = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
        picked, loss, gradients = step_of(turn, step)
        if not math.isfinite(loss):
            raise JobFailed("invalid", f"training diverged: the loss at step {step} is {loss}; lower lr")
        losses.append(loss)
        before = {name: w.detach().clone() for name, w in weights.items()} if record or masks else {}
        optimiser.param_groups[0]["lr"] = recipe.lr_at(step, total)
        for name, weight in weights.items():
            weight.grad = gradients[name]
        optimiser.step()
        optimiser.zero_grad()
        if masks:
            _put_back(weights, before, masks)
        if record:
            record(picked, {name: weights[name].detach() - w for name, w in before.items()})
        ctx.progress(step + 1, total, loss=loss)
        if ctx.due():
            state = {f"network.{k}": v for k, v in network.state_dict().items()}
            state |= {f"optimiser.{k}": v for k, v in write_state(optimiser).items()}
            ctx.save(step + 1, state | {"losses": torch.tensor(losses, dtype=torch.float64)})
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
def _put_back(weights: dict[str, nn.Parameter], before: dict[str, Tensor], masks: Gradients) -> None:
    """Undo a step where the mask is 0: weight decay and momentum, too, would move a weight that must stay."""
    for name, weight in weights.items():
        weight.copy_(torch.where(masks[name] > 0, weight, before[name]))


def _resume(network: nn.Module, optimiser: torch.optim.Optimizer, ctx: Context) -> tuple[int, list[float]]:
    """How many steps are done, and the losses of those of the epoch at hand."""
    found = ctx.resume()
    if found is None:
        return 0, []
    step, tensors = found
    network.load_state_dict({k: tensors[f"network.{k}"] for k in network.state_dict()})
    start = "optimiser."
    read_state(optimiser, {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)})
    return step, tensors["losses"].tolist()


@torch.no_grad()
def logits(network: nn.Module, images: Tensor, device: torch.device, batch: int = 64) -> Tensor:
    """Logits [N, num_classes] of images [N, C, H, W], on the CPU; the network in eval mode.

    Batch and memory format are those that run quickest on one core: 64 fit into its cache.
    """
    network.to(device).to(memory_format=torch.channels_last).eval()
    return torch.cat([network(part.to(device)).cpu() for part in images.split(batch)])
