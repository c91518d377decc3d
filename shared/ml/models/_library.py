"""Models of a library, built by the library's own name for them and never with its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.param_schema import explain_unknown_value

# Weights and buffers of one network: 0.8 GB in float32, of which an attack holds several copies.
MAX_TENSOR_ELEMENTS = 200_000_000

NAMES_FOLDER = Path(__file__).parent / "files"

Builder = Callable[[str, tuple[int, int, int], int], nn.Module]


def name_field(library: str, description: str) -> Any:
    """A parameter that is one of a library's names, which it publishes; with `name_check`.

    What is published is a list that was written down, as asking the library takes seconds of every
    worker's start: a test holds it equal to that of the locked version.
    """
    names = (NAMES_FOLDER / f"{library}.txt").read_text().split()
    return Field(
        max_length=100,
        description=description,
        examples=["resnet18"],
        json_schema_extra={"enum": list(names)},
    )


def name_check(list_names: Callable[[], Sequence[str]]) -> AfterValidator:
    """Refuses what is not among the names, and says which are nearest."""

    def check(name: str) -> str:
        if name not in (known := list_names()):
            raise PydanticCustomError(
                "unknown_name", "{problem}", {"problem": explain_unknown_value(name, known)}
            )
        return name

    return AfterValidator(check)


def build_by_name(
    library: str,
    build: Builder,
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """`build(name, input_shape, num_classes)`, once the same on the meta device has shown that it
    is not too large and maps such images to logits.

    Raises:
        InvalidRequest: it does not, or has more than `MAX_TENSOR_ELEMENTS` numbers.
    """
    _check_on_meta(library, build, name, input_shape, num_classes)
    return build(name, input_shape, num_classes)


@lru_cache(maxsize=256)
def _check_on_meta(
    library: str, build: Builder, name: str, input_shape: tuple[int, int, int], num_classes: int
) -> None:
    label, size = f"{library} {name}", " x ".join(str(n) for n in input_shape)
    # the caller's random numbers must not depend on whether this has been checked before
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        try:
            network = build(name, input_shape, num_classes).eval()
            elements = sum(t.numel() for t in (*network.parameters(), *network.buffers()))
            logits = (
                network(torch.empty(1, *input_shape)) if elements <= MAX_TENSOR_ELEMENTS else None
            )
        except Exception as error:  # each model refuses a size in its own way
            raise InvalidRequest(
                f"{label} does not take images of {size} (channels, height, width): use the size "
                "that it was made for, or another model",
                "params.model",
            ) from error
    if elements > MAX_TENSOR_ELEMENTS:
        raise InvalidRequest(
            f"{label} has {elements / 1e6:,.0f} million weights, above the limit of "
            f"{MAX_TENSOR_ELEMENTS / 1e6:,.0f} million: use a smaller model",
            "params.model",
        )
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise InvalidRequest(
            f"{label} does not map images to one score per class: use another model",
            "params.model",
        )
