"""What a user posts: one grid of choices."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.choices import Choice

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Chosen = Annotated[Choice, BeforeValidator(lambda v: {"name": v} if isinstance(v, str) else v)]


class AuditSpec(BaseModel):
    """An audit. Wherever a plugin is named, a plain name stands for the name with default parameters.

    `pretrain`, `train`, `forget` and `evaluate` are parameters of the stages pretrain, train, unlearn and
    evaluate, as the catalog describes them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("audit", min_length=1, max_length=200, description="what you call it")
    dataset: Chosen = Field(description="where pretraining data, training set and public data come from")
    model: Chosen = Field(description="the architecture")
    pretrain: dict[str, Any] = Field(default_factory=dict, description="parameters of the pretrain stage")
    train: dict[str, Any] = Field(default_factory=dict, description="parameters of the train stage, such as size (N)")
    forget: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the unlearn stage, such as deletions and size (k)"
    )
    unlearning: list[Chosen] = Field(min_length=1, max_length=32, description="unlearning methods to compare")
    attacks: list[Chosen] = Field(min_length=1, max_length=32, description="attacks to run against each of them")
    evaluate: dict[str, Any] = Field(default_factory=dict, description="parameters of the evaluate stage")
    seeds: list[Seed] = Field(
        default_factory=lambda: [0],
        min_length=1,
        max_length=100,
        description="one training set and forget set each",
    )
    pretrain_seed: Seed = Field(0, description="seed of the base model, which all seeds share")
    fresh: bool = Field(False, description="run everything even if it was done before")
    priority: int = Field(0, ge=-100, le=100, description="higher goes first")
    time_limit: float | None = Field(None, gt=0, description="seconds that one attempt of a job may take")
