"""Any model of timm, by its name there."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from torch import nn

from shared.ml.models import registry
from shared.ml.models._library import build_by_name, name_check, name_field
from shared.plugins import Params


@cache
def list_names() -> tuple[str, ...]:
    """Architectures, without the tags of their published weights."""
    import timm  # here, as it brings a thousand models along

    return tuple(timm.list_models())


class TimmParams(Params):
    name: Annotated[str, name_check(list_names)] = name_field(
        "timm", "name of the architecture in timm, without the tag of published weights"
    )


@registry.register(
    "timm",
    params=TimmParams,
    source="Wightman 2019, PyTorch image models",
    min_size=2,
)
def build(input_shape: tuple[int, int, int], num_classes: int, params: TimmParams) -> nn.Module:
    """A model of timm, by name, with initial weights.

    For any number of channels. Models that are made for one size of images are built for the size
    given. Images [N, C, H, W] -> logits [N, num_classes].
    """
    return build_by_name("timm", _build, params.name, input_shape, num_classes)


def _build(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    import timm

    channels, height, width = input_shape
    options: dict[str, Any] = {}
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        options["img_size"] = (height, width)
    return timm.create_model(
        name, pretrained=False, in_chans=channels, num_classes=num_classes, **options
    )
