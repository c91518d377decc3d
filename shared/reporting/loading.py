"""EVALUATION artifacts as they come in: bytes that may be anyone's."""

from __future__ import annotations

import hashlib

from shared.errors import InvalidRequest
from shared.evaluation import Evaluation
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import LoadedEvaluation, parse_json
from shared.reporting.kinds import list_kinds


def read_evaluation(data: bytes, role: str) -> LoadedEvaluation:
    """Parse one EVALUATION.

    Raises:
        InvalidRequest: not JSON, or not of that shape; the message names the role.
    """
    field = f"inputs.{role}"
    evaluation = validate_model(Evaluation, parse_json(data, role, field), role, field)
    for name in (name for kind in list_kinds() for name in kind.shares):
        if name in evaluation.metrics and evaluation.metrics[name].unit != "share":
            raise InvalidRequest(f"{role}.metrics.{name} must have the unit share", field)
    return LoadedEvaluation(evaluation, hashlib.sha256(data).hexdigest())
