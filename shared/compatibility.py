"""Which model accepts which data, decided from their traits alone, so that gateway and workers
agree."""

from __future__ import annotations

from collections.abc import Sequence

from shared.plugins import ModelTraits

MAX_FEATURES = 512  # of a table


def incompatibility_reason(
    model: str, traits: ModelTraits, shape: Sequence[int | None]
) -> str | None:
    """Why a model does not take data of this shape, in words; None where it does.

    Args:
        traits: the model's.
        shape: C, H, W of a sample; None is not known yet. A row of a table is F, 1, 1.
    """
    min_side, sides = traits.min_size, [side for side in shape[1:] if side is not None]
    if not all(side >= min_side for side in sides):
        described_shape = "a table" if sides == [1, 1] else " x ".join(str(side) for side in sides)
        return (
            f"{model} needs images of at least {min_side} x {min_side} pixels, not "
            f"{described_shape}"
        )
    channels = shape[0] if shape else None
    if traits.channels is not None and channels is not None and channels != traits.channels:
        return f"{model} needs images of {traits.channels} channels, not {channels}"
    return None
