"""Tells of all evaluations of an audit: as data, and as one page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import Field, RootModel
from torch import Tensor

from shared import VERSION
from shared.choices import validated
from shared.errors import InvalidRequest
from shared.evaluation import ClassName
from shared.jobs.spec import MAX_JOBS, PlannedMeasurement, PlannedRow, Seed
from shared.ml.records import read_json
from shared.ml.tensors import read_tensors
from shared.plugins import Params
from shared.reporting.build import build
from shared.reporting.evaluations import check_json
from shared.reporting.loading import read_evaluation
from shared.reporting.models import Defense, Label, Method, Number, Part, Unlearning
from shared.reporting.page import render
from shared.reporting.pictures import Gallery, Picture, key_of, shown
from shared.reporting.selftests import read_self_test
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, Output
from workers.stages import registry

SIDE = 112  # pixels that a small image is enlarged to at least, by whole factors: each of its pixels stays one square
KINDS = ("truth", "reconstruction", "class_mean")
Rank = Annotated[int, Field(ge=1, le=1_000_001)]


class ReportParams(Params):
    audit: dict[str, Any] = Field(description="the audit as posted")
    rows: list[PlannedRow] = Field(
        max_length=MAX_JOBS,
        description="the rows that it asks for, in the order of the report; evaluations that none names come last",
    )
    measurements: list[PlannedMeasurement] = Field(
        default_factory=list, max_length=MAX_JOBS, description="what further stages measure, and of what"
    )


class Numbers(RootModel[Annotated[dict[Annotated[str, Field(max_length=60)], Number], Field(max_length=64)]]):
    """METRICS of a further stage."""


class About(Part):
    """What a PICTURES file says of itself."""

    seed: Seed
    unlearning: Unlearning = Unlearning(method="not stated")
    defense: Defense = Defense(method="not stated")
    attack: Method
    psnr: list[Number]
    null_psnr: list[Number]
    ranks: list[Rank] = Field(default_factory=list)
    labels: list[Label] = Field(default_factory=list)
    names: dict[ClassName, ClassName] = Field(default_factory=dict)
    decoys: int = Field(0, ge=0, le=1_000_000)


Pictures = tuple[About, Mapping[str, Tensor]]  # by kind [n, C, H, W]


@registry.register(
    "report",
    params=ReportParams,
    uses=(Role.SELF_TEST,),
    many=(Role.EVALUATION, Role.PICTURES, Role.METRICS),
    produces=(Role.REPORT, Role.REPORT_HTML),
    tolerant=True,
    wiring=Wiring(scopes=(Scope.REPORT,), asks_for=(Role.SELF_TEST,)),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Join all evaluations of an audit into a verdict with its limits; rows that did not arrive are listed.

    Raises:
        InvalidRequest: `audit` is none, a row is of a method that it does not have, or an input is not what its role
            says.
    """
    params: ReportParams = ctx.params
    found = {role: read_evaluation(ctx.inputs[role], role) for role in _numbered(ctx, Role.EVALUATION)}
    tested = read_self_test(ctx.inputs[Role.SELF_TEST], Role.SELF_TEST) if Role.SELF_TEST in ctx.inputs else None
    numbers = {role: _numbers(ctx.inputs[role], role) for role in _numbered(ctx, Role.METRICS)}
    report = build(found, params.audit, params.rows, VERSION, tested, params.measurements, numbers)
    came = [pair for role in _numbered(ctx, Role.PICTURES) if (pair := _pictures(ctx.inputs[role], role))]
    images = {key_of(about): tensors for about, tensors in came}
    picked = shown(report.rows, [about for about, _ in came])
    galleries = []
    for _, about in picked:
        galleries.append(_gallery(about, images[key_of(about)]))
        ctx.progress(len(galleries), len(picked) + 1)
    page = render(report, galleries)
    ctx.progress(len(picked) + 1, len(picked) + 1)
    return {Role.REPORT: Output.of_json(report.json_value()), Role.REPORT_HTML: Output(page.encode(), "text/html")}


