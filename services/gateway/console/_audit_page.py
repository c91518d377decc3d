"""The form of a new audit as a page draws it: cards to choose from, groups of parameters, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.gateway.console._audit_check import FormMessage
from services.gateway.console._audit_form import (
    CHOICES,
    DECLARED_DATASET,
    DECLARED_MODEL,
    LAB,
    LAB_ONLY,
    MAX_FILES,
    MAX_RELEASES,
    OPEN_FIELDS,
    OWN,
    ChoiceKind,
    Values,
    brings_samples,
    join_name,
    list_choice_fields,
    list_stage_fields,
    list_stage_groups,
    name_release,
    read_rows,
    read_way,
    split_variant,
)
from services.gateway.console._examples import rank_choices
from services.gateway.console._param_fields import ParamField
from shared.catalog import Catalog, CatalogEntry
from shared.jobs.records import Audit
from shared.jobs.spec import AuditSpec
from shared.jobs.uploads import Upload
from shared.plugins import AttackTraits, DatasetTraits, UnlearningTraits
from shared.roles import Role

# of uploads that may be weights: what the client and the page say, or nothing
WEIGHTS_TYPES = frozenset(
    {"application/vnd.safetensors", "application/x-safetensors", "application/octet-stream"}
)
MIN_FIRST = 4  # cards that are shown without unfolding
TITLES = {
    "dataset": ("Data set", "Where training sets, deletions and public samples come from."),
    "model": ("Model", "The architecture that is trained."),
    "unlearning": ("Unlearning methods", "Each deletes the same samples, for comparison."),
    "defenses": ("Defenses", "Each is applied to every release. None releases the model as it is."),
    "attacks": ("Attacks", "Each attacks every release; the report ranks what leaked."),
}
OWN_TITLES = {
    "dataset": ("Samples", "The deleted and public samples. Without them, the report shows what "
                "was reconstructed, but has no scores."),
    "model": ("Architecture", "The model that the weights belong to."),
}  # fmt: skip
GROUP_TITLES = {
    "pretrain": "Pretraining", "train": "Training recipe", "forget": "More about deletions",
    "ingest": "More about the model", "defend": "Strength of defenses", "probe": "Probes of black-box attacks",
    "candidates": "Candidates of membership attacks", "shadow": "Shadow deletions for p-values",
    "retraining": "Retrained models", "forgetting": "Tests of forgetting", "evaluate": "Scores",
}  # fmt: skip


@dataclass(frozen=True)
class FieldView:
    """One parameter in the form."""

    name: str
    label: str
    param: ParamField
    value: str

    @property
    def id(self) -> str:
        """For labels."""
        return "f-" + self.name.replace("/", "--").replace("~", "-")


@dataclass(frozen=True)
class Card:
    """Something to choose.

    badges: a few words each, on what it is or needs.
    is_extra: the same once more, with other settings.
    has_samples: its files are samples that go with models that are brought.
    """

    key: str
    name: str
    summary: str
    badges: Sequence[str]
    fields: Sequence[FieldView]
    is_chosen: bool
    is_extra: bool
    has_samples: bool = False

    @property
    def must_be_filled(self) -> bool:
        """Whether something of it must be given, or should be."""
        return self.has_samples or any(field.param.default is None for field in self.fields)

    @property
    def changed(self) -> int:
        """Parameters that are set."""
        return sum(bool(field.value) for field in self.fields)


@dataclass(frozen=True)
class ChoiceView:
    """All cards of one choice; `more` are behind a fold."""

    field: str
    title: str
    help: str
    is_list: bool
    first: Sequence[Card]
    more: Sequence[Card]


@dataclass(frozen=True)
class GroupView:
    """Parameters of a stage; `open` are shown, `folded` after unfolding."""

    field: str
    title: str
    help: str
    open: Sequence[FieldView]
    folded: Sequence[FieldView]

    @property
    def changed(self) -> int:
        """Parameters behind the fold that are set."""
        return sum(bool(field.value) for field in self.folded)


@dataclass(frozen=True)
class FileOption:
    """A file to choose: an upload or a declared model."""

    value: str
    size: int | None
    media_type: str
    created_at: float | None


@dataclass(frozen=True)
class ReleaseRow:
    """A release of brought models; `weights` by deletion."""

    prefix: str
    name: str
    weights: Sequence[str]
    method: str
    params: str


@dataclass(frozen=True)
class FormView:
    """All of the form."""

    way: str
    values: Values
    choices: Mapping[str, ChoiceView]
    groups: Mapping[str, GroupView]
    releases: Sequence[ReleaseRow]
    retrained: Sequence[Sequence[str]]
    methods: Sequence[str]
    weights: Sequence[FileOption]
    uploads: Sequence[FileOption]
    messages: Mapping[str, str]

    @property
    def is_own(self) -> bool:
        """Whether weights are brought."""
        return self.way == OWN

    @property
    def field_help(self) -> Mapping[str, str]:
        """What the fields of the audit itself mean."""
        return {name: str(f.description or "") for name, f in AuditSpec.model_fields.items()}

    @property
    def may_add_release(self) -> bool:
        """Whether there is room for another release."""
        more = len(self.releases) + 1
        return more <= MAX_RELEASES and more * len(self.retrained) <= MAX_FILES

    @property
    def may_add_deletion(self) -> bool:
        """Whether there is room for another deletion."""
        return len(self.releases) * (len(self.retrained) + 1) <= MAX_FILES


def build_form(
    values: Values,
    catalog: Catalog,
    *,
    uploads: Iterable[Upload] = (),
    models: Iterable[str] = (),
    datasets: Iterable[str] = (),
    messages: Iterable[FormMessage] = (),
) -> FormView:
    """The form with these values.

    Args:
        models, datasets: declared ones, as NAME@VERSION.
        messages: to be shown beside their fields.
    """
    way = read_way(values)
    choices = {
        choice.field: _build_choice(values, catalog, choice, way, datasets)
        for choice in CHOICES
        if way == LAB or choice.field not in LAB_ONLY
    }
    order = list(AuditSpec.model_fields)
    stage_groups = sorted(list_stage_groups(catalog, way), key=lambda group: order.index(group[0]))
    files = [FileOption(one.sha256, one.size, one.media_type, one.created_at) for one in uploads]
    declared = [FileOption(f"{DECLARED_MODEL}{name}", None, "declared", None) for name in models]
    release_count, deletion_count = read_rows(values)
    deletions = range(deletion_count)
    return FormView(
        way,
        values,
        choices,
        {field: _build_group(values, field, entry) for field, entry in stage_groups},
        [_build_release(values, n, deletions) for n in range(release_count)],
        [values.getlist(join_name("retrained", str(d))) for d in deletions],
        catalog.list_names("unlearning"),
        [*declared, *(one for one in files if one.media_type in WEIGHTS_TYPES)],
        files,
        {message.field: message.text for message in messages},
    )


def _build_choice(
    values: Values, catalog: Catalog, choice: ChoiceKind, way: str, datasets: Iterable[str]
) -> ChoiceView:
    selected = [*dict.fromkeys(values.getlist(choice.field))]
    ranks = rank_choices(choice.field)
    names = catalog.list_names(choice.kind)
    if choice.field == "dataset":
        brought = [name for name in names if brings_samples(catalog, name)]
        others = [name for name in names if name not in brought]
        # files that are brought come first, and only where models are
        names, ranks = (
            (brought + others, dict.fromkeys(brought, 0)) if way == OWN else (others, ranks)
        )
    others_rank = len(selected) + len(ranks)

    def rank(name: str) -> int:
        if name in selected:
            return selected.index(name)
        return len(selected) + ranks[name] if name in ranks else others_rank + names.index(name)

    ranked = sorted(names, key=rank)
    cards = [_build_card(values, catalog, choice, name, name in selected) for name in ranked]
    extra: dict[str, list[Card]] = {}
    for key in selected:
        if key not in names and split_variant(key) in names:
            card = _build_card(values, catalog, choice, key, True)
            extra.setdefault(card.name, []).append(card)
    declared = [
        Card(f"{DECLARED_DATASET}{name}", name, "A data set that you have declared.", ("declared",),
             (), f"{DECLARED_DATASET}{name}" in selected, False)
        for name in _list_datasets(selected, datasets if choice.field == "dataset" else ())
    ]  # fmt: skip
    first, more = [*declared], list[Card]()
    for n, card in enumerate(cards):
        shown = card.is_chosen or card.name in ranks or n < MIN_FIRST or card.name in extra
        (first if shown else more).extend([card, *extra.get(card.name, ())])
    titles = OWN_TITLES if way == OWN and choice.field in OWN_TITLES else TITLES
    return ChoiceView(choice.field, *titles[choice.field], choice.is_list, first, more)


def _list_datasets(selected: Iterable[str], known: Iterable[str]) -> list[str]:
    """Declared data sets to choose from: the known ones, and what is selected."""
    declared = [key for key in selected if key.startswith(DECLARED_DATASET)]
    return [*dict.fromkeys([*known, *(key.removeprefix(DECLARED_DATASET) for key in declared)])]


def _build_card(
    values: Values, catalog: Catalog, choice: ChoiceKind, key: str, is_chosen: bool
) -> Card:
    name = split_variant(key)
    entry = catalog.get(choice.kind, name, "")
    fields = [
        _build_field(values, (choice.field, key), param) for param in list_choice_fields(entry)
    ]
    has_samples = choice.field == "dataset" and brings_samples(catalog, name)
    if has_samples:
        # files first; their classes are those of the model, which is asked once
        fields = sorted(
            (one for one in fields if one.value or one.param.path != ("num_classes",)),
            key=lambda one: not one.param.is_file,
        )
    return Card(
        key,
        name,
        entry.summary,
        _list_badges(entry),
        fields,
        is_chosen,
        is_extra=key != name,
        has_samples=has_samples,
    )


def _list_badges(entry: CatalogEntry) -> list[str]:
    """What somebody who chooses should know of it."""
    if entry.kind == "attack":
        access = str(entry.get_traits(AttackTraits).access).replace("_", " ")
        return [access, *(["costs queries"] if Role.PROBES in entry.needs else [])]
    if entry.kind == "unlearning":
        needs = {Role.BATCH_DELTAS: "records every batch", Role.SHARDS: "trains an ensemble"}
        return ["exact" if entry.get_traits(UnlearningTraits).exact else "approximate",
                *(text for role, text in needs.items() if role in entry.needs)]  # fmt: skip
    if entry.kind == "dataset":
        traits = entry.get_traits(DatasetTraits)
        shape = " × ".join("?" if size is None else str(size) for size in traits.input_shape or ())
        classes = [f"{traits.num_classes} classes"] if traits.num_classes else []
        return [*([shape] if shape else []), *classes]
    if entry.kind == "defense":
        return ["adaptive attack exists"] if entry.has_adaptive_attack else []
    return []


def _build_group(values: Values, field: str, entry: CatalogEntry) -> GroupView:
    labels = OPEN_FIELDS.get(field, {})
    views = [_build_field(values, (field,), param, labels) for param in list_stage_fields(entry)]
    is_open = [view.param.path[0] in labels for view in views]
    return GroupView(
        field,
        GROUP_TITLES.get(field, field.replace("_", " ").capitalize()),
        entry.summary,
        sorted(
            (view for view, shown in zip(views, is_open, strict=True) if shown),
            key=lambda view: [*labels].index(view.param.path[0]),
        ),
        [view for view, shown in zip(views, is_open, strict=True) if not shown],
    )


def _build_field(
    values: Values,
    group: tuple[str, ...],
    param: ParamField,
    labels: Mapping[str, str] | None = None,
) -> FieldView:
    name = join_name(*group, *param.path)
    label = (labels or {}).get(param.path[0], param.label)
    return FieldView(name, label, param, values.get(name, ""))


def _build_release(values: Values, n: int, deletions: range) -> ReleaseRow:
    prefix = join_name("releases", str(n))
    return ReleaseRow(
        prefix,
        values.get(join_name(prefix, "name"), name_release(n)),
        [values.get(join_name(prefix, "weights", str(d)), "") for d in deletions],
        values.get(join_name(prefix, "method"), ""),
        values.get(join_name(prefix, "method", "params"), ""),
    )


def describe_source(audit: Audit) -> str:
    """An earlier audit in the menu."""
    return f"{audit.name[:60]} ({audit.id[:12]}…)"
