"""What authors of unlearning methods import, and what other rooms take from this one."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import Context, Part, Share
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import descend, logits, require_finite, train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams, cycled, wrong_labels
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "Context",
    "InvalidRequest",
    "JobFailed",
    "Params",
    "Part",
    "Recipe",
    "Role",
    "Samples",
    "Share",
    "StepParams",
    "UnlearningInputs",
    "clone",
    "compute_loss",
    "cycled",
    "descend",
    "logits",
    "register",
    "registry",
    "require_finite",
    "train",
    "wrong_labels",
]
