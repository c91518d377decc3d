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
    # never an attacker: the truth, and what stages and judges need among themselves
    AUDITOR = "auditor"


class ArtifactFormat(StrEnum):
    """What the bytes are."""

    NETWORKS = "networks"  # safetensors: state dicts of one architecture, stacked
    TENSORS = "tensors"  # safetensors, with a JSON object as metadata
    JSON = "json"
    HTML = "html"


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

    BASE = (
        "BASE",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the model after pretraining, before the training set was learned",
    )
    ORIGINAL = (
        "ORIGINAL",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the model trained on the training set; of successive deletions the model that each started from",
    )
    UNLEARNED = (
        "UNLEARNED",
        ArtifactFormat.NETWORKS,
        Visibility.ATTACKER,
        "the models after unlearning, one per deletion; an attacker's UNLEARNED is what was RELEASED",
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
        "the mean of several releases that differ in their noise: UNLEARNED of an attacker who knows that they do",
    )
    PUBLIC = (
        "PUBLIC",
        ArtifactFormat.JSON,
        Visibility.ATTACKER,
        "training sets that an outsider could have drawn from the pool: none of their samples was trained on",
    )
    DELETION_SIZES = (
        "DELETION_SIZES",
        ArtifactFormat.JSON,
        Visibility.ATTACKER,
        "how many samples were trained on (N) and forgotten (k), and whether the k are of one class",
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
        "forgotten, retained and never-trained samples with their classes, mixed: for attacks that ask who was "
        "forgotten",
    )
    POPULATION = (
        "POPULATION",
        ArtifactFormat.TENSORS,
        Visibility.ATTACKER,
        "public samples with their classes, that an attacker holds candidates against",
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
        "how ORIGINAL was trained, for methods that train again",
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
        "which of the original's members each sample trained (SISA); one member where there are no shards",
    )
    BATCH_DELTAS = (
        "BATCH_DELTAS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "what every step of training changed and which samples it saw, for amnesiac unlearning",
    )
    UNLEARNING = (
        "UNLEARNING",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "what was done to forget: method, parameters, whether it is exact, how far the weights moved",
    )
    RECONSTRUCTION = (
        "RECONSTRUCTION",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the attacker's images or rows",
    )
    ANSWERS = (
        "ANSWERS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the attacker's classes",
    )
    SCORES = (
        "SCORES",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "how likely the attacker holds each candidate to be forgotten, for each deletion",
    )
    MEMBERSHIP = (
        "MEMBERSHIP",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "the truth of CANDIDATES: which samples they are",
    )
    SHADOWS = (
        "SHADOWS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "what an attack answers about deletions that were made again: the null of its p-values",
    )
    FEATURE_NETWORK = (
        "FEATURE_NETWORK",
        ArtifactFormat.NETWORKS,
        Visibility.AUDITOR,
        "a base model of another seed, which no attack has seen: evaluations look at images with it",
    )
    LPIPS_WEIGHTS = (
        "LPIPS_WEIGHTS",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "the network of the metric lpips, from a file of the user's",
    )
    EVALUATION = (
        "EVALUATION",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "scores beside their nulls",
    )
    PICTURES = (
        "PICTURES",
        ArtifactFormat.TENSORS,
        Visibility.AUDITOR,
        "truth, reconstruction and null as images",
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
    SELF_TEST = (
        "SELF_TEST",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "what the code measured of cases whose answer is known",
    )
    METRICS = (
        "METRICS",
        ArtifactFormat.JSON,
        Visibility.AUDITOR,
        "what a stage measured of itself",
    )
