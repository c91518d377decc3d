"""A model behind an API: probabilities for images, and a count of the queries."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.plugins import Params

BATCH_SIZE = 64  # what fits into a core's cache: with 512 a convolution is more than twice as slow


class OracleParams(Params):
    """What the API returns: base class of the parameters of everything that queries it.

    The precision determines whether a small change of the weights is visible.
    """

    precision: Literal["float32", "float64"] = Field(
        "float32", description="type of the API's probabilities"
    )
    decimals: int | None = Field(
        None, ge=1, le=17, description="decimal places that the API returns; null: all"
    )


class Oracle:
    """What a user of a prediction API can do."""

    def __init__(self, network: nn.Module, device: torch.device, api: OracleParams) -> None:
        self._dtype = {"float32": torch.float32, "float64": torch.float64}[api.precision]
        self._network = network.to(device, self._dtype).to(memory_format=torch.channels_last).eval()
        self._device = device
        self._decimals = api.decimals
        self.query_count = 0

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities float64 [N, K] of images [N, C, H, W] in [0, 1]; N queries."""
        self.query_count += len(images)
        parts = [
            self._network(part.to(self._device, self._dtype)).softmax(1).cpu()
            for part in images.split(BATCH_SIZE)
        ]
        probabilities = torch.cat(parts).double()
        return (
            probabilities
            if self._decimals is None
            else probabilities.round(decimals=self._decimals)
        )
