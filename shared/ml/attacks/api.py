"""What authors of attacks import, and other packages use."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.ml.attack_io import (
    CandidateView,
    LabelGuesses,
    MembershipScores,
    ProbeView,
    Reconstruction,
    WhiteBoxView,
)
from shared.ml.attacks import registry
from shared.ml.attacks._estimate import (
    Adaptive,
    GradientEstimate,
    GradientFrom,
    estimate_gradient,
    infer_labels,
    score_classes,
)
from shared.ml.attacks._fallback import compute_matching_loss
from shared.ml.attacks._grouping import group_by_start_model, run_per_start_model
from shared.ml.attacks._log_odds import compute_log_odds
from shared.ml.attacks._matching import total_variation
from shared.ml.attacks._probing import find_probes
from shared.ml.attacks._published_probes import find_published_probes
from shared.ml.attacks._schedules import SCHEDULES, Arithmetic
from shared.ml.attacks._search import IMPLEMENTATIONS, MatchingObjective, search_images
from shared.ml.attacks._target import TargetParams, build_gradient_target, count_releases_compared
from shared.ml.context import Context, SeededSubContext
from shared.ml.networks import Networks, list_parameter_names
from shared.ml.oracles import Oracle, OracleParams
from shared.ml.records import DeletionSizes
from shared.ml.samples import Samples
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "IMPLEMENTATIONS",
    "SCHEDULES",
    "Adaptive",
    "Arithmetic",
    "CandidateView",
    "Context",
    "DeletionSizes",
    "GradientEstimate",
    "GradientFrom",
    "InvalidRequest",
    "JobFailed",
    "LabelGuesses",
    "MatchingObjective",
    "MembershipScores",
    "Networks",
    "Oracle",
    "OracleParams",
    "Params",
    "ProbeView",
    "Reconstruction",
    "Role",
    "Samples",
    "SeededSubContext",
    "TargetParams",
    "WhiteBoxView",
    "build_gradient_target",
    "compute_log_odds",
    "compute_matching_loss",
    "count_releases_compared",
    "estimate_gradient",
    "find_probes",
    "find_published_probes",
    "group_by_start_model",
    "infer_labels",
    "list_parameter_names",
    "register",
    "registry",
    "run_per_start_model",
    "score_classes",
    "search_images",
    "total_variation",
]
