"""Reconstructions that no truth was brought for: what came back and how well it matches, beside what
a search for a random direction gives and beside public samples. No score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from shared.compatibility import MAX_FEATURES
from shared.errors import InvalidRequest
from shared.evaluation import ClassName, FrozenModel, Label, MatchingLoss
from shared.ml.context import JobInputs
from shared.ml.findings._nearest_public import find_nearest_public
from shared.ml.scored_kind import (
    Pictures,
    PublicData,
    ScoredResult,
    UnscoredPictures,
    read_threat_model,
)
from shared.ml.tensors import read_tensors
from shared.plugin_ref import validate_model
from shared.roles import Role

JSONObject = dict[str, Any]
RECONSTRUCTION, CONTROL, PUBLIC = "reconstruction", "random_direction", "nearest_public"
NAMES = (RECONSTRUCTION, CONTROL, PUBLIC)  # of the pictures; all but the first may be missing


class UnscoredCaptions(FrozenModel):
    """Captions of the pictures: `losses` and `labels` one per image, `control_losses` for the first
    ones."""

    losses: list[MatchingLoss]
    control_losses: list[MatchingLoss] = Field(default_factory=list)
    labels: list[Label]
    names: dict[ClassName, ClassName] = Field(default_factory=dict)


def describe_images(ctx: JobInputs, public: PublicData | None) -> ScoredResult:
    """What the attack reconstructed.

    Raises:
        InvalidRequest: RECONSTRUCTION is not what its role says.
    """
    tensors, metadata = read_tensors(ctx.read_input(Role.RECONSTRUCTION), Role.RECONSTRUCTION)
    images, labels = _read_images(tensors)
    deletions, size = labels.shape
    losses = _read_losses(tensors, "matching_loss", deletions)
    control = tensors.get(f"control.{CONTROL}", images[:0])
    if control.shape[1:] != images.shape[1:] or len(control) > deletions:
        raise _refuse(f"'control.{CONTROL}' must hold images of the first deletions")
    controls = {}
    if len(control):
        controls[CONTROL] = _read_losses(tensors, f"control_loss.{CONTROL}", len(control))
    pictures = {RECONSTRUCTION: images.clamp(0, 1)}
    if len(control):
        pictures[CONTROL] = control.float().clamp(0, 1)
    nearest = public and find_nearest_public(ctx, metadata, labels, public.samples)
    if nearest:
        pictures[PUBLIC] = nearest.images
        controls[PUBLIC] = nearest.losses.clamp(0, 2).tolist()
    flat = labels.flatten().tolist()
    names = public.name_classes(flat) if public else {}
    unscored = {
        "matching_loss": losses,
        "control_losses": controls,
        "labels": labels.tolist(),
        "names": names,
    }
    captions = {
        "losses": _repeat(losses, size),
        "control_losses": _repeat(controls.get(CONTROL, []), size),
        "labels": flat,
        "names": names,
    }
    return ScoredResult(
        {},
        read_threat_model(metadata, Role.RECONSTRUCTION),
        details={"unscored": {"images": unscored}},
        pictures=Pictures(pictures, captions),
    )


def read_unscored_pictures(
    images: Mapping[str, Tensor], about: JSONObject, role: str
) -> UnscoredPictures | str:
    """The pictures that `describe_images` wrote, flattened to [n, C, H, W].

    Raises:
        InvalidRequest: they are not what it writes; or of another number than their captions.
    """
    captions = validate_model(
        UnscoredCaptions, about, f"{role}.{Role.RECONSTRUCTION}", f"inputs.{role}"
    )
    shown = images[RECONSTRUCTION]
    if shown.dim() != 4 or 0 in shown.shape or shown.shape[1] > MAX_FEATURES:
        raise InvalidRequest(f"{role} must hold images [n, C, H, W]", f"inputs.{role}")
    control, public = images.get(CONTROL, shown[:0]), images.get(PUBLIC, shown[:0])
    n, of_control, of_public = len(shown), len(control), len(public)
    if (
        any(some.shape[1:] != shown.shape[1:] for some in (control, public))
        or any(some.dtype != torch.float32 for some in (shown, control, public))
        or of_control > n
        or of_public not in (0, n)
        or [len(captions.losses), len(captions.labels)] != [n, n]
        or len(captions.control_losses) != of_control
    ):
        raise InvalidRequest(
            f"{role}: all pictures must be float32 of one shape, with one caption each",
            f"inputs.{role}",
        )
    channels, *sides = shown.shape[1:]
    if channels not in (1, 3) and sides != [1, 1]:
        return f"images of {channels} channels, not 1 or 3"
    return UnscoredPictures(shown, control, public, **captions.model_dump())


def _read_images(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`images` [D, k, C, H, W] and `labels` [D, k]."""
    images, labels = tensors.get("images"), tensors.get("labels")
    if (
        images is None
        or labels is None
        or images.dim() != 5
        or 0 in images.shape
        or images.dtype != torch.float32
        or labels.dtype != torch.int64
        or labels.shape != images.shape[:2]
        or int(labels.min()) < 0
    ):
        raise _refuse("it must hold float32 'images' [D, k, C, H, W] and int64 'labels' [D, k]")
    return images, labels


def _read_losses(tensors: Mapping[str, Tensor], name: str, count: int) -> list[float]:
    losses = tensors.get(name)
    if losses is None or tuple(losses.shape) != (count,) or not bool(losses.isfinite().all()):
        raise _refuse(f"'{name}' must hold {count} finite numbers")
    return [float(loss) for loss in losses.double().clamp(0, 2)]


def _repeat(values: list[float], times: int) -> list[float]:
    """One per deletion -> one per image."""
    return [value for value in values for _ in range(times)]


def _refuse(why: str) -> InvalidRequest:
    return InvalidRequest(f"{Role.RECONSTRUCTION}: {why}", f"inputs.{Role.RECONSTRUCTION}")
