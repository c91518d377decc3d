"""Any classifier of torchvision, by its name there."""

from __future__ import annotations

from functools import cache, partial
from typing import Annotated, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from shared.ml.models import registry
from shared.ml.models._library import build_by_name, name_check, name_field
from shared.plugins import Params


@cache
def list_names() -> tuple[str, ...]:
    """Builders of classifiers."""
    from torchvision import models  # here, as it brings all of torchvision along

    return tuple(models.list_models(module=models))


class TorchvisionParams(Params):
    name: Annotated[str, name_check(list_names)] = name_field(
        "torchvision", "name of the builder in torchvision.models"
    )


@registry.register(
    "torchvision",
    params=TorchvisionParams,
    source="torchvision maintainers and contributors 2016",
    min_size=2,
    channels=3,
)
def build(
    input_shape: tuple[int, int, int], num_classes: int, params: TorchvisionParams
) -> nn.Module:
    """A classifier of torchvision, by name, with initial weights.

    For images of three channels. googlenet and inception_v3 are built without their auxiliary
    heads, which have no part in what they answer. Images [N, 3, H, W] -> logits [N, num_classes].
    """
    return build_by_name("torchvision", _build, params.name, input_shape, num_classes)


def _build(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    from torchvision import models

    _, height, width = input_shape
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        if height != width:
            raise ValueError("its images are square")
        options["image_size"] = height
    elif name.startswith("maxvit"):
        options["input_size"] = (height, width)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    build_model = partial(models.get_model, name, weights=None, num_classes=num_classes, **options)
    if name.startswith("regnet"):
        with _NumbersOnCpu():
            return build_model()
    return build_model()


class _NumbersOnCpu(TorchFunctionMode):
    """What is made from numbers holds them on the meta device too: a regnet computes its widths
    so."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in (torch.arange, torch.tensor):
            options.setdefault("device", "cpu")
        return func(*args, **options)
