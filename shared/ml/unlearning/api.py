"""What authors of unlearning methods import, and other packages use."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import Context, SeededSubContext, SubContext
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import compute_logits, descend, require_finite, train
from shared.ml.unlearning import registry
from shared.ml.unlearning._held_out import HeldOutRule, draw_held_out
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams, draw_wrong_labels, take_cyclic_batch
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "Context",
    "HeldOutRule",
    "InvalidRequest",
    "JobFailed",
    "Params",
    "Recipe",
    "Role",
    "Samples",
    "SeededSubContext",
    "StepParams",
    "SubContext",
    "UnlearningInputs",
    "clone",
    "compute_logits",
    "compute_loss",
    "descend",
    "draw_held_out",
    "draw_wrong_labels",
    "register",
    "registry",
    "require_finite",
    "take_cyclic_batch",
    "train",
]
