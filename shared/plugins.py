"""What a plugin says of itself: one descriptor a kind, its fields typed and checked.

`...Traits` are the fields that only one kind has and that its plugins publish: the catalog's entry
carries them as `traits`, and a process that has only the catalog (the gateway) reads them there with
the same class. No torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, field, fields
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic_core import to_jsonable_python

from shared.wiring import RunWhen, Wiring

JSONObject = dict[str, Any]
Roles = tuple[str, ...]
RangeBound = int | float | None
_CHECKED = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)


class Params(BaseModel):
    """Base of every plugin's parameters: unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class Traits:
    """What plugins of one kind publish in addition to the fields of all plugins: here, nothing."""


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class StageTraits(Traits):
    """Of a stage.

    `runs`: kinds whose plugins it runs, all of them or those that its inputs name: their code is
    its code too. `run_when`: whether a job of it waits for all inputs to succeed, or runs when all
    have finished, with those that succeeded. `stall_timeout_s`: seconds that it may go without a
    sign of life; None leaves that to the worker.
    """

    runs: tuple[str, ...] = ()
    run_when: RunWhen = RunWhen.ALL_SUCCEEDED
    stall_timeout_s: float | None = None


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class AttackTraits(Traits):
    """Of an attack.

    `access`: it is handed weights (`white_box`), or asks models and counts its questions
    (`black_box`).
    """

    access: Literal["white_box", "black_box"]


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class DefenseTraits(Traits):
    """Of a defense.

    `acts`: on the unlearned model before its release, or while training. `strength`: the parameter
    that sets how strong it is, over which audits sweep; None where there is none.
    """

    acts: Literal["release", "training"] = "release"
    strength: str | None = None


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class UnlearningTraits(Traits):
    """Of an unlearning method.

    `exact`: what it gives is a model that never saw the forgotten samples.
    `retain`: whether samples must be left to keep.
    """

    exact: bool
    retain: Literal["needed", "optional"] = "needed"


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class DatasetTraits(Traits):
    """Of a data set, as far as it is known before a file is read.

    `input_shape`: C, H, W of a sample, F, 1, 1 for a row of a table; None in it, or for all of it,
    is not known yet. `num_classes`: None is not known yet. `split_params`: by split, the parameter
    without which that split is empty.
    """

    input_shape: tuple[int | None, int | None, int | None] | None = None
    num_classes: int | None = None
    split_params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class ModelTraits(Traits):
    """Of a model.

    `min_size`: pixels that the smaller side of an image needs; 1 takes tables too. `channels`: the
    number of channels that it takes; None takes any.
    """

    min_size: int = 1
    channels: int | None = None


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class MetricTraits(Traits):
    """Of a metric.

    `takes`: what it compares; see `shared/ml/metrics/README.md` for each. `unit`: of its values;
    "1" for a bare number. `range`: the lowest and the highest value; None is unbounded.
    `higher_is_better`: for the attacker. `min_size`, `channels`: images that it is defined for, by
    their smaller side in pixels and number of channels. `chance`: its mean for an attacker who
    guesses, where that is the same whatever the number of samples.
    """

    takes: Literal["image", "embedding", "decoys", "label", "membership", "classifier"]
    unit: str
    range: tuple[RangeBound, RangeBound]
    higher_is_better: bool
    min_size: int = 1
    channels: tuple[int, ...] | None = None
    chance: float | None = None


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class Plugin:
    """One thing a worker can do: what it is called, what it takes, what it needs, what it makes.

    `needs` are roles that must be among a job's inputs; `needs_when[param][value]` are further
    roles needed when that parameter has that value; `uses` are roles taken when given. `produces`
    are the roles of its outputs. `source` names where its idea was published.
    """

    kind: ClassVar[str]

    name: str
    target: Callable[..., Any]
    params: type[Params] = Params
    source: str = ""
    needs: Roles = ()
    needs_when: Mapping[str, Mapping[Any, Roles]] = field(default_factory=dict)
    uses: Roles = ()
    produces: Roles = ()

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return " ".join((inspect.getdoc(self.target) or "").partition("\n\n")[0].split())

    @property
    def module(self) -> str:
        return self.target.__module__


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class StagePlugin(StageTraits, Plugin):
    """A stage. `methods` is the kind of plugin that a job's `method` names.

    `many` are roles taken any number of times, as ROLE_1, ROLE_2 and so on;
    `produces_when[param][value]` are further outputs when that parameter has that value. `wiring`
    says how an audit runs it; None: by hand only.
    """

    kind = "stage"
    many: Roles = ()
    produces_when: Mapping[str, Mapping[Any, Roles]] = field(default_factory=dict)
    methods: str | None = None
    wiring: Wiring | None = None


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class AttackPlugin(AttackTraits, Plugin):
    """An attack: see `shared/ml/attacks/README.md`."""

    kind = "attack"


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class TrainedPlugin(Plugin):
    """A method that may need the original to have been trained in its way.

    `trains` are those of its parameters that the stage train takes as well, and takes from it.
    """

    trains: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class DefensePlugin(DefenseTraits, TrainedPlugin):
    """A defense. `adaptive_view` is what an attacker who knows the defense makes of the models: see
    `shared/ml/defenses/README.md`."""

    kind = "defense"
    adaptive_view: Callable[..., Any] | None = None


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class UnlearningPlugin(UnlearningTraits, TrainedPlugin):
    """An unlearning method: see `shared/ml/unlearning/README.md`."""

    kind = "unlearning"


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class DatasetPlugin(DatasetTraits, Plugin):
    """A data set: see `shared/ml/datasets/README.md`.

    `data_files` are files and folders of the data root, in the order in which they are looked for,
    that are read when no parameter names one (see `shared.plugin_ref.data_file_field`).
    """

    kind = "dataset"
    data_files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class ModelPlugin(ModelTraits, Plugin):
    """A model: see `shared/ml/models/README.md`."""

    kind = "model"


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class MetricPlugin(MetricTraits, Plugin):
    """A metric: see `shared/ml/metrics/README.md`."""

    kind = "metric"


