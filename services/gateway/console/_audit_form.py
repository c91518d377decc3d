"""The form of a new audit, in both directions: what somebody has filled in becomes the body that
POST /v1/audits takes, and a body fills in the form.

A field is named by its place in the audit: `train/size`, `attacks/feature_recovery/iterations`. A
method that is chosen twice, with other settings, is `feature_recovery~2` the second time. Only
fields that the catalog knows are looked at, and only what is filled in is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from werkzeug.datastructures import MultiDict

from services.gateway.console._examples import DEFAULTS
from services.gateway.console._param_fields import SEPARATOR, ParamField, iter_param_fields
from services.values import format_value, parse_value
from shared.catalog import Catalog, CatalogEntry
from shared.plugins import DatasetTraits
from shared.wiring import ModelOrigin

LAB, OWN = "lab", "own"  # the two ways: train here, or bring weights
MAX_RELEASES, MAX_FILES = 16, 64  # of weights in the form; more go into a YAML file
MAX_CHOSEN = 32  # of one list, as AuditSpec has it
DECLARED_DATASET, DECLARED_MODEL = "declared:", "model:"
FORGOTTEN = "check_forgetting"
NUMBERS = ("pool", "pretrain_seed", "priority", "time_limit")
SWITCHES = ("p_values", "sweep", "no_cache")  # off unless they are ticked
WEIGHTS = ("original", "base")
OPTIONS = ("name", "seeds", "labels", "metadata", FORGOTTEN, *NUMBERS, *SWITCHES, *WEIGHTS)

# by field of the audit, the parameters that are shown without unfolding, with their labels
OPEN_FIELDS = {
    "forget": {"deletions": "Deletions", "size": "Samples per deletion"},
    "train": {"size": "Training set"},
    "ingest": {"input_shape": "Input shape", "num_classes": "Classes", "mean": "Mean",
               "std": "Standard deviation", "size": "Samples per deletion"},
}  # fmt: skip

_VARIANT = re.compile(r"(.*)~([2-9]|[12][0-9]|3[0-2])", re.DOTALL)
_DELETABLE = "deletable_"  # parameters of data sets that an audit fills in
_RELEASE_PARAMS = frozenset(
    {"release", "with_base", "with_public", "with_recipe", "exact"}
)  # of stages with `Wiring.release`, which the audit fills in; see there


class ChoiceKind(NamedTuple):
    """A choice of an audit: its field, the kind of plugin, and whether there may be several."""

    field: str
    kind: str
    is_list: bool


CHOICES = (
    ChoiceKind("dataset", "dataset", False),
    ChoiceKind("model", "model", False),
    ChoiceKind("unlearning", "unlearning", True),
    ChoiceKind("defenses", "defense", True),
    ChoiceKind("attacks", "attack", True),
)
LAB_ONLY = frozenset({"unlearning", "defenses"})

Values = MultiDict[str, str]  # of the form's fields


@dataclass(frozen=True)
class FilledForm:
    """What the form says.

    body: for POST /v1/audits.
    places: by path in the body, the field of the form that it comes from, where these differ.
    problems: what cannot become a body: by field, what is wrong.
    fields: of the form, as far as they were looked at.
    """

    body: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)

    def find_field(self, path: str) -> str:
        """The field of the form, at a dotted path of the body: the nearest that there is."""
        parts = path.split(".") if path else []
        for n in range(len(parts), 0, -1):
            place = self.places.get(".".join(parts[:n]))
            if place is not None:
                rest = parts[n:]
                rest = rest[1:] if rest[:1] == ["params"] else rest
                parts = [*place.split(SEPARATOR), *rest]
                break
        for n in range(len(parts), 0, -1):
            if (name := SEPARATOR.join(parts[:n])) in self.fields:
                return name
        return SEPARATOR.join(parts)


def list_stage_groups(catalog: Catalog, way: str) -> Iterator[tuple[str, CatalogEntry]]:
    """The fields of an audit that hold the parameters of a stage, with that stage."""
    other = ModelOrigin.BROUGHT if way == LAB else ModelOrigin.TRAINED
    seen = set()
    for name in catalog.list_names("stage"):
        entry = catalog.get("stage", name, "")
        wiring = entry.wiring
        if wiring and wiring.params and wiring.models != other and wiring.params not in seen:
            seen.add(wiring.params)
            yield wiring.params, entry


def list_stage_fields(entry: CatalogEntry) -> list[ParamField]:
    """The parameters of a stage that an audit may set."""
    taken = {*entry.wiring.shared_params} if entry.wiring else set[str]()
    if entry.wiring and entry.wiring.release:
        taken |= _RELEASE_PARAMS
    return [*iter_param_fields(entry, lambda name: name in taken)]


def list_choice_fields(entry: CatalogEntry) -> list[ParamField]:
    """The parameters of a method, a data set or a model that an audit may set."""
    return [*iter_param_fields(entry, lambda name: name.startswith(_DELETABLE))]


def brings_samples(catalog: Catalog, dataset: str) -> bool:
    """Whether a data set is files of samples that go with models that are brought."""
    return ("dataset", dataset) in catalog and bool(
        catalog.get("dataset", dataset, "").get_traits(DatasetTraits).split_params
    )


def join_name(*parts: str) -> str:
    """The name of a field."""
    return SEPARATOR.join(parts)


def split_variant(key: str) -> str:
    """The name of the plugin: `feature_recovery` of `feature_recovery~2`."""
    match = _VARIANT.fullmatch(key)
    return match[1] if match else key


def read_way(values: Values) -> str:
    """Which of the two ways."""
    return OWN if values.get("way") == OWN else LAB


def read_rows(values: Values) -> tuple[int, int]:
    """How many releases and how many deletions the form has rows for, at least one of each."""
    releases = min(_read_count(values, "releases"), MAX_RELEASES)
    return releases, min(_read_count(values, "deletions"), MAX_FILES // releases)


def _read_count(values: Values, name: str) -> int:
    text = values.get(name, "")
    return max(1, int(text)) if re.fullmatch(r"[0-9]{1,4}", text) else 1


# From the form to a body


def read_form(values: Values, catalog: Catalog) -> FilledForm:
    """What the form says, unchecked: whoever plans the body says what is wrong with it."""
    way, filled = read_way(values), FilledForm({}, fields={*OPTIONS, *(c.field for c in CHOICES)})
    body = filled.body
    if name := values.get("name", "").strip():
        body["name"] = name
    for choice in CHOICES:
        if way == LAB or choice.field not in LAB_ONLY:
            _read_choices(values, catalog, choice, filled)
    if way == OWN:
        _read_weights(values, filled)
    for group, entry in list_stage_groups(catalog, way):
        params: dict[str, Any] = {}
        for param in list_stage_fields(entry):
            _read_param(values, (group,), param, params, filled)
        if params:
            body[group] = params
    if way == OWN:
        _complete_samples(catalog, filled)
    _read_options(values, way, filled)
    return filled


def _complete_samples(catalog: Catalog, filled: FilledForm) -> None:
    """What the form asks for once: the samples have the classes of the model. Samples without a
    file are a problem: an audit without any says so."""
    body = filled.body
    choice = body.get("dataset")
    name = choice.get("name", "") if isinstance(choice, dict) else choice
    if not isinstance(name, str) or not brings_samples(catalog, name):
        return
    entry = catalog.get("dataset", name, "")
    params = dict(choice["params"]) if isinstance(choice, dict) else {}
    files = [param.path[0] for param in list_choice_fields(entry) if param.is_file]
    if not any(file in params for file in files):
        del body["dataset"]
        place = join_name("dataset", name, *files[:1])
        filled.problems.append((place, "Choose a file of samples, or choose “No samples”."))
        return
    classes = body.get("ingest", {}).get("num_classes")
    if "num_classes" in entry.properties and classes is not None:
        params.setdefault("num_classes", classes)
    body["dataset"] = {"name": name, "params": params}


def _read_choices(values: Values, catalog: Catalog, choice: ChoiceKind, filled: FilledForm) -> None:
    keys = [*dict.fromkeys(key for key in values.getlist(choice.field) if key)]
    selected = []
    for n, key in enumerate(keys if choice.is_list else keys[:1]):
        path = f"{choice.field}.{n}" if choice.is_list else choice.field
        filled.places[path] = join_name(choice.field, key)
        filled.fields.add(join_name(choice.field, key))
        selected.append(_read_choice(values, catalog, choice, key, filled))
    if choice.is_list:
        if selected or choice.field != "defenses":
            filled.body[choice.field] = selected
    elif selected:
        filled.body[choice.field] = selected[0]


def _read_choice(
    values: Values, catalog: Catalog, choice: ChoiceKind, key: str, filled: FilledForm
) -> Any:
    if choice.field == "dataset" and key.startswith(DECLARED_DATASET):
        return {"declared": key.removeprefix(DECLARED_DATASET)}
    name, params = split_variant(key), dict[str, Any]()
    if (choice.kind, name) in catalog:
        for param in list_choice_fields(catalog.get(choice.kind, name, "")):
            _read_param(values, (choice.field, key), param, params, filled)
    return {"name": name, "params": params} if params else name


def _read_param(
    values: Values,
    group: tuple[str, ...],
    param: ParamField,
    params: dict[str, Any],
    filled: FilledForm,
) -> None:
    """Put a parameter in its place among `params`, if it is filled in."""
    field_name = join_name(*group, *param.path)
    filled.fields.add(field_name)
    text = values.get(field_name, "").strip()
    if not text:
        return
    *outer, last = param.path
    for name in outer:
        params = params.setdefault(name, {})
    params[last] = param.parse(text)


def _read_weights(values: Values, filled: FilledForm) -> None:
    body = filled.body
    for name in WEIGHTS:
        if text := values.get(name, "").strip():
            body[name] = text
        elif name == "original":
            filled.problems.append((name, "Choose the weights from before the deletion."))
    release_count, deletion_count = read_rows(values)
    deletions, releases = range(deletion_count), list[dict[str, Any]]()
    for n in range(release_count):
        prefix = join_name("releases", str(n))
        files = [values.get(join_name(prefix, "weights", str(d)), "").strip() for d in deletions]
        name = values.get(join_name(prefix, "name"), "").strip()
        if not any(files) and n > 0:
            continue  # a row that was added and not filled in
        filled.problems.extend(
            (join_name(prefix, "weights", str(d)), f"Choose the weights from after {which}.")
            for d, file in enumerate(files)
            if not file
            for which in [_name_deletion(n, release_count, d, deletion_count)]
        )
        filled.fields.update(
            join_name(prefix, name) for name in ("name", "method", "method/params")
        )
        filled.fields.update(join_name(prefix, "weights", str(d)) for d in deletions)
        place = f"releases.{len(releases)}"
        filled.places[place] = prefix
        releases.append(
            {"name": name or ("after" if n == 0 else f"release-{n + 1}"), "weights": files}
        )
        if method := values.get(join_name(prefix, "method"), "").strip():
            releases[-1]["method"] = _read_stated_method(values, prefix, method)
    body["releases"] = releases
    retrained = [
        [text for text in values.getlist(join_name("retrained", str(d))) if text] for d in deletions
    ]
    filled.fields.update(join_name("retrained", str(d)) for d in deletions)
    if any(retrained):
        body["retrained"] = retrained


def _name_deletion(n: int, releases: int, d: int, deletions: int) -> str:
    """`the deletion`, `deletion 2`, `deletion 2 in release 1`."""
    deletion = "the deletion" if deletions == 1 else f"deletion {d + 1}"
    return deletion if releases == 1 else f"{deletion} in release {n + 1}"


def name_release(n: int) -> str:
    """What a release is called that has no name yet."""
    return "after" if n == 0 else f"release-{n + 1}"


def _read_stated_method(values: Values, prefix: str, method: str) -> Any:
    params = values.get(join_name(prefix, "method", "params"), "").strip()
    return {"name": method, "params": parse_value(params)} if params else method


def _read_options(values: Values, way: str, filled: FilledForm) -> None:
    body = filled.body
    for name in NUMBERS:
        if text := values.get(name, "").strip():
            body[name] = parse_value(text)
    if text := values.get("seeds", "").strip():
        body["seeds"] = [parse_value(part) for part in re.split(r"[,;\s]+", text) if part]
        if body["seeds"] == [0]:
            del body["seeds"]
    body |= {name: True for name in SWITCHES if values.get(name)}
    if way == LAB and not values.get(FORGOTTEN):
        body[FORGOTTEN] = False
    _read_labels(values, filled)
    if text := values.get("metadata", "").strip():
        body["metadata"] = parse_value(text)


def _read_labels(values: Values, filled: FilledForm) -> None:
    labels: dict[str, str] = {}
    for line in filter(str.strip, values.get("labels", "").splitlines()):
        key, sign, value = line.strip().partition("=")
        if not sign or not key.strip():
            filled.problems.append(
                ("labels", f"{line.strip()[:80]!r} is no label: write KEY=VALUE, one a line")
            )
        elif key.strip() in labels:
            filled.problems.append(("labels", f"the label {key.strip()[:80]!r} is given twice"))
        labels[key.strip()] = value.strip()
    if labels:
        filled.body["labels"] = labels


# From a body to the form


def fill_form(body: Mapping[str, Any], catalog: Catalog) -> tuple[Values, list[str]]:
    """The values of the form's fields, and what of the audit the form has no field for, in words.

    Args:
        body: as somebody has written it: nothing in it is as it should be.
    """
    return _Filler(catalog).fill(body)


def restore_names(body: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The body with declared names in place of what they stand for.

    Args:
        names: by field of the audit, NAME@VERSION; each is of the body.
    """
    restored: dict[str, Any] = deepcopy(dict(body))
    for path, label in names.items():
        if path == "dataset":
            restored[path] = {"declared": label}
            continue
        *outer, last = path.split(".")
        holder: Any = restored
        for part in outer:
            holder = holder[int(part) if isinstance(holder, list) else part]
        holder[int(last) if isinstance(holder, list) else last] = f"{DECLARED_MODEL}{label}"
    return restored


