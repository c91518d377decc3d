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


class Wiring(BaseModel):
    """How an audit runs a stage. Without one a stage is run by hand only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scopes: tuple[Scope, ...] = Field(min_length=1)
    group: WorkerGroup = Field(WorkerGroup.EVALUATE, description="whose workers serve it")
    # when
    on_demand: bool = Field(
        False, description="runs only where another job of the audit needs what it makes"
    )
    flag: str | None = Field(
        None,
        description="field of the audit: runs only if that is true, where all that the stage "
        "needs is there",
    )
    optional_needs: tuple[Role, ...] = Field(
        (),
        description="roles among those it may use that are made for it, where a stage makes them "
        "on demand",
    )
    # with what
    params: str | None = Field(None, description="field of the audit that holds its parameters")
    methods: str | None = Field(None, description="field of the audit that lists its methods")
    shared_params: tuple[str, ...] = Field(
        (), description="fields of the audit itself that are parameters of it: they are said once"
    )
    seed: str | None = Field(
        None, description="field of the audit that is its seed; outside of all seeds it is 0"
    )
    trained_for_methods: bool = Field(
        False, description="whether methods of other stages have a say in its parameters (`trains`)"
    )
    multi_sample_roles: tuple[Role, ...] = Field(
        (),
        description="roles its method may use that it is given only where a deletion forgets "
        "several samples",
    )
    withheld: Mapping[Scope, tuple[Role, ...]] = Field(
        default_factory=dict, description="by scope, roles that it could use and is not given there"
    )
    # for whom
    replaces: Mapping[Role, Role] = Field(
        default_factory=dict,
        description="what it makes that takes the place of something from then on",
    )
    replaces_for_adaptive: Mapping[Role, Role] = Field(
        default_factory=dict, description="the same, for the attacker who knows the defense"
    )
    twins: Mapping[Role, Role] = Field(
        default_factory=dict,
        description="roles for which it runs once more, on demand, with the next seed; and which "
        "output each is",
    )
    reported: bool = Field(False, description="whether the report takes what it makes")
