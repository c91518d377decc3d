"""The catalog: what workers can run, as data.

Workers describe their plugins and publish the description at start. The gateway validates a job with it
and never imports a plugin. `Catalog.check()` is the one place where stage, method, parameters and roles
are held against that description; the worker validates again with the real `Params`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import jsonschema
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import InvalidRequest
from shared.fit import misfit
from shared.registry import Plugin

JSONObject = dict[str, Any]
NUMBERED = re.compile(r"_[1-9][0-9]{0,5}$")


class Entry(BaseModel):
    """One plugin as published: see `shared.registry.Plugin` for the fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str
    name: str
    summary: str
    source: str = ""
    needs: list[str] = Field(default_factory=list)
    needs_when: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    uses: list[str] = Field(default_factory=list)
    many: list[str] = Field(default_factory=list)
    produces: list[str] = Field(default_factory=list)
    produces_when: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    trains: list[str] = Field(default_factory=list)
    methods: str | None = None
    counter: bool = Field(default=False, description="defenses: whether an attacker who knows it can make use of that")
    traits: JSONObject = Field(default_factory=dict)
    params_schema: JSONObject = Field(default_factory=dict)
    code: str = Field(
        default="",
        description="sha256 over the plugin's source, what it imports, and the versions it runs on",
    )

    @classmethod
    def of(cls, plugin: Plugin, code: str = "") -> Entry:
        """Describe a plugin."""
        return cls(
            kind=plugin.kind,
            name=plugin.name,
            summary=plugin.summary,
            source=plugin.source,
            needs=list(plugin.needs),
            needs_when=_as_data(plugin.needs_when),
            uses=list(plugin.uses),
            many=list(plugin.many),
            produces=list(plugin.produces),
            produces_when=_as_data(plugin.produces_when),
            trains=list(plugin.trains),
            methods=plugin.methods,
            counter=plugin.counter is not None,
            traits=dict(plugin.traits),
            params_schema=plugin.params.model_json_schema(),
            code=code,
        )

    @property
    def properties(self) -> JSONObject:
        found: JSONObject = self.params_schema.get("properties", {})
        return found

    def needed(self, params: Mapping[str, Any]) -> list[str]:
        """The roles this plugin needs with these parameters."""
        return _with(self.needs, self.needs_when, params)

    def made(self, params: Mapping[str, Any]) -> list[str]:
        """The roles this plugin makes with these parameters."""
        return _with(self.produces, self.produces_when, params)


def _as_data(by_param: Mapping[str, Mapping[Any, Iterable[str]]]) -> dict[str, dict[str, list[str]]]:
    return {param: {str(value): list(roles) for value, roles in by.items()} for param, by in by_param.items()}


def _with(always: list[str], by_param: Mapping[str, Mapping[str, list[str]]], params: Mapping[str, Any]) -> list[str]:
    more = [role for name, by in by_param.items() for role in by.get(str(params.get(name)), [])]
    return list(dict.fromkeys([*always, *more]))


@dataclass(frozen=True)
class CheckedJob:
    """What a valid (stage, method, params) comes to.

    `params` holds every parameter, defaults filled in. `plugins` are the `kind:name` that the worker must
    have. `needs` are the roles its inputs must name, `uses` those they may, `many` those they may number.
    A `tolerant` job runs when its inputs have ended, with those that succeeded. `code` is one digest over
    the code of all its plugins.
    """

    params: JSONObject
    plugins: tuple[str, ...]
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    many: tuple[str, ...]
    produces: tuple[str, ...]
    tolerant: bool
    code: str


