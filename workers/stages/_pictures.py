"""PICTURES: the images of an evaluation, with captions. Written by `evaluate`, read by `report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from shared.errors import InvalidRequest
from shared.jobs.spec import Seed
from shared.ml import findings
from shared.ml.scored_kind import Pictures, Triples, UnscoredPictures
from shared.ml.tensors import read_tensors, write_tensors
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import check_json
from shared.reporting.models import Defense, FrozenModel, JSONObject, Method, Unlearning
from shared.roles import Role
from workers.context import StageOutput

KindName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,39}$")]


class About(FrozenModel):
    """The metadata of a PICTURES file; `kinds` holds the captions of each kind."""

    seed: Seed
    unlearning: Unlearning = Unlearning(method="not stated")
    defense: Defense = Defense(method="not stated")
    attack: Method = Method(method="not stated")
    kinds: dict[KindName, JSONObject] = Field(max_length=32)


@dataclass(frozen=True)
class Shown:
    """The pictures of one evaluation that a report shows."""

    seed: int
    unlearning: Unlearning
    defense: Defense
    attack: Method
    pictures: Triples | UnscoredPictures


@dataclass(frozen=True)
class ReadPictures:
    """The content of a PICTURES file: pictures to show, and those left out with the reason."""

    shown: tuple[Shown, ...] = ()
    left_out: tuple[str, ...] = ()


def write_pictures(evaluation: Mapping[str, Any], pictures: Mapping[str, Pictures]) -> StageOutput:
    """Write PICTURES: all images as [n, C, H, W], named after their kind; empty if there is nothing
    to show.

    Args:
        pictures: by the kind's role.

    Raises:
        InvalidRequest: a report could not read them.
    """
    if not pictures:
        return StageOutput(write_tensors({}, {}))
    images = {
        f"{role}.{name}": tensor.flatten(0, 1)
        for role, one in pictures.items()
        for name, tensor in one.images.items()
    }
    about = {name: evaluation[name] for name in ("unlearning", "defense", "attack", "seed")}
    data = write_tensors(
        images, about | {"kinds": {role: one.metadata for role, one in pictures.items()}}
    )
    read_pictures(data, Role.PICTURES)
    return StageOutput(data)


def read_pictures(data: bytes, role: str) -> ReadPictures:
    """Parse one PICTURES file. Each kind reads its own; those of unknown kinds are not read.

    Raises:
        InvalidRequest: it is not valid; the message names the role.
    """
    field = f"inputs.{role}"
    try:
        tensors, metadata = read_tensors(data, role)
    except NotImplementedError as error:  # a dtype that torch can read but not compute with
        raise InvalidRequest(f"{role} must hold float32 images: {error}", field) from error
    if not tensors:
        return ReadPictures()
    check_json(metadata, role, field)
    about = validate_model(
        About, {name: value for name, value in metadata.items() if value is not None}, role, field
    )
    known = {kind.role: kind for kind in findings.list_kinds()}
    shown, left_out = [], []
    for name, captions in sorted(about.kinds.items()):
        images = {
            n.removeprefix(f"{name}."): tensor
            for n, tensor in tensors.items()
            if n.startswith(f"{name}.")
        }
        read = (
            known[name].read_pictures(images, captions, role) if name in known else "unknown kind"
        )
        if isinstance(read, str):
            left_out.append(f"pictures of {name} ({read})")
        else:
            shown.append(Shown(about.seed, about.unlearning, about.defense, about.attack, read))
    return ReadPictures(tuple(shown), tuple(left_out))