class _Filler:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._values: Values = MultiDict()
        self._left_out: list[str] = []

    def fill(self, body: Mapping[str, Any]) -> tuple[Values, list[str]]:
        way = OWN if body.get("original") or body.get("releases") else LAB
        self._values["way"] = way
        groups = dict(list_stage_groups(self._catalog, way))
        choices = {
            choice.field: choice for choice in CHOICES if way == LAB or choice.field not in LAB_ONLY
        }
        if body.get(FORGOTTEN, True) is not False:
            self._values[FORGOTTEN] = "on"
        if way == LAB and not body.get("defenses"):
            # what an audit without the field means is ticked, so that another tick adds to it
            body = {**body, "defenses": DEFAULTS["defenses"]}
        for name, value in body.items():
            if name in choices:
                self._fill_choices(choices[name], value)
            elif name in groups:
                fields = list_stage_fields(groups[name])
                self._fill_params((name,), value, fields, name)
            else:
                self._fill_option(name, value, way)
        return self._values, self._left_out

    def _leave_out(self, path: str, why: str) -> None:
        self._left_out.append(f"{path[:100]}: {why}")

    def _fill_choices(self, choice: ChoiceKind, value: Any) -> None:
        selected = value if choice.is_list and isinstance(value, list) else [value]
        counts: dict[str, int] = {}
        if len(selected) > MAX_CHOSEN:
            self._leave_out(choice.field, f"all but the first {MAX_CHOSEN}")
        for n, one in enumerate(selected[:MAX_CHOSEN]):
            path = f"{choice.field}.{n}" if choice.is_list else choice.field
            if one is None:
                continue
            if (
                choice.field == "dataset"
                and isinstance(one, str)
                and one.startswith(DECLARED_DATASET)
            ):
                self._values.add(choice.field, one)
                continue
            if isinstance(one, dict) and isinstance(one.get("declared"), str):
                version = f"@{one['version']}" if "version" in one else ""
                self._values.add(choice.field, f"{DECLARED_DATASET}{one['declared']}{version}")
                continue
            ref = {"name": one} if isinstance(one, str) else one
            name = ref.get("name") if isinstance(ref, dict) else None
            if not isinstance(name, str) or (choice.kind, name) not in self._catalog:
                self._leave_out(
                    path, f"{format_value(one)[:80]} is none of the {choice.kind}s here"
                )
                continue
            counts[name] = counts.get(name, 0) + 1
            key = name if counts[name] == 1 else f"{name}~{counts[name]}"
            self._values.add(choice.field, key)
            fields = list_choice_fields(self._catalog.get(choice.kind, name, ""))
            self._fill_params((choice.field, key), ref.get("params") or {}, fields, path)

    def _fill_params(
        self, group: tuple[str, ...], params: Any, fields: list[ParamField], path: str
    ) -> None:
        if not isinstance(params, dict):
            self._leave_out(path, "its parameters are no mapping")
            return
        known = {param.path: param for param in fields}
        objects = {param.path[:n] for param in fields for n in range(1, len(param.path))}

        def walk(values: Mapping[Any, Any], above: tuple[str, ...]) -> None:
            for name, value in values.items():
                here = (*above, str(name))
                if here in known:
                    self._values[join_name(*group, *here)] = known[here].format(value)
                elif here in objects and isinstance(value, dict):
                    walk(value, here)
                elif not (here in objects and value is None):
                    self._leave_out(".".join([path, *here]), "the form has no such parameter")

        walk(params, ())

    def _fill_option(self, name: str, value: Any, way: str) -> None:
        if name == "seeds" and isinstance(value, list):
            self._values[name] = ", ".join(format_value(one) for one in value)
        elif name == "labels" and isinstance(value, dict):
            self._values[name] = "\n".join(f"{key}={text}" for key, text in value.items())
        elif name == "metadata" and value:
            self._values[name] = format_value(value)
        elif name in SWITCHES:
            if value is True:
                self._values[name] = "on"
        elif name in NUMBERS or name == "name":
            if value is not None:
                self._values[name] = value if isinstance(value, str) else format_value(value)
        elif way == OWN and name in WEIGHTS:
            self._values[name] = _format_weights(value)
        elif way == OWN and name == "releases":
            self._fill_releases(value)
        elif way == OWN and name == "retrained" and isinstance(value, list):
            for d, files in enumerate(value[:MAX_FILES]):
                for one in files if isinstance(files, list) else []:
                    self._values.add(join_name("retrained", str(d)), _format_weights(one))
        elif not (name in (FORGOTTEN, "declared") or (way == OWN and name in LAB_ONLY)):
            self._leave_out(str(name), "the form has no such field")

    def _fill_releases(self, releases: Any) -> None:
        rows = (
            [one for one in releases if isinstance(one, dict)] if isinstance(releases, list) else []
        )
        lists = [one["weights"] for one in rows if isinstance(one.get("weights"), list)]
        deletions = max([1, *(len(files) for files in lists)])
        if len(rows) > MAX_RELEASES or len(rows) * deletions > MAX_FILES:
            self._leave_out(
                "releases",
                f"the form holds {MAX_RELEASES} releases and {MAX_FILES} files; submit this audit "
                "with palimpsest audit FILE",
            )
            return
        self._values["releases"], self._values["deletions"] = str(max(1, len(rows))), str(deletions)
        for n, release in enumerate(rows):
            prefix = join_name("releases", str(n))
            self._values[join_name(prefix, "name")] = str(release.get("name", ""))
            files = release.get("weights")
            for d, one in enumerate(files if isinstance(files, list) else []):
                self._values[join_name(prefix, "weights", str(d))] = _format_weights(one)
            method = release.get("method")
            if isinstance(method, dict):
                self._values[join_name(prefix, "method")] = str(method.get("name", ""))
                if method.get("params"):
                    params = format_value(method["params"])
                    self._values[join_name(prefix, "method", "params")] = params
            elif isinstance(method, str):
                self._values[join_name(prefix, "method")] = method


def _format_weights(value: Any) -> str:
    """A digest, or a declared model as `model:NAME@VERSION`."""
    if isinstance(value, dict):
        version = f"@{value['version']}" if "version" in value else ""
        return f"{DECLARED_MODEL}{value.get('model', '')}{version}"
    return str(value or "")
