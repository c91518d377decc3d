"""Wiring: how an audit runs a stage. Each stage declares its own; plans read it, and so does
whoever starts workers.

What a stage takes and makes are its roles. Wiring says how often it runs, when, with which fields
of the audit, and what its outputs are to those who come after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from shared.roles import Role


class Scope(StrEnum):
    """What a stage runs once per. Jobs that come out equal are one, so a scope may be wider than it
    needs to be."""

    AUDIT = "audit"
    SEED = "seed"
    RELEASE = "release"  # each unlearning method behind each defense
    ATTACK = "attack"  # each attack on each release
    REPORT = "report"  # the audit, when all of the above have ended


class RunWhen(StrEnum):
    """When a job may run."""

    ALL_SUCCEEDED = "all_succeeded"  # all its inputs have
    # all its inputs have, and one succeeded: it runs with those that did
    ALL_FINISHED = "all_finished"


class WorkerGroup(StrEnum):
    """Stages that share their workers."""

    TRAIN = "train"
    UNLEARN = "unlearn"
    ATTACK = "attack"
    EVALUATE = "evaluate"


class ModelOrigin(StrEnum):
    """Where the models of an audit come from."""

    TRAINED = "trained"  # the audit trains, unlearns and defends them
    BROUGHT = "brought"  # a user has brought the weights from before and after


class Wiring(BaseModel):
    """How an audit runs a stage. Without one a stage is run by hand only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scopes: tuple[Scope, ...] = Field(min_length=1)
    group: WorkerGroup = Field(WorkerGroup.EVALUATE, description="the worker group that serves it")
    # when
    models: ModelOrigin | None = Field(
        None,
        description="runs only in audits whose models come from there; null: in all audits",
    )
    on_demand: bool = Field(
        False, description="runs only if another job of the audit needs its output"
    )
    flag: str | None = Field(
        None,
        description=(
            "field of the audit: the stage runs only if it is true, and only where everything "
            "that it needs is available"
        ),
    )
    optional_needs: tuple[Role, ...] = Field(
        (),
        description="optional roles that other stages make on demand for it",
    )
    # with what
    params: str | None = Field(None, description="field of the audit that holds its parameters")
    methods: str | None = Field(None, description="field of the audit that lists its methods")
    shared_params: tuple[str, ...] = Field(
        (),
        description=(
            "fields of the audit itself that are also parameters of the stage: choices of plugins, "
            "pool, or the parameters of another stage"
        ),
    )
    seed: str | None = Field(
        None,
        description="field of the audit that is its seed; 0 if the stage runs outside of all seeds",
    )
    release: bool = Field(
        False,
        description="whether the stage has the parameters `release` (the name of the release), "
        "`with_base`, `with_deleted`, `with_public` and `with_recipe` (what was brought) and `exact` "
        "(whether the release is made of retrained models) and `stated_method` (how it was "
        "unlearned) of an audit of brought models",
    )
    trained_for_methods: bool = Field(
        False,
        description=(
            "whether methods of other stages set some of its parameters, which they list in "
            "`trains`"
        ),
    )
    multi_sample_roles: tuple[Role, ...] = Field(
        (),
        description=(
            "optional roles of its method that are supplied only if a deletion forgets several "
            "samples"
        ),
    )
    withheld: Mapping[Scope, tuple[Role, ...]] = Field(
        default_factory=dict, description="by scope, optional roles that are not supplied there"
    )
    any_of: Mapping[Scope, tuple[Role, ...]] = Field(
        default_factory=dict,
        description="by scope, roles of which at least one must be there: without any, the stage "
        "does not run in that scope",
    )
    # for whom
    replaces: Mapping[Role, Role] = Field(
        default_factory=dict,
        description="by output, the role that it replaces in later stages",
    )
    replaces_for_adaptive: Mapping[Role, Role] = Field(
        default_factory=dict, description="the same, for adaptive attacks"
    )
    twins: Mapping[Role, Role] = Field(
        default_factory=dict,
        description=(
            "by role, the output that supplies it when the stage runs once more, on demand, with "
            "the next seed"
        ),
    )
    reported: bool = Field(False, description="whether the report includes its output")