class Catalog:
    """All published entries, by kind and name."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {(e.kind, e.name): e for e in entries}

    @classmethod
    def from_json(cls, body: list[JSONObject]) -> Catalog:
        return cls(Entry.model_validate(e) for e in body)

    def to_json(self) -> list[JSONObject]:
        return [e.model_dump() for e in self]

    def __iter__(self) -> Any:
        return iter(sorted(self._entries.values(), key=lambda e: (e.kind, e.name)))

    def __contains__(self, kind_and_name: tuple[str, str]) -> bool:
        return kind_and_name in self._entries

    @property
    def digest(self) -> str:
        """sha256 of the whole description: equal catalogs, equal digests."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def plugins(self) -> frozenset[str]:
        """Every `kind:name`."""
        return frozenset(f"{k}:{n}" for k, n in self._entries)

    def names(self, kind: str) -> list[str]:
        return sorted(n for k, n in self._entries if k == kind)

    def get(self, kind: str, name: str, field: str) -> Entry:
        """The entry, or an error that lists the names there are and the nearest one.

        Raises:
            InvalidRequest: unknown name; `field` says where in the request it stood.
        """
        entry = self._entries.get((kind, name))
        if entry is None:
            known = self.names(kind)
            if not known:
                raise InvalidRequest(
                    f"no worker has published any {kind} yet: start one, then look at /v1/catalog", field
                )
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InvalidRequest(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}", field)
        return entry

    def describe(self, stage: str, method: str | None, params: Mapping[str, Any]) -> CheckedJob:
        """Validate stage, method and parameters, and say what inputs they ask for.

        Raises:
            InvalidRequest: with the field's dotted path: unknown stage, method or plugin; a parameter
                unknown, of the wrong type or out of bounds; a model that does not fit the data.
        """
        entry = self.get("stage", stage, "stage")
        entries = [entry]
        if entry.methods is not None:
            if not method:
                raise InvalidRequest(
                    f"stage {stage!r} needs a method. Known: {', '.join(self.names(entry.methods))}", "method"
                )
            entries.append(self.get(entry.methods, method, "method"))
        elif method:
            raise InvalidRequest(f"stage {stage!r} has no methods, got {method!r}: leave it out", "method")

        complete: JSONObject = {}
        used = list(entries)
        for part, given in zip(entries, split_params(params, entries), strict=True):
            complete |= self._complete(part, given, "params", used)
        self._fit(used)

        needs = tuple(dict.fromkeys(role for e in entries for role in e.needed(complete)))
        uses = tuple(dict.fromkeys(role for e in entries for role in e.uses))
        produces = tuple(dict.fromkeys(role for e in entries for role in e.made(complete)))
        names = tuple(sorted({f"{e.kind}:{e.name}" for e in used}))
        # a stage that runs every plugin of a kind (evaluate: metrics) runs their code too
        ran = [*used, *(e for e in self if e.kind in entry.traits.get("runs", ()))]
        code = hashlib.sha256("\n".join(sorted({f"{e.kind}:{e.name}={e.code}" for e in ran})).encode()).hexdigest()
        many, tolerant = tuple(entry.many), bool(entry.traits.get("tolerant"))
        return CheckedJob(complete, names, needs, uses, many, produces, tolerant, code)

    def check(self, stage: str, method: str | None, params: Mapping[str, Any], roles: Iterable[str]) -> CheckedJob:
        """Validate one job as far as it can be without running it.

        Args:
            roles: the roles that the job's inputs name.

        Raises:
            InvalidRequest: as `describe`, or a role is missing or not taken.
        """
        job, given = self.describe(stage, method, params), set(roles)
        for role in job.needs:
            if role not in given:
                who = f"{stage} {method}" if method else stage
                raise InvalidRequest(
                    f"{who} needs {role}: name a job or an artifact that supplies it", f"inputs.{role}"
                )
        for role in sorted(given - set(job.needs) - set(job.uses)):
            if NUMBERED.sub("", role) in job.many and NUMBERED.search(role):
                continue
            raise InvalidRequest(
                f"{stage} takes no input {role} with these parameters; "
                f"it takes {', '.join([*job.needs, *job.uses, *(f'{m}_1, {m}_2, ...' for m in job.many)]) or 'none'}",
                f"inputs.{role}",
            )
        return job

    def _fit(self, used: Iterable[Entry]) -> None:
        """Refuse a model that cannot take the data set beside it, as far as that is known before a file is read."""
        by_kind = {entry.kind: entry for entry in used}
        if "model" in by_kind and "dataset" in by_kind:
            model, dataset = by_kind["model"], by_kind["dataset"]
            shape = dataset.traits.get("input_shape", ())
            if why := misfit(model.name, model.traits, shape):
                models = (e for e in self if e.kind == "model")
                fitting = [e.name for e in models if not misfit(e.name, e.traits, shape)]
                raise InvalidRequest(f"{why} ({dataset.name}). Models that fit: {', '.join(fitting)}", "params.model")

    def _complete(self, entry: Entry, given: Mapping[str, Any], path: str, used: list[Entry]) -> JSONObject:
        """`given` with defaults, inner plugins checked and added to `used`."""
        values = dict(given)
        for name, schema in entry.properties.items():
            if name not in values and "default" in schema:
                values[name] = schema["default"]
            if name in values:
                values[name] = _one_way(values[name], schema)
            if name in values and "x-plugin" in schema:
                values[name] = self._choice(schema["x-plugin"], values[name], f"{path}.{name}", used)
        schema = {k: v for k, v in entry.params_schema.items() if k != "title"}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(values):
            raise InvalidRequest(*_explain(error, entry, path))
        return values

    def _choice(self, kind: str, value: Any, path: str, used: list[Entry]) -> JSONObject:
        choice = {"name": value} if isinstance(value, str) else value
        if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
            raise InvalidRequest(f"{path} names a {kind}: give its name, or {{name, params}}; got {value!r}", path)
        for extra in sorted(choice.keys() - {"name", "params"}):
            raise InvalidRequest(f"unknown key {extra!r}; a {kind} is given as {{name, params}}", f"{path}.{extra}")
        inner = choice.get("params") or {}
        if not isinstance(inner, dict):
            raise InvalidRequest(f"params must be an object, got {inner!r}", f"{path}.params")
        entry = self.get(kind, choice["name"], f"{path}.name")
        used.append(entry)
        return {"name": entry.name, "params": self._complete(entry, inner, f"{path}.params", used)}


