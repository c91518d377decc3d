"""What authors of stages import."""

from __future__ import annotations

from shared.choices import Choice, choice_of, chosen, validated
from shared.errors import InvalidRequest, JobFailed
from shared.plugins import Params
from shared.roles import Role
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import architecture_for, first, open_for, test_accuracy

register = registry.register

__all__ = [
    "Choice",
    "InvalidRequest",
    "JobContext",
    "JobFailed",
    "Output",
    "Params",
    "Role",
    "architecture_for",
    "choice_of",
    "chosen",
    "first",
    "open_for",
    "register",
    "registry",
    "test_accuracy",
    "validated",
]
