"""What authors of models import."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.models import registry
from shared.ml.models._residual import build_residual
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "InvalidRequest",
    "JobFailed",
    "Params",
    "Role",
    "build_residual",
    "register",
    "registry",
]
