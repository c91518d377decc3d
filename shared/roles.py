"""Roles: what an artifact is to the jobs that make it and take it. This is the only list of them.

A job names its inputs and outputs by role; only LPIPS_WEIGHTS comes from a file. An attacker is
given what its attack declares, so who may see a role is part of what the role is.
"""

from __future__ import annotations

from enum import StrEnum


class Visibility(StrEnum):
    """Who may be given an artifact."""

    ATTACKER = "attacker"  # an attacker whose threat model lists it
    ADAPTIVE = "adaptive"  # an attacker who knows the defense
    # never an attacker: the truth, and what stages and evaluations need among themselves
    AUDITOR = "auditor"


class ArtifactFormat(StrEnum):
    """What the bytes are."""

    NETWORKS = "networks"  # safetensors: state dicts of one architecture, stacked
    TENSORS = "tensors"  # safetensors, with a JSON object as metadata
    JSON = "json"
    HTML = "html"
    ZIP = "zip"


class Role(StrEnum):
    """A role; its name is its value."""

    artifact_format: ArtifactFormat
    visibility: Visibility
    summary: str

    def __new__(
        cls, name: str, artifact_format: ArtifactFormat, visibility: Visibility, summary: str
    ) -> Role:
        role = str.__new__(cls, name)
        role._value_ = name
        role.artifact_format, role.visibility, role.summary = artifact_format, visibility, summary
        return role

    def __repr__(self) -> str:  # in messages a role is its name
        return repr(self.value)

    ORIGINAL_WEIGHTS = (
        "ORIGINAL_WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the weights of a model from before a deletion, as a user has brought them",
    )
    RELEASED_WEIGHTS = (
        "RELEASED_WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the weights of a model from after a deletion, as a user has brought them",
    )
    BASE_WEIGHTS = (
        "BASE_WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the weights that training started from, as a user has brought them",
    )
    WEIGHTS = (
        "WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the weights of a declared model, as a user has brought them",
    )
    INSPECTION = (
        "INSPECTION",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "what was found in a declared model or data set",
    )
    RETRAINED_WEIGHTS = (
        "RETRAINED_WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the weights of a model trained without the deleted samples, as a user has brought them",
    )
    TEST_SET = (
        "TEST_SET",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "public samples that a user has brought with models, for accuracies and baselines",
    )
    COMPARISON = (
        "COMPARISON",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "how models that a user has brought differ, tensor by tensor, and what is odd about them",
    )
    BASE = (
        "BASE",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the model after pretraining, before it was trained on the training set",
    )
    ORIGINAL = (
        "ORIGINAL",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the model trained on the training set; of successive deletions, the model that each one "
        "started from",
    )
    UNLEARNED = (
        "UNLEARNED",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the models after unlearning, one per deletion; an attacker is given RELEASED under this "
        "role",
    )
    RELEASED = (
        "RELEASED",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the unlearned models after a defense",
    )
    AVERAGED_RELEASES = (
        "AVERAGED_RELEASES",
        ArtifactFormat.NETWORKS,
        Visibility.ADAPTIVE,
        "the mean of several releases with independent noise; an adaptive attacker is given it as "
        "UNLEARNED",
    )
    PUBLIC = (
        "PUBLIC",
        ArtifactFormat.JSON,
        Visibility.ATTACKER,
        "training sets that an outsider could have drawn from the pool; no model was trained on "
        "their "
        "samples",
    )
    DELETION_SIZES = (
        "DELETION_SIZES",
        ArtifactFormat.JSON,
        Visibility.ATTACKER,
        "how many samples were trained on (N) and forgotten (k), and whether all k are of one "
        "class",
    )
    LABELS = (
        "LABELS",
        ArtifactFormat.JSON,
        Visibility.ATTACKER,
        "the classes of the forgotten samples",
    )
    PROBES = (
        "PROBES",
        ArtifactFormat.TENSORS,
        Visibility.ATTACKER,
        "inputs for attacks that only query the models",
    )
    CANDIDATES = (
        "CANDIDATES",
        ArtifactFormat.TENSORS,
        Visibility.ATTACKER,
        "forgotten samples, retained samples and non-members with their classes, in random order, "
        "for "
        "membership attacks",
    )
    POPULATION = (
        "POPULATION",
        ArtifactFormat.TENSORS,
        Visibility.ATTACKER,
        "public samples with their classes, which a membership attack compares with the candidates",
    )
    DEFENSE = (
        "DEFENSE",
        ArtifactFormat.JSON,
        Visibility.ADAPTIVE,
        "what was done before release: method, parameters, how its strength was chosen",
    )
    RECIPE = (
        "RECIPE",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "how ORIGINAL was trained, for methods that retrain",
    )
    TRAINING_SET = (
        "TRAINING_SET",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "which samples were trained on",
    )
    FORGET_SETS = (
        "FORGET_SETS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the truth: which samples were forgotten",
    )
    SHARDS = (
        "SHARDS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "which member of the original was trained on each sample (SISA); a single member if there "
        "are "
        "no shards",
    )
    BATCH_DELTAS = (
        "BATCH_DELTAS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the weight change of every training step and the samples it used, for amnesiac unlearning",
    )
    UNLEARNING = (
        "UNLEARNING",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "how the models were unlearned: method, parameters, whether it is exact, how far the "
        "weights "
        "moved",
    )
    RETRAINED = (
        "RETRAINED",
        ArtifactFormat.NETWORKS,
        Visibility.AUDITOR,
        "models retrained without each forget set, with several seeds; by deletion, then by seed",
    )
    RETRAINING = (
        "RETRAINING",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the truth about RETRAINED: which samples were left out, and how many seeds were used",
    )
    FORGETTING = (
        "FORGETTING",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "whether the released models have forgotten, compared with the original and retrained "
        "models",
    )
    RECONSTRUCTION = (
        "RECONSTRUCTION",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the images or table rows that the attacker reconstructed",
    )
    ANSWERS = (
        "ANSWERS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the classes that the attacker guesses",
    )
    SCORES = (
        "SCORES",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the attacker's score for each candidate, per deletion; higher means more likely forgotten",
    )
    MEMBERSHIP = (
        "MEMBERSHIP",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the truth about CANDIDATES: which of them were forgotten or retained, or are non-members",
    )
    SHADOWS = (
        "SHADOWS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the scores of a label attack on shadow deletions: the null distribution of its p-values",
    )
    FEATURE_NETWORK = (
        "FEATURE_NETWORK",
        ArtifactFormat.NETWORKS,
        Visibility.AUDITOR,
        "a base model from another seed, which no attack has seen; feature_distance is measured "
        "in it",
    )
    LPIPS_WEIGHTS = (
        "LPIPS_WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the network of the metric lpips, from a file that the user supplies",
    )
    EVALUATION = (
        "EVALUATION",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "scores with their baselines",
    )
    PICTURES = (
        "PICTURES",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "images of the truth, the reconstruction and the baseline",
    )
    REPORT = (
        "REPORT",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the audit's report, for programs",
    )
    REPORT_HTML = (
        "REPORT_HTML",
        ArtifactFormat.HTML,
        Visibility.AUDITOR,
        "the audit's report, for people",
    )
    REPORT_PICTURES = (
        "REPORT_PICTURES",
        ArtifactFormat.ZIP,
        Visibility.AUDITOR,
        "the pictures of the report, as PNGs with an index of the rows that they belong to",
    )
    SELF_TEST = (
        "SELF_TEST",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the measurements of the self-test",
    )
    METRICS = (
        "METRICS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "what a stage measured about its own run",
    )
