"""What authors of attacks import, and what other rooms take from this one."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.attacks import registry
from shared.ml.attacks._apart import apart, attack_apart
from shared.ml.attacks._estimate import Adaptive, Estimate, GradientFrom, class_scores, gradient_direction, infer_labels
from shared.ml.attacks._log_odds import log_odds
from shared.ml.attacks._matching import mismatch, total_variation
from shared.ml.attacks._probing import find_probes
from shared.ml.attacks._published_probes import find_published_probes
from shared.ml.attacks._schedules import SCHEDULES, Arithmetic
from shared.ml.attacks._search import WAYS, Matching, search
from shared.ml.attacks._target import Aim, aimed, compared
from shared.ml.context import Context, Part
from shared.ml.networks import Networks, parameters
from shared.ml.observations import Answers, Candidates, Observation, Queries, Reconstruction, Scores
from shared.ml.oracles import API, Oracle
from shared.ml.records import Counts
from shared.ml.samples import Samples
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "API",
    "SCHEDULES",
    "WAYS",
    "Adaptive",
    "Aim",
    "Answers",
    "Arithmetic",
    "Candidates",
    "Context",
    "Counts",
    "Estimate",
    "GradientFrom",
    "InvalidRequest",
    "JobFailed",
    "Matching",
    "Networks",
    "Observation",
    "Oracle",
    "Params",
    "Part",
    "Queries",
    "Reconstruction",
    "Role",
    "Samples",
    "Scores",
    "aimed",
    "apart",
    "attack_apart",
    "class_scores",
    "compared",
    "find_probes",
    "find_published_probes",
    "gradient_direction",
    "infer_labels",
    "log_odds",
    "mismatch",
    "parameters",
    "register",
    "registry",
    "search",
    "total_variation",
]
