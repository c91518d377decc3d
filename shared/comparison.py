"""COMPARISON: how models that a user has brought differ, and what is odd about them. Written by the
stage `ingest`, read by `report`.

It is untrusted, as an EVALUATION is: every value has bounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.evaluation import Count, FrozenModel, Share, WideNumber

MAX_DELETIONS, MAX_TENSORS, MAX_FINDINGS = 100, 1000, 200
MAX_LISTED = 20_000  # tensors of all deletions together
MAX_BUFFERS = 20  # of a deletion, that are named
MAX_BYTES = 16 << 20

Length = Annotated[WideNumber, Field(ge=0)]  # Euclidean
TensorName = Annotated[str, Field(max_length=500)]
Cosine = Annotated[float, Field(ge=-1, le=1)]


class PairWarning(FrozenModel):
    """Something odd about a pair of models."""

    severity: Literal["refused", "warning", "note"]
    code: Annotated[str, Field(max_length=60)]
    message: Annotated[str, Field(max_length=600)] = Field(
        description="a sentence that says what to do"
    )


class TensorDifference(FrozenModel):
    """One tensor of weights, before and after."""

    name: TensorName
    size: int = Field(ge=0, le=1 << 40)
    length: Length = Field(description="of all its values before")
    change: Length = Field(description="length of the difference")
    unchanged_share: Share = Field(description="share of values that did not move at all")


class OtherTensors(FrozenModel):
    """Weights beyond those that are listed, which moved less: all together."""

    count: Count
    size: int = Field(ge=0, le=1 << 50)
    length: Length
    change: Length
    unchanged_share: Share


class ModelDifference(FrozenModel):
    """The original and the model after one deletion."""

    relative_change: WideNumber = Field(description="of all weights together")
    unchanged_share: Share
    cosine: Cosine | None = Field(
        None, description="between all kernels and matrices of the two; null: one has only zeros"
    )
    resolution: Share = Field(description="relative rounding error of the coarser file")
    moved_buffers: list[TensorName] = Field(
        default_factory=list, max_length=MAX_BUFFERS, description="the first ones, by name"
    )
    moved_buffer_count: int = Field(0, ge=0, le=1 << 40)
    tensors: list[TensorDifference] = Field(
        max_length=MAX_TENSORS, description="those that moved most, in the order of the network"
    )
    others: OtherTensors | None = Field(None, description="null: all weights are listed")


class Comparison(FrozenModel):
    """All deletions of one release, and which samples and weights were brought with it."""

    release: Annotated[str, Field(max_length=40)]
    with_deleted: bool
    with_public: bool
    with_base: bool
    dtypes: list[Annotated[str, Field(max_length=20)]] = Field(
        max_length=20, description="number formats of all files"
    )
    prefixes: list[Annotated[str, Field(max_length=40)]] = Field(
        max_length=40, description="of all names of a file, which were removed"
    )
    original_test_accuracy: Share | None = Field(description="null: no public samples were brought")
    deletions: list[ModelDifference] = Field(min_length=1, max_length=MAX_DELETIONS)
    findings: list[PairWarning] = Field(max_length=MAX_FINDINGS)
