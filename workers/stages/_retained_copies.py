"""Copies of deleted samples that stay in the training set: the model still learns from them."""

from __future__ import annotations

import hashlib

from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.records import ForgetSets, TrainingSet
from shared.roles import Role
from workers.context import JobContext


def find_retained_copies(ctx: JobContext, truth: ForgetSets) -> list[int]:
    """Deletions, from 0, of a sample of which another sample of the training set is an equal copy
    that this deletion does not forget.

    Raises:
        InvalidRequest: TRAINING_SET is of other data, or lacks forgotten samples.
    """
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    forgotten = {index for row in truth.indices for index in row}
    if training.digest != truth.digest or not forgotten <= {*training.indices}:
        raise InvalidRequest(
            "FORGET_SETS contains samples that are not in this TRAINING_SET",
            f"inputs.{Role.FORGET_SETS}",
        )
    images = training.load_train_split(Role.TRAINING_SET).images
    places: dict[bytes, set[int]] = {}
    for index in training.indices:
        places.setdefault(hash_image(images[index]), set()).add(index)
    return [
        deletion
        for deletion, row in enumerate(truth.indices)
        if any(places[hash_image(images[index])] - {*row} for index in row)
    ]


def hash_image(image: Tensor) -> bytes:
    """Equal for equal images [C, H, W]."""
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
