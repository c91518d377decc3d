"""Which past jobs tell what a job costs: two digests of what drives the cost of a job.

Seeds, code, the bytes of data files and uploads, and names of records are left out: they change a
result, and hardly what it costs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from shared.catalog import NUMBERED_ROLE
from shared.forget_sets import KINDS, PLACES, list_forget_sets
from shared.jobs.mapping import to_json
from shared.jobs.records import PlannedJob

# what the planner fills in, beside the audit that the job is about: no settings
_ABOUT_AUDIT = "audit"
_FILLED_IN = frozenset({_ABOUT_AUDIT, "rows", "measurements", "retention"})
_RELEASE = "release"  # the parameter that says how a release is called
_RECORD_NAMES = frozenset({PLACES, *KINDS, *(f"deletable_{kind}" for kind in KINDS)})
_UPLOAD = re.compile(r"upload:[0-9a-f]{64}")
_DIGEST_CHARACTERS = 32


class CostKeys(NamedTuple):
    """Digests of what drives a job's cost.

    equal: the same for jobs of one kind: the same stage, method and parameters, made from jobs of
        one kind. Only seeds, code and data may differ.
    similar: the same also where other methods made its inputs: an attack on the releases of two
        unlearning methods.
    """

    equal: str
    similar: str


def compute_cost_keys(
    planned: Iterable[PlannedJob], stored: Mapping[str, CostKeys]
) -> dict[str, CostKeys]:
    """By request key, the keys of planned jobs, of which parents come before children.

    Args:
        stored: by job id, the keys of parents that are stored; one that has none counts as an
            upload.
    """
    keys: dict[str, CostKeys] = {}
    behind: dict[str, frozenset[str]] = {}  # what of a job and its ancestors is in `similar`
    planned = list(planned)  # which keeps their parameters, so that `id` tells them apart
    texts: dict[tuple[str, str | None, int], tuple[str, str]] = {}
    for job in planned:
        template = (job.stage, job.method, id(job.params))
        if template not in texts:  # many jobs differ in seed and inputs alone
            own = _digest([job.stage, job.method, _simplify(job.params)])
            texts[template] = own, _digest(_describe_as_ancestor(job))
        own, as_ancestor = texts[template]
        inputs, ancestors = [], set[str]()
        for i in job.inputs:
            parent = keys.get(i.parent or "") or stored.get(i.parent or "")
            inputs.append([i.role, parent.equal if parent else None])
            ancestors |= behind.get(i.parent or "", {parent.similar} if parent else set())
        roles = sorted(_strip_number(i.role) for i in job.inputs)
        keys[job.request_key] = CostKeys(
            _digest([own, inputs]), _digest([own, roles, sorted(ancestors)])
        )
        behind[job.request_key] = frozenset({*ancestors, as_ancestor})
    return keys


@lru_cache(maxsize=4096)
def _strip_number(role: str) -> str:
    return NUMBERED_ROLE.sub("", role)


def _describe_as_ancestor(job: PlannedJob) -> list[Any]:
    """What of a job counts for the cost of those that are made from it, whatever its method is:
    how many samples it deletes, or all its settings if there are no methods."""
    if job.method is None:
        return [job.stage, _simplify(job.params)]
    listed = list_forget_sets(job.params)
    deletions = [len(one) for one in listed[1]] if listed else job.params.get("deletions")
    return [job.stage, deletions, job.params.get("size")]


def _simplify(params: Mapping[str, Any]) -> Any:
    filled_in = _FILLED_IN if _ABOUT_AUDIT in params else {_RELEASE}
    return {
        name: _count(value) if name in _RECORD_NAMES else _strip_digests(value)
        for name, value in params.items()
        if name not in filled_in
    }


def _strip_digests(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _simplify(value)
    if isinstance(value, list):
        return [_strip_digests(one) for one in value]
    return "upload" if isinstance(value, str) and _UPLOAD.fullmatch(value) else value


def _count(value: Any) -> Any:
    """Lengths in the place of lists."""
    if not isinstance(value, list):
        return value is not None
    return [len(one) if isinstance(one, list) else 1 for one in value]


def _digest(value: Any) -> str:
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:_DIGEST_CHARACTERS]