def _numbers(data: bytes, role: str) -> dict[str, float]:
    """What a further stage measured."""
    return validated(Numbers, read_json(data, role), role, f"inputs.{role}").root


def _numbered(ctx: JobContext, role: str) -> list[str]:
    """ROLE_1, ROLE_2, ... as far as they came, in that order."""
    numbers = [name.removeprefix(f"{role}_") for name in ctx.inputs if name.startswith(f"{role}_")]
    return [f"{role}_{number}" for number in sorted(numbers, key=int)]


def _pictures(data: bytes, role: str) -> Pictures | None:
    """The pictures of one evaluation; None for one that has no images."""
    try:
        tensors, told = read_tensors(data, role)
    except NotImplementedError as error:  # of a type that torch reads and cannot compute with
        raise InvalidRequest(f"{role} must hold float32 images: {error}", f"inputs.{role}") from error
    if not tensors:
        return None
    check_json(told, role, f"inputs.{role}")
    about = validated(About, {name: value for name, value in told.items() if value is not None}, role, f"inputs.{role}")
    images = {kind: tensors[kind] for kind in KINDS if kind in tensors}
    n, shapes = len(about.psnr), {tuple(some.shape) for some in images.values()}
    shape = next(iter(shapes), ())
    if (
        len(images) != len(KINDS)
        or len(shapes) != 1
        or len(shape) != 4
        or (shape[1] not in (1, 3) and shape[2:] != (1, 1))
        or 0 in shape
        or any(some.dtype != torch.float32 for some in images.values())
    ):
        got = {kind: f"{some.dtype} {list(some.shape)}" for kind, some in images.items()}
        raise InvalidRequest(
            f"{role} must hold {', '.join(KINDS)}, float32 [n, 1 or 3, H, W] or [n, F, 1, 1] of one shape, got {got}",
            f"inputs.{role}",
        )
    if {n, len(about.null_psnr)} != {shape[0]} or any(len(some) not in (0, n) for some in (about.ranks, about.labels)):
        raise InvalidRequest(
            f"{role}: psnr, null_psnr, ranks and labels must tell of {shape[0]} images", f"inputs.{role}"
        )
    return about, images


def _gallery(about: About, tensors: Mapping[str, Tensor]) -> Gallery:
    """The pictures as PNG."""
    images = {kind: [_png(image) for image in tensors[kind]] for kind in KINDS}
    pictures = [
        Picture(
            truth=images["truth"][i],
            reconstruction=images["reconstruction"][i],
            null=images["class_mean"][i],
            psnr=about.psnr[i],
            null_psnr=about.null_psnr[i],
            rank=about.ranks[i] if about.ranks else None,
            class_name=about.names.get(str(about.labels[i]), str(about.labels[i])) if about.labels else None,
        )
        for i in range(len(about.psnr))
    ]
    table = tensors["truth"].shape[2:] == (1, 1)
    return Gallery(about.seed, about.unlearning, about.defense, about.attack, about.decoys, pictures, table)


def _png(image: Tensor) -> bytes:
    """One image [C, H, W] in [0, 1], grey or RGB, as PNG; a row of a table [F, 1, 1] as bars."""
    if image.shape[1:] == (1, 1):
        image = _bars(image.flatten())
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    picture = Image.fromarray(pixels)
    factor = max(1, -(-SIDE // max(picture.size)))
    enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    written = io.BytesIO()
    enlarged.save(written, "PNG", optimize=True)
    return written.getvalue()


def _bars(row: Tensor) -> Tensor:
    """A light image [1, H, W] about square, with a black bar a feature, from 0 at the bottom to 1 at the top."""
    height = max(SIDE, len(row) // 2)
    above = torch.arange(height, 0, -1).unsqueeze(1) > (row.clamp(0, 1) * height).round()
    return above.float().mul(0.92).repeat_interleave(max(1, round(height / len(row))), 1).unsqueeze(0)
