"""What authors of metrics import."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.metrics import registry
from shared.ml.metrics._features import in_batches, joined
from shared.ml.ranks import above
from shared.ml.samples import Samples
from shared.ml.training.sgd import logits
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "InvalidRequest",
    "JobFailed",
    "Params",
    "Role",
    "Samples",
    "above",
    "in_batches",
    "joined",
    "logits",
    "register",
    "registry",
]
