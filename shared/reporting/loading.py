"""EVALUATION artifacts as they arrive: untrusted bytes."""

from __future__ import annotations

import hashlib
from typing import Any

from shared.errors import InvalidRequest
from shared.evaluation import EVALUATION_VERSION, Evaluation
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import LoadedEvaluation, parse_json
from shared.reporting.kinds import list_kinds

# Fields of `palimpsest.report/1`. Unknown keys are ignored, so these would lose what they hold.
OLD_METRIC_FIELDS = ("null", "null_name", "nulls", "null_values")
OLD_DEFENSE_FIELDS = ("promise", "counter")


def read_evaluation(data: bytes, role: str) -> LoadedEvaluation:
    """Parse one EVALUATION.

    Raises:
        InvalidRequest: not JSON, not of that shape, or written before fields were renamed; the
            message names the role.
    """
    field = f"inputs.{role}"
    value = parse_json(data, role, field)
    if old := find_old_field(value):
        raise InvalidRequest(
            f"{role} was written by an older version of Palimpsest (it has {old}): run the "
            "evaluation again",
            field,
        )
    evaluation = validate_model(Evaluation, value, role, field)
    for name in (name for kind in list_kinds() for name in kind.shares):
        if name in evaluation.metrics and evaluation.metrics[name].unit != "share":
            raise InvalidRequest(f"{role}.metrics.{name} must have the unit share", field)
    return LoadedEvaluation(evaluation, hashlib.sha256(data).hexdigest())


def find_old_field(value: Any) -> str | None:
    """A field that evaluations had before it was renamed, such as `metrics.psnr.nulls`, or an old
    version."""
    if not isinstance(value, dict):
        return None
    metrics, defense = value.get("metrics"), value.get("defense")
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        for old in OLD_METRIC_FIELDS:
            if isinstance(metric, dict) and old in metric:
                return f"metrics.{str(name)[:60]}.{old}"
    for old in OLD_DEFENSE_FIELDS:
        if isinstance(defense, dict) and old in defense:
            return f"defense.{old}"
    if isinstance(metrics, dict) and (version := value.get("version", 1)) != EVALUATION_VERSION:
        return f"version {str(version)[:20]}, not {EVALUATION_VERSION}"
    return None
