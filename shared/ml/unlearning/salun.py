"""Random labels, learned only by the weights that are salient for the forget set."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.sgd import descend
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import WrongLabelParams, draw_wrong_labels
from shared.roles import Role


class SalUnParams(WrongLabelParams):
    share: float = Field(
        0.5, gt=0, le=1, description="share of the weights that are updated: the most salient ones"
    )


@registry.register(
    "salun",
    params=SalUnParams,
    needs=(Role.ORIGINAL,),
    source="Fan et al. 2024, arXiv 2310.12508, equations 3 to 5",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: SalUnParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: random labels, but only the weights with the largest gradients on the forget
    set are updated.

    As published, salient weights are those with the largest gradient on the forget set over all
    layers, and wrong labels are never the true one. Retained and forgotten samples are mixed, each
    once per epoch.

    Raises:
        JobFailed: `invalid`, the loss is not finite.
    """
    network = inputs.original.to(ctx.device).eval()
    masks = _build_saliency_masks(network, forget, params.share, ctx)
    wrong = draw_wrong_labels(network, forget, ctx)
    images, labels = torch.cat([retain.images, forget.images]), torch.cat([retain.labels, wrong])

    def compute_batch_loss(batch: Tensor, _step: int) -> Tensor:
        return compute_loss(network(images[batch].to(ctx.device)), labels[batch].to(ctx.device))

    descend(network, len(labels), params.to_recipe(inputs.recipe), ctx, compute_batch_loss, masks)
    return network


def _build_saliency_masks(
    network: nn.Module, forget: Samples, share: float, ctx: Context
) -> dict[str, Tensor]:
    """1 for the `share` of all weights with the largest gradient on the forget set, else 0."""
    weights = dict(network.named_parameters())
    loss = compute_loss(network(forget.images.to(ctx.device)), forget.labels.to(ctx.device))
    magnitudes = [g.abs() for g in torch.autograd.grad(loss, list(weights.values()))]
    flat = torch.cat([s.flatten() for s in magnitudes])
    mask = torch.zeros_like(flat)
    mask[flat.argsort(descending=True, stable=True)[: max(1, round(share * len(flat)))]] = 1
    parts = mask.split([s.numel() for s in magnitudes])
    return {name: part.view_as(s) for name, part, s in zip(weights, parts, magnitudes, strict=True)}
