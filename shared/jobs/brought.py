"""Audits of brought models: where their weights come from, which samples are there, and what attacks
cannot be made without more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any

from shared.catalog import Catalog
from shared.errors import InvalidRequest
from shared.jobs.planner import Asset, JobTemplate
from shared.jobs.spec import AuditSpec
from shared.plugins import DatasetTraits
from shared.roles import Role

MAX_PIXELS = 1 << 28  # values of all images that one attack searches for
DELETED, PUBLIC = "train", "test"  # the splits of a data set that hold them
WAYS_TO_BRING: Mapping[str, str] = {
    Role.LABELS: "bring the deleted samples",
    Role.FORGET_SETS: "bring the deleted samples",
    Role.BASE: "bring the weights that training started from, as base",
}


def list_brought_weights(spec: AuditSpec, release: int) -> dict[str, Asset]:
    """The uploads of one release, by the roles in which stages take them; none if the audit trains
    its models itself."""
    if not spec.is_brought:
        return {}
    files = {Role.ORIGINAL_WEIGHTS: spec.original, Role.BASE_WEIGHTS: spec.base}
    weights = {str(role): Asset(sha256) for role, sha256 in files.items() if sha256}
    return weights | {
        f"{Role.RELEASED_WEIGHTS}_{n}": Asset(sha256)
        for n, sha256 in enumerate(spec.releases[release].weights, start=1)
    }


def list_brought_parts(
    spec: AuditSpec, catalog: Catalog, params: Mapping[str, Any]
) -> dict[str, bool]:
    """Which parts of an audit were brought, as parameters of the stage that takes them in.

    Args:
        params: of that stage, as asked for: whoever has no deleted samples in a data set says so.
    """
    splits: set[str] = set()
    if spec.dataset is not None and ("dataset", spec.dataset.name) in catalog:
        traits = catalog.get("dataset", spec.dataset.name, "dataset").get_traits(DatasetTraits)
        given = {name for name, value in spec.dataset.params.items() if value is not None}
        splits = {
            split
            for split in (DELETED, PUBLIC)
            if split not in traits.split_params or traits.split_params[split] in given
        }
    asked = params.get("with_deleted", True)
    return {
        "with_base": spec.base is not None,
        # what is no answer is left for the schema of the stage to refuse
        "with_deleted": asked and DELETED in splits if isinstance(asked, bool) else asked,
        "with_public": PUBLIC in splits,
    }


def check_brought_sizes(spec: AuditSpec, release: int) -> None:
    """Refuse deletions of more samples than there were, or than a search could hold.

    Raises:
        InvalidRequest: too many; it names the field.
    """
    k, n = spec.ingest.get("size", 1), spec.ingest.get("training_set")
    shape = spec.ingest.get("input_shape")
    deletions = len(spec.releases[release].weights)
    if not isinstance(k, int) or k < 1 or spec.ingest.get("rows") is not None:
        return  # the schema of the stage says what is wrong
    if isinstance(n, int) and 1 <= n < k * deletions:
        raise InvalidRequest(
            f"{deletions} deletions of {k} samples do not fit into a training set of {n}: lower "
            "size, or correct training_set",
            "ingest.size",
        )
    if isinstance(shape, Sequence) and all(isinstance(side, int) for side in shape):
        most = MAX_PIXELS // max(prod(shape), 1) // deletions
        if k > most:
            raise InvalidRequest(
                f"{deletions} deletions of {k} images of {'x'.join(map(str, shape))} are more than "
                f"an attack can search for: size can be at most {most}",
                "ingest.size",
            )


def explain_lacking(template: JobTemplate, available: Collection[str]) -> str | None:
    """Why an attack cannot be made of what was brought: a sentence with what to do; None if it
    can."""
    lacking = [role for role in template.checked.needs if role not in available]
    method = template.method
    if not lacking or method is None:
        return None
    role = lacking[0]
    cause = next(
        (
            param
            for param, by_value in method.needs_when.items()
            if role in by_value.get(str(template.params.get(param)), ())
        ),
        None,
    )
    setting = f" with {cause}: {template.params[cause]}" if cause else ""
    ways = [WAYS_TO_BRING[role]] if role in WAYS_TO_BRING else []
    ways += [f"choose another value of {cause}"] if cause else []
    known = Role.__members__.get(role)
    summary = f" ({known.summary.partition(',')[0]})" if known else ""
    return (
        f"{method.name}{setting} needs {role}{summary}, which was not brought: "
        f"{', or '.join(ways or ['use another attack'])}"
    )
