"""The images of an evaluation, with what stands under them: the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from shared.ml.tensors import write_tensors
from workers.context import Output


def pictures_of(evaluation: Mapping[str, Any], labels: Tensor, images: Mapping[str, Tensor]) -> Output:
    """PICTURES: `truth`, `reconstruction` and `class_mean` as [n, C, H, W], or nothing where nothing was rebuilt.

    Args:
        images: by name, [D, k, C, H, W] in [0, 1]; labels [D, k].
    """
    if not images:
        return Output(write_tensors({}, {}))
    psnr, ranks = evaluation["metrics"]["psnr"], evaluation["identification"]
    about = {
        **{name: evaluation[name] for name in ("unlearning", "defense", "attack", "seed")},
        "labels": labels.flatten().tolist(),
        "psnr": psnr["values"],
        "null_psnr": psnr["null_values"]["class_mean"],
        "ranks": ranks.get("ranks", []),
        "decoys": ranks["decoys"],
    }
    return Output(write_tensors({name: tensor.flatten(0, 1) for name, tensor in images.items()}, about))
