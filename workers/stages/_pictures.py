"""The images of an evaluation, with what stands under them: the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.ml.finding import Pictures
from shared.ml.tensors import write_tensors
from workers.context import Output


def pictures_of(evaluation: Mapping[str, Any], pictures: Pictures | None) -> Output:
    """PICTURES: each kind of image as [n, C, H, W], or nothing where nothing can be shown."""
    if pictures is None:
        return Output(write_tensors({}, {}))
    whose = {name: evaluation[name] for name in ("unlearning", "defense", "attack", "seed")}
    images = {name: tensor.flatten(0, 1) for name, tensor in pictures.images.items()}
    return Output(write_tensors(images, whose | pictures.about))