DESCRIPTORS: tuple[type[Plugin], ...] = (
    StagePlugin,
    DatasetPlugin,
    ModelPlugin,
    UnlearningPlugin,
    DefensePlugin,
    AttackPlugin,
    MetricPlugin,
)
TRAITS: Mapping[str, type[Traits]] = {
    plugin.kind: next(base for base in plugin.__bases__ if issubclass(base, Traits))
    for plugin in DESCRIPTORS
}
_READERS: dict[type[Traits], TypeAdapter[Any]] = {Traits: TypeAdapter(Traits)}
_READERS |= {traits: TypeAdapter(traits) for traits in TRAITS.values()}


def extract_traits(plugin: Plugin) -> JSONObject:
    """A plugin's traits as the catalog publishes them: those without a default, and those that
    differ from it."""
    values = [(f, getattr(plugin, f.name)) for f in fields(TRAITS.get(plugin.kind, Traits))]
    return {
        f.name: to_jsonable_python(value)
        for f, value in values
        if value != (f.default if f.default_factory is MISSING else f.default_factory())
    }


def read_traits(kind: str, published: Mapping[str, Any]) -> Traits:
    """What `extract_traits` made, as it was.

    A name that this code does not know is passed over: a worker of a newer version may say more.

    Raises:
        ValidationError: a trait is missing, or no such value.
    """
    of_kind = TRAITS.get(kind, Traits)
    known = {f.name for f in fields(of_kind)}
    traits: Traits = _READERS[of_kind].validate_python(
        {name: value for name, value in published.items() if name in known}, strict=False
    )
    return traits


def list_field_names(plugin: type[Plugin]) -> Iterable[str]:
    """The fields that `Registry.register` takes for such a plugin, in addition to its name."""
    return [f.name for f in fields(plugin) if f.name not in ("name", "target")]
