"""A small catalog by hand: two data sets, one model, every stage, two of each kind of method. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from shared.catalog import Catalog, Entry
from shared.choices import Choice, choice_of
from shared.registry import Params, Plugin
from tests.support.wirings import WIRINGS


class Noisy(Params):
    sigma: float = Field(0.1, ge=0, le=1)


class Mlp(Params):
    width: int = Field(64, ge=1, le=1024)
    widths: tuple[float, ...] = Field((), max_length=3)


class Pretrain(Params):
    dataset: Annotated[Choice, choice_of("dataset")] = Choice(name="digits")
    model: Annotated[Choice, choice_of("model")] = Choice(name="mlp")
    epochs: int = Field(1, ge=0, le=100)


class Train(Params):
    dataset: Annotated[Choice, choice_of("dataset")] = Choice(name="digits")
    size: int = Field(50, ge=1, le=1000)
    lr: float = Field(0.1, gt=0, le=10)
    clip: float | None = Field(None, gt=0)
    shards: int = Field(1, ge=1, le=100)
    noise: float = Field(0.0, ge=0, le=10)


class Unlearn(Params):
    forget: Literal["samples", "class"] = "samples"
    deletions: int = Field(8, ge=1, le=100)
    size: int = Field(1, ge=1, le=100)
    indices: list[list[int]] | None = Field(None)
    successive: bool = Field(False)


class Sharded(Params):
    shards: int = Field(5, ge=2, le=100)


class Private(Params):
    noise: float = Field(1.0, gt=0, le=10)


class Ascent(Params):
    lr: float = Field(0.01, gt=0, le=1)


class Defend(Params):
    budget: float = Field(0.02, ge=0, le=1)
    max_accuracy_cost: float = Field(0.02, ge=0, le=1)


class Veil(Params):
    depth: float = Field(0.5, gt=0, le=1)


class Mist(Params):
    density: float | None = Field(None, gt=0, le=1)
    grid: list[float] = Field([0.1, 0.2, 0.4], min_length=1, max_length=64)


class Candidates(Params):
    never: int = Field(5, ge=1, description="samples never trained on")


class Probe(Params):
    queries: int = Field(100, ge=1)


class Matching(Params):
    labels: Literal["inferred", "given"] = "inferred"
    steps: int = Field(100, ge=1, le=10_000)
    adaptive: bool = False


class Evaluate(Params):
    resamples: int = Field(100, ge=1, le=10_000)
    judge: bool = False


class Report(Params):
    audit: dict[str, Any] = Field({})
    rows: list[dict[str, Any]] = Field([])
    measurements: list[dict[str, Any]] = Field([])


class Needy(Params):
    needed: int = Field(ge=0, description="has no default")


def _plugin(kind: str, name: str, params: type[Params] = Params, **described: Any) -> Plugin:
    def target() -> None:
        """Does what its name says."""

    return Plugin(kind, name, target, params, wiring=WIRINGS.get(name) if kind == "stage" else None, **described)


MADE = ("UNLEARNED", "FORGET_SETS", "COUNTS", "LABELS")
PLUGINS = [
    _plugin("dataset", "digits"),
    _plugin("dataset", "noisy", Noisy),
    _plugin("model", "mlp", Mlp),
    _plugin("model", "needy", Needy),
    _plugin("stage", "pretrain", Pretrain, produces=("BASE",)),
    _plugin("stage", "train", Train, needs=("BASE",), produces=("ORIGINAL", "TRAINING_SET", "PUBLIC")),
    _plugin(
        "stage",
        "unlearn",
        Unlearn,
        needs=("ORIGINAL", "TRAINING_SET"),
        methods="unlearning",
        produces=MADE,
        produces_when={"successive": {True: ("ORIGINAL",)}},
    ),
    _plugin(
        "stage",
        "defend",
        Defend,
        needs=("UNLEARNED", "TRAINING_SET", "FORGET_SETS"),
        methods="defense",
        produces=("RELEASED", "DEFENSE"),
    ),
    _plugin("stage", "probe", Probe, needs=("ORIGINAL",), produces=("PROBES",)),
    _plugin("stage", "candidates", Candidates, needs=("FORGET_SETS",), produces=("CANDIDATES", "MEMBERSHIP")),
    _plugin("stage", "attack", methods="attack", produces=("RECONSTRUCTION",)),
    _plugin(
        "stage",
        "evaluate",
        Evaluate,
        needs=("FORGET_SETS",),
        needs_when={"judge": {"True": ("JUDGE",)}},
        uses=("RECONSTRUCTION", "TRAINING_SET", "ORIGINAL", "UNLEARNED", "DEFENSE", "PUBLIC", "JUDGE", "MEMBERSHIP"),
        produces=("EVALUATION", "PICTURES"),
        traits={"runs": ["metric"]},
    ),
    _plugin(
        "stage",
        "report",
        Report,
        uses=("SELF_TEST",),
        many=("EVALUATION", "PICTURES", "METRICS"),
        produces=("REPORT",),
        traits={"tolerant": True},
    ),
    _plugin("stage", "selftest", produces=("SELF_TEST",), traits={"runs": ["stage", "attack", "metric"]}),
    _plugin("metric", "psnr"),
    _plugin("defense", "none"),
    _plugin("defense", "veil", Veil, counter=dict, produces=("FETCHED",)),
    _plugin("defense", "mist", Mist, traits={"strength": "density"}),
    _plugin("defense", "private", Private, trains=("noise",)),
    _plugin("unlearning", "ascent", Ascent),
    _plugin("unlearning", "retrain", needs=("BASE",), traits={"retain": "optional"}),
    _plugin("unlearning", "sharded", Sharded, needs=("BASE",), trains=("shards",)),
    _plugin(
        "attack",
        "matching",
        Matching,
        needs=("ORIGINAL", "UNLEARNED"),
        needs_when={"labels": {"given": ("LABELS",)}, "adaptive": {"True": ("DEFENSE", "PUBLIC")}},
        uses=("BASE", "COUNTS"),
    ),
    _plugin("attack", "counting", needs=("COUNTS",)),
    _plugin("attack", "asking", needs=("UNLEARNED", "PROBES")),
    _plugin("attack", "suspecting", needs=("UNLEARNED", "CANDIDATES")),
]
# The least that an audit of these may say.
LEAST: dict[str, Any] = {"dataset": "digits", "model": "mlp", "unlearning": ["ascent"], "attacks": ["matching"]}


def catalog(code: Mapping[str, str] | None = None) -> Catalog:
    """The catalog, in which the plugins named in `code` run on that code."""
    return Catalog(Entry.of(p, (code or {}).get(f"{p.kind}:{p.name}", "code")) for p in PLUGINS)
