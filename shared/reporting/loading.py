"""EVALUATION artifacts as they come in: bytes that may be anyone's."""

from __future__ import annotations

import hashlib
import json

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.evaluation import Evaluation
from shared.reporting.evaluations import Found, check_json
from shared.reporting.kinds import kinds


def read_evaluation(data: bytes, role: str) -> Found:
    """Parse one EVALUATION.

    Raises:
        InvalidRequest: not JSON, or not of that shape; the message names the role.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{role} is not JSON: {error}", f"inputs.{role}") from error
    check_json(value, role, f"inputs.{role}")
    evaluation = validated(Evaluation, value, role, f"inputs.{role}")
    for name in (name for kind in kinds() for name in kind.shares):
        if name in evaluation.metrics and evaluation.metrics[name].unit != "share":
            raise InvalidRequest(f"{role}.metrics.{name} must have the unit share", f"inputs.{role}")
    return Found(evaluation, hashlib.sha256(data).hexdigest())
