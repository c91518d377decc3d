"""COMPARISON: how models that a user has brought differ, and what is odd about them. Written by the
stage `ingest`, read by `report`.

It is untrusted, as an EVALUATION is: every value has bounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.evaluation import FrozenModel, Share, WideNumber

MAX_DELETIONS, MAX_TENSORS, MAX_FINDINGS = 100, 1000, 200
MAX_BYTES = 16 << 20


class PairWarning(FrozenModel):
    """Something odd about a pair of models."""

    severity: Literal["refused", "warning", "note"]
    code: Annotated[str, Field(max_length=60)]
    message: Annotated[str, Field(max_length=600)] = Field(
        description="a sentence that says what to do"
    )


class TensorDifference(FrozenModel):
    """One tensor of the model before and after."""

    name: Annotated[str, Field(max_length=500)]
    buffer: bool = Field(description="whether it is no trained weight")
    size: int = Field(ge=0, le=1 << 40)
    relative_change: WideNumber | None = Field(
        description="length of the difference / length before; null if that is 0"
    )
    unchanged_share: Share = Field(description="share of values that did not move at all")


class ModelDifference(FrozenModel):
    """The original and the model after one deletion."""

    relative_change: WideNumber = Field(description="of all weights together")
    unchanged_share: Share
    tensors: list[TensorDifference] = Field(max_length=MAX_TENSORS)


class Comparison(FrozenModel):
    """All deletions of one release."""

    release: Annotated[str, Field(max_length=40)]
    dtypes: list[Annotated[str, Field(max_length=20)]] = Field(
        max_length=20, description="number formats of all files"
    )
    prefixes: list[Annotated[str, Field(max_length=40)]] = Field(
        max_length=40, description="of all names of a file, which were removed"
    )
    original_test_accuracy: Share
    deletions: list[ModelDifference] = Field(min_length=1, max_length=MAX_DELETIONS)
    findings: list[PairWarning] = Field(max_length=MAX_FINDINGS)
