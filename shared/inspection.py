"""INSPECTION: what a check has found in a declared model or data set. Written by the stages
`inspect_model` and `inspect_dataset`, shown by the gateway.

It is untrusted, as an EVALUATION is: every value has bounds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.evaluation import ClassName, Digest, FrozenModel, Share

MAX_NAMES = 1000  # of classes
MAX_BYTES = 1 << 20

Size = Annotated[int, Field(ge=0, le=1 << 40)]


class ModelInspection(FrozenModel):
    """A file of weights that fits its declaration."""

    parameters: Size = Field(description="trained values; tied tensors count once")
    tensors: Size = Field(description="buffers included")
    dtypes: dict[Annotated[str, Field(max_length=20)], Size] = Field(
        max_length=20, description="number of tensors by number format"
    )
    resolution: float = Field(
        ge=0, le=1, description="largest relative rounding error of the coarsest format"
    )
    prefixes: list[Annotated[str, Field(max_length=40)]] = Field(
        max_length=40, description="of all names, which were removed; outermost first"
    )
    tied: Size = Field(description="tensors that are there under several names")
    filled: Size = Field(description="batch counters that the file lacks")
    test_accuracy: Share | None = Field(None, description="on the test data; null without any")
    test_samples: Size | None = Field(None, description="samples that the accuracy was measured on")


class SplitInspection(FrozenModel):
    """The samples of one split."""

    samples: Size
    digest: Digest = Field(description="sha256 of the values as they were read")
    lowest_label: Size | None = Field(description="null if there are no samples")
    highest_label: Size | None = Field(description="null if there are no samples")


class DatasetInspection(FrozenModel):
    """A data set that can be read."""

    input_shape: tuple[Size, Size, Size] = Field(
        description="C, H, W of an image; F, 1, 1 of a table with F features"
    )
    num_classes: Size
    classes: list[ClassName] = Field(
        max_length=MAX_NAMES, description="names in the order of their labels"
    )
    train: SplitInspection
    test: SplitInspection
