"""What authors of defenses import."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import Context, Part
from shared.ml.defenses import registry
from shared.ml.networks import Networks, parameters
from shared.ml.observations import Observation
from shared.ml.records import Public
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "Context",
    "InvalidRequest",
    "JobFailed",
    "Networks",
    "Observation",
    "Params",
    "Part",
    "Public",
    "Recipe",
    "Role",
    "Samples",
    "parameters",
    "register",
    "registry",
    "train",
]
