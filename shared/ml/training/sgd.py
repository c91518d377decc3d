"""Stochastic gradient descent that can stop after any step and resume bit-equal."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.optimisers import flatten_state, restore_state
from shared.ml.training.private import compute_private_gradients, draw_poisson_batch
from shared.ml.training.recipe import Recipe

LossFunction = Callable[[Tensor, int], Tensor]
Gradients = dict[str, Tensor]
StepRecorder = Callable[[Tensor, Gradients], None]


def train(
    network: nn.Module,
    samples: Samples,
    recipe: Recipe,
    ctx: Context,
    record_step: StepRecorder | None = None,
) -> float:
    """Train `network` in place on the mean cross-entropy of `samples`, by DP-SGD if the recipe says
    so.

    Args:
        record_step: called after every step with the positions of its samples and the change of the
            weights.

    Returns:
        mean loss of the last epoch's steps, in nats.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
        InvalidRequest: DP-SGD with trained BatchNorm.
    """
    n = len(samples.labels)

    def compute_batch_loss(batch: Tensor, _step: int) -> Tensor:
        images, labels = samples.pick(batch)
        return compute_loss(network(images.to(ctx.device)), labels.to(ctx.device))

    def take_private_step(_batch: Tensor, step: int) -> tuple[Tensor, float, Gradients]:
        batch = draw_poisson_batch(n, recipe, ctx, step)
        loss, gradients = compute_private_gradients(
            network, samples.pick(batch), min(n, recipe.batch_size), recipe, ctx, step
        )
        return batch, loss, gradients

    if not recipe.is_private:
        return _run_steps(
            network, n, recipe, ctx, _build_plain_step(network, compute_batch_loss), record_step
        )
    if recipe.batch_norm == "trained":
        raise InvalidRequest(
            "DP-SGD needs batch_norm frozen: a batch's statistics mix its samples",
            "params.batch_norm",
        )
    return _run_steps(network, n, recipe, ctx, take_private_step, record_step)


def descend(
    network: nn.Module,
    n: int,
    recipe: Recipe,
    ctx: Context,
    compute_batch_loss: LossFunction,
    masks: Gradients | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> float:
    """Lower a loss over `n` samples, in place, on the context's device; ends in eval mode.

    Args:
        compute_batch_loss: the loss of a step, from its samples (indices below n) and its number.
        masks: by weight name, 1 where the weight may move and 0 where not; None: all may move.
        after_epoch: called after every epoch with the number of steps taken.

    Returns:
        mean loss of the last epoch's steps, in nats.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """
    return _run_steps(
        network,
        n,
        recipe,
        ctx,
        _build_plain_step(network, compute_batch_loss),
        None,
        masks,
        after_epoch,
    )


# From the samples due and the step's number: the samples used, their loss, its gradient.
StepFunction = Callable[[Tensor, int], tuple[Tensor, float, Gradients]]


def _build_plain_step(network: nn.Module, compute_batch_loss: LossFunction) -> StepFunction:
    weights = dict(network.named_parameters())

    def take_step(batch: Tensor, step: int) -> tuple[Tensor, float, Gradients]:
        loss = compute_batch_loss(batch, step)
        gradients = dict(
            zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)
        )
        return batch, loss.item(), gradients

    return take_step


def build_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD over all weights of the network, at the recipe's learning rate, momentum and weight
    decay."""
    # one tensor after another: several together (foreach) may differ in the last bit
    return torch.optim.SGD(
        network.parameters(),
        recipe.lr,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        foreach=False,
    )


def _run_steps(
    network: nn.Module,
    n: int,
    recipe: Recipe,
    ctx: Context,
    take_step: StepFunction,
    record_step: StepRecorder | None,
    masks: Gradients | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> float:
    """All steps. The order of epoch e is drawn from the generator `epoch e`, so the step's number
    is the whole state."""
    network.to(ctx.device).train(recipe.batch_norm == "trained")
    weights = dict(network.named_parameters())
    optimiser = build_optimiser(network, recipe)
    total = recipe.count_steps(n)
    start, losses = _load_checkpoint(network, optimiser, ctx)
    order = _draw_order(ctx, start // (total // recipe.epochs), n)
    for step in range(start, total):
        epoch, batch_index = divmod(step, total // recipe.epochs)
        if batch_index == 0:
            order, losses = _draw_order(ctx, epoch, n), []
        drawn_batch = order[batch_index * recipe.batch_size : (batch_index + 1) * recipe.batch_size]
        used_batch, loss, gradients = take_step(drawn_batch, step)
        if not math.isfinite(loss):
            raise JobFailed(
                "invalid", f"training diverged: the loss at step {step} is {loss}; lower lr"
            )
        losses.append(loss)
        before = (
            {name: w.detach().clone() for name, w in weights.items()}
            if record_step or masks
            else {}
        )
        optimiser.param_groups[0]["lr"] = recipe.get_lr(step, total)
        for name, weight in weights.items():
            weight.grad = gradients[name]
        optimiser.step()
        optimiser.zero_grad()
        if masks:
            _restore_masked(weights, before, masks)
        if record_step:
            record_step(
                used_batch, {name: weights[name].detach() - w for name, w in before.items()}
            )
        ctx.report_progress(step + 1, total, loss=loss)
        if ctx.is_checkpoint_due():
            state = {f"network.{k}": v for k, v in network.state_dict().items()}
            state |= {f"optimiser.{k}": v for k, v in flatten_state(optimiser).items()}
            ctx.save_checkpoint(
                step + 1, state | {"losses": torch.tensor(losses, dtype=torch.float64)}
            )
        if after_epoch and (step + 1) % (total // recipe.epochs) == 0:
            after_epoch(step + 1)
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


def _draw_order(ctx: Context, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=ctx.make_generator(f"epoch {epoch}"))


@torch.no_grad()
def _restore_masked(
    weights: dict[str, nn.Parameter], before: dict[str, Tensor], masks: Gradients
) -> None:
    """Undo a step where the mask is 0: weight decay and momentum, too, would move a weight that
    must stay."""
    for name, weight in weights.items():
        weight.copy_(torch.where(masks[name] > 0, weight, before[name]))


def _load_checkpoint(
    network: nn.Module, optimiser: torch.optim.Optimizer, ctx: Context
) -> tuple[int, list[float]]:
    """How many steps are done, and the losses of those of the epoch at hand."""
    checkpoint = ctx.load_checkpoint()
    if checkpoint is None:
        return 0, []
    step, tensors = checkpoint
    network.load_state_dict({k: tensors[f"network.{k}"] for k in network.state_dict()})
    prefix = "optimiser."
    restore_state(
        optimiser, {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    )
    return step, tensors["losses"].tolist()


@torch.no_grad()
def compute_logits(
    network: nn.Module, images: Tensor, device: torch.device, batch_size: int = 64
) -> Tensor:
    """Logits [N, num_classes] of images [N, C, H, W], on the CPU; the network in eval mode.

    Batch and memory format are those that run quickest on one core: 64 fit into its cache.
    """
    network.to(device).to(memory_format=torch.channels_last).eval()
    return torch.cat([network(part.to(device)).cpu() for part in images.split(batch_size)])
