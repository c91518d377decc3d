"""What authors of defenses import."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import Context, SeededSubContext
from shared.ml.defenses import registry
from shared.ml.networks import Networks, list_parameter_names
from shared.ml.records import PublicSets
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
    "Params",
    "PublicSets",
    "Recipe",
    "Role",
    "Samples",
    "SeededSubContext",
    "WhiteBoxView",
    "list_parameter_names",
    "register",
    "registry",
    "train",
]
