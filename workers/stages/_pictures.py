"""PICTURES: the images of an evaluation, with what stands under them. `evaluate` writes them, the report reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.fit import MAX_FEATURES
from shared.jobs.spec import Seed
from shared.ml.finding import Pictures
from shared.ml.tensors import read_tensors, write_tensors
from shared.reporting.evaluations import check_json
from shared.reporting.models import Defense, JSONObject, Label, Method, Number, Part, Unlearning
from shared.roles import Role
from workers.context import Output

DRAWN = Role.RECONSTRUCTION  # the kind that reports draw, by the artifact of its attacks
NAMES = ("truth", "reconstruction", "class_mean")
KindName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,39}$")]
Rank = Annotated[int, Field(ge=1, le=1_000_001)]


class Captions(Part):
    """What stands under images that were rebuilt."""

    psnr: list[Number]
    null_psnr: list[Number]
    ranks: list[Rank] = Field(default_factory=list)
    labels: list[Label] = Field(default_factory=list)
    decoys: int = Field(0, ge=0, le=1_000_000)


class About(Part):
    """What a PICTURES file says of itself; `kinds` has what each kind says of its pictures."""

    seed: Seed
    unlearning: Unlearning = Unlearning(method="not stated")
    defense: Defense = Defense(method="not stated")
    attack: Method = Method(method="not stated")
    kinds: dict[KindName, JSONObject] = Field(max_length=32)


@dataclass(frozen=True)
class Drawable:
    """The pictures of one evaluation that a report draws, each of `images` [n, C, H, W] by name."""

    seed: int
    unlearning: Unlearning
    defense: Defense
    attack: Method
    captions: Captions
    images: Mapping[str, Tensor]


@dataclass(frozen=True)
class ReadPictures:
    """What a PICTURES file holds: what a report draws, if anything, and what it does not, with the reason."""

    drawable: Drawable | None
    left_out: tuple[str, ...] = ()


def pictures_of(evaluation: Mapping[str, Any], pictures: Mapping[str, Pictures]) -> Output:
    """PICTURES: all images as [n, C, H, W], named after their kind; nothing where nothing can be shown.

    Args:
        pictures: by the kind's role.

    Raises:
        InvalidRequest: they are such that a report could not read them.
    """
    if not pictures:
        return Output(write_tensors({}, {}))
    images = {
        f"{role}.{name}": tensor.flatten(0, 1) for role, one in pictures.items() for name, tensor in one.images.items()
    }
    about = {name: evaluation[name] for name in ("unlearning", "defense", "attack", "seed")}
    data = write_tensors(images, about | {"kinds": {role: one.about for role, one in pictures.items()}})
    read_pictures(data, Role.PICTURES)
    return Output(data)


def read_pictures(data: bytes, role: str) -> ReadPictures:
    """Parse one PICTURES file. Pictures of kinds that a report does not draw are not looked at.

    Raises:
        InvalidRequest: it is none; the message names the role.
    """
    field = f"inputs.{role}"
    try:
        tensors, told = read_tensors(data, role)
    except NotImplementedError as error:  # of a type that torch reads and cannot compute with
        raise InvalidRequest(f"{role} must hold float32 images: {error}", field) from error
    if not tensors:
        return ReadPictures(None)
    check_json(told, role, field)
    about = validated(About, {name: value for name, value in told.items() if value is not None}, role, field)
    others = sorted(about.kinds.keys() - {DRAWN})
    left_out = tuple(f"pictures of {kind} (a report draws those of {DRAWN} only)" for kind in others)
    if DRAWN not in about.kinds:
        return ReadPictures(None, left_out)
    captions = validated(Captions, about.kinds[DRAWN], f"{role}.{DRAWN}", field)
    images = {name: tensors[f"{DRAWN}.{name}"] for name in NAMES if f"{DRAWN}.{name}" in tensors}
    channels, *sides = _checked_shape(images, captions, role)
    if channels not in (1, 3) and sides != [1, 1]:
        return ReadPictures(None, (*left_out, f"images of {channels} channels (a report draws those of 1 or 3)"))
    drawable = Drawable(about.seed, about.unlearning, about.defense, about.attack, captions, images)
    return ReadPictures(drawable, left_out)


def _checked_shape(images: Mapping[str, Tensor], captions: Captions, role: str) -> tuple[int, ...]:
    """C, H, W of the images. Refused are those that do not belong together, or are not as many as their captions."""
    n, shapes = len(captions.psnr), {tuple(some.shape) for some in images.values()}
    shape = next(iter(shapes), ())
    if (
        len(images) != len(NAMES)
        or len(shapes) != 1
        or len(shape) != 4
        or 0 in shape
        or shape[1] > MAX_FEATURES
        or any(some.dtype != torch.float32 for some in images.values())
    ):
        got = {name: f"{some.dtype} {list(some.shape)}" for name, some in images.items()}
        raise InvalidRequest(
            f"{role} must hold {', '.join(f'{DRAWN}.{name}' for name in NAMES)}, float32 [n, C, H, W] of one shape, "
            f"with at most {MAX_FEATURES} channels or features, got {got}",
            f"inputs.{role}",
        )
    told = {n, len(captions.null_psnr)}
    if told != {shape[0]} or any(len(some) not in (0, n) for some in (captions.ranks, captions.labels)):
        raise InvalidRequest(
            f"{role}: psnr, null_psnr, ranks and labels must tell of {shape[0]} images", f"inputs.{role}"
        )
    return shape[1:]
