"""Tells of all evaluations of an audit: as data, and as one page."""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.ml.tensors import read_tensors
from shared.registry import Params
from shared.reporting.build import build
from shared.reporting.evaluations import read_evaluation
from shared.reporting.models import Defense, Method, Part, Unlearning
from shared.reporting.page import render
from shared.reporting.pictures import Gallery, Picture
from workers.context import JobContext, Output
from workers.stages import registry

SIDE = 112  # pixels that a small image is enlarged to at least, by whole factors: each of its pixels stays one square
KINDS = ("truth", "reconstruction", "class_mean")


class ReportParams(Params):
    audit: dict[str, Any] = Field(description="the audit as posted: which rows there should be")


class About(Part):
    """What a PICTURES file says of itself."""

    seed: int
    unlearning: Unlearning | None = None
    defense: Defense | None = None
    attack: Method
    psnr: list[float]
    null_psnr: list[float]
    ranks: list[int] = Field(default_factory=list)
    labels: list[int] = Field(default_factory=list)
    decoys: int = 0


@registry.register(
    "report",
    params=ReportParams,
    many=("EVALUATION", "PICTURES"),
    produces=("REPORT", "REPORT_HTML"),
    traits={"tolerant": True},
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Join all evaluations of an audit into a verdict with its limits; rows that did not arrive are listed.

    Raises:
        InvalidRequest: `audit` is none, or an input is not what its role says.
    """
    found = [read_evaluation(ctx.inputs[role], role) for role in _numbered(ctx, "EVALUATION")]
    report = build(found, ctx.params.audit, version("palimpsest"))
    galleries = [g for role in _numbered(ctx, "PICTURES") if (g := _gallery(ctx.inputs[role], role))]
    page = render(report, galleries)
    ctx.progress(1, 1)
    return {"REPORT": Output.of_json(report.json_value()), "REPORT_HTML": Output(page.encode(), "text/html")}


def _numbered(ctx: JobContext, role: str) -> list[str]:
    """ROLE_1, ROLE_2, ... as far as they came, in that order."""
    numbers = [name.removeprefix(f"{role}_") for name in ctx.inputs if name.startswith(f"{role}_")]
    return [f"{role}_{number}" for number in sorted(numbers, key=int)]


def _gallery(data: bytes, role: str) -> Gallery | None:
    """The pictures of one evaluation; None for one that has no images."""
    tensors, told = read_tensors(data, role)
    if not tensors:
        return None
    about = validated(About, told, role, f"inputs.{role}")
    n = len(about.psnr)
    lengths = {len(about.null_psnr), *(len(tensors.get(kind, ())) for kind in KINDS)}
    if lengths != {n} or any(len(some) not in (0, n) for some in (about.ranks, about.labels)):
        raise InvalidRequest(f"{role} must hold {', '.join(KINDS)}, psnr and null_psnr of one length", f"inputs.{role}")
    images = {kind: [_png(image, role) for image in tensors[kind]] for kind in KINDS}
    pictures = [
        Picture(
            truth=images["truth"][i],
            reconstruction=images["reconstruction"][i],
            null=images["class_mean"][i],
            psnr=about.psnr[i],
            null_psnr=about.null_psnr[i],
            rank=about.ranks[i] if about.ranks else None,
            label=about.labels[i] if about.labels else None,
        )
        for i in range(n)
    ]
    unlearning, defense = (
        about.unlearning or Unlearning(method="not stated"),
        about.defense or Defense(method="not stated"),
    )
    return Gallery(about.seed, unlearning, defense, about.attack, about.decoys, pictures)


def _png(image: Tensor, role: str) -> bytes:
    """One image [C, H, W] in [0, 1], grey or RGB, as PNG."""
    if image.dim() != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise InvalidRequest(f"{role} must hold images [n, 1 or 3, H, W], got {list(image.shape)}", f"inputs.{role}")
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    picture = Image.fromarray(pixels)
    factor = max(1, -(-SIDE // max(picture.size)))
    enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    written = io.BytesIO()
    enlarged.save(written, "PNG", optimize=True)
    return written.getvalue()
