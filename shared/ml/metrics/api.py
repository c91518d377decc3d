"""What authors of metrics import."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.metrics import registry
from shared.ml.metrics._features import join_features, run_in_batches
from shared.ml.ranks import compute_wins
from shared.ml.samples import Samples
from shared.ml.training.sgd import compute_logits
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "InvalidRequest",
    "JobFailed",
    "Params",
    "Role",
    "Samples",
    "compute_logits",
    "compute_wins",
    "join_features",
    "register",
    "registry",
    "run_in_batches",
]
