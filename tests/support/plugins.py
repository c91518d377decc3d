"""A small catalog by hand: two data sets, one model, every stage, two of each kind of method. No
torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.catalog import Catalog, CatalogEntry
from shared.plugin_ref import PluginRef, plugin_field
from shared.plugins import DESCRIPTORS, Params, Plugin
from shared.wiring import RunWhen
from tests.support.wirings import WIRINGS


@dataclass(frozen=True, kw_only=True)
class ThingPlugin(Plugin):
    """A kind of a test's own."""

    kind = "thing"
    unit: str = "1"


def give_examples(plugin: Plugin) -> dict[str, Any]:
    """The first example of each parameter that has no default."""
    schema = plugin.params.model_json_schema()
    return {name: schema["properties"][name]["examples"][0] for name in schema.get("required", ())}


class Noisy(Params):
    sigma: float = Field(0.1, ge=0, le=1)


class Mlp(Params):
    width: int = Field(64, ge=1, le=1024)
    widths: tuple[float, ...] = Field((), max_length=3)


class Pretrain(Params):
    dataset: Annotated[PluginRef, plugin_field("dataset")] = PluginRef(name="digits")
    model: Annotated[PluginRef, plugin_field("model")] = PluginRef(name="mlp")
    epochs: int = Field(1, ge=0, le=100)


class Train(Params):
    dataset: Annotated[PluginRef, plugin_field("dataset")] = PluginRef(name="digits")
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
    non_members: int = Field(5, ge=1, description="samples never trained on")


class Probe(Params):
    queries: int = Field(100, ge=1)


class Matching(Params):
    labels: Literal["inferred", "given"] = "inferred"
    steps: int = Field(100, ge=1, le=10_000)
    adaptive: bool = False


class Evaluate(Params):
    resamples: int = Field(100, ge=1, le=10_000)
    feature_network: bool = False


class Report(Params):
    audit: dict[str, Any] = Field({})
    rows: list[dict[str, Any]] = Field([])
    measurements: list[dict[str, Any]] = Field([])


class Needy(Params):
    needed: int = Field(ge=0, description="has no default")


def _do_nothing() -> None:
    """Does what its name says."""


def _make_plugin(kind: str, name: str, params: type[Params] = Params, **described: Any) -> Plugin:
    descriptor = next(each for each in DESCRIPTORS if each.kind == kind)
    if kind == "stage":
        described["wiring"] = WIRINGS.get(name)
    return descriptor(name=name, target=_do_nothing, params=params, **described)


UNLEARN_OUTPUTS = ("UNLEARNED", "FORGET_SETS", "DELETION_SIZES", "LABELS")
PLUGINS = [
    _make_plugin("dataset", "digits"),
    _make_plugin("dataset", "noisy", Noisy),
    _make_plugin("model", "mlp", Mlp),
    _make_plugin("model", "needy", Needy),
    _make_plugin("stage", "pretrain", Pretrain, produces=("BASE",)),
    _make_plugin(
        "stage", "train", Train, needs=("BASE",), produces=("ORIGINAL", "TRAINING_SET", "PUBLIC")
    ),
    _make_plugin(
        "stage",
        "unlearn",
        Unlearn,
        needs=("ORIGINAL", "TRAINING_SET"),
        methods="unlearning",
        produces=UNLEARN_OUTPUTS,
        produces_when={"successive": {True: ("ORIGINAL",)}},
    ),
    _make_plugin(
        "stage",
        "defend",
        Defend,
        needs=("UNLEARNED", "TRAINING_SET", "FORGET_SETS"),
        methods="defense",
        produces=("RELEASED", "DEFENSE"),
    ),
    _make_plugin("stage", "probe", Probe, needs=("ORIGINAL",), produces=("PROBES",)),
    _make_plugin(
        "stage",
        "candidates",
        Candidates,
        needs=("FORGET_SETS",),
        produces=("CANDIDATES", "MEMBERSHIP"),
    ),
    _make_plugin("stage", "attack", methods="attack", produces=("RECONSTRUCTION",)),
    _make_plugin(
        "stage",
        "evaluate",
        Evaluate,
        needs=("FORGET_SETS",),
        needs_when={"feature_network": {"True": ("FEATURE_NETWORK",)}},
        uses=(
            "RECONSTRUCTION",
            "TRAINING_SET",
            "ORIGINAL",
            "UNLEARNED",
            "DEFENSE",
            "PUBLIC",
            "FEATURE_NETWORK",
            "MEMBERSHIP",
        ),
        produces=("EVALUATION", "PICTURES"),
        runs=("metric",),
    ),
    _make_plugin(
        "stage",
        "report",
        Report,
        uses=("SELF_TEST",),
        many=("EVALUATION", "PICTURES", "METRICS"),
        produces=("REPORT",),
        run_when=RunWhen.ALL_FINISHED,
    ),
    _make_plugin("stage", "selftest", produces=("SELF_TEST",), runs=("stage", "attack", "metric")),
    _make_plugin("metric", "psnr", takes="image", unit="dB", range=(0, 100), higher_is_better=True),
    _make_plugin("defense", "none"),
    _make_plugin("defense", "veil", Veil, adaptive_view=dict, produces=("AVERAGED_RELEASES",)),
    _make_plugin("defense", "mist", Mist, strength="density"),
    _make_plugin("defense", "private", Private, trains=("noise",)),
    _make_plugin("unlearning", "ascent", Ascent, exact=False),
    _make_plugin("unlearning", "retrain", needs=("BASE",), exact=True, retain="optional"),
    _make_plugin("unlearning", "sharded", Sharded, needs=("BASE",), trains=("shards",), exact=True),
    _make_plugin(
        "attack",
        "matching",
        Matching,
        access="white_box",
        needs=("ORIGINAL", "UNLEARNED"),
        needs_when={"labels": {"given": ("LABELS",)}, "adaptive": {"True": ("DEFENSE", "PUBLIC")}},
        uses=("BASE", "DELETION_SIZES"),
    ),
    _make_plugin("attack", "counting", access="white_box", needs=("DELETION_SIZES",)),
    _make_plugin("attack", "asking", access="black_box", needs=("UNLEARNED", "PROBES")),
    _make_plugin("attack", "suspecting", access="black_box", needs=("UNLEARNED", "CANDIDATES")),
]
# The least that an audit of these may say.
MINIMAL_AUDIT: dict[str, Any] = {
    "dataset": "digits",
    "model": "mlp",
    "unlearning": ["ascent"],
    "attacks": ["matching"],
}


def make_catalog(code: Mapping[str, str] | None = None) -> Catalog:
    """The catalog, in which the plugins named in `code` run on that code."""
    return Catalog(
        CatalogEntry.from_plugin(p, (code or {}).get(f"{p.kind}:{p.name}", "code")) for p in PLUGINS
    )