def split_params(params: Mapping[str, Any], entries: list[Entry]) -> list[JSONObject]:
    """A job's flat parameters, shared out: the stage's own to the stage, all others to its method."""
    *first, _ = entries
    parts = [{k: v for k, v in params.items() if k in e.properties} for e in first]
    rest = {k: v for k, v in params.items() if not any(k in e.properties for e in first)}
    return [*parts, rest]


def _one_way(value: Any, schema: Mapping[str, Any]) -> Any:
    """1 and 1.0 are the same number: it is written as the schema's type says, so that equal jobs are equal."""
    types = {s.get("type") for s in (schema, *schema.get("anyOf", ()))}
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_one_way(v, schema["items"]) for v in value]
    if type(value) is int and "number" in types and "integer" not in types:
        return float(value)
    if type(value) is float and value.is_integer() and "integer" in types and "number" not in types:
        return int(value)
    return value


def _explain(error: jsonschema.ValidationError, entry: Entry, path: str) -> tuple[str, str]:
    given: Any = error.instance
    schema: Any = error.schema
    said: Any = error.validator_value
    where = ".".join([path, *(str(p) for p in error.absolute_path)])
    if error.validator == "additionalProperties":
        unknown = sorted(set(given) - set(schema.get("properties", {})))
        names = sorted(entry.properties)
        near = get_close_matches(unknown[0], names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return (
            f"unknown parameter {unknown[0]!r} for {entry.kind} {entry.name}{hint} Known: {', '.join(names) or 'none'}",
            f"{where}.{unknown[0]}",
        )
    if error.validator == "required":
        missing = next(n for n in said if n not in given)
        return f"{entry.kind} {entry.name} needs parameter {missing!r}", f"{where}.{missing}"
    if error.validator == "anyOf":
        kinds = " or ".join(str(s.get("type", "value")) for s in said)
        deeper = [c for c in error.context or [] if c.validator not in ("type", "const")]
        if deeper:
            return f"{where}: {deeper[0].message}", where
        return f"{where}: {given!r} is not {kinds}", where
    return f"{where}: {error.message}", where
