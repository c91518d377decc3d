"""The catalog: what workers can run, as data.

Workers describe their plugins and publish the description at start. The gateway validates a job
with it and never imports a plugin. `Catalog.check()` is the one place where stage, method,
parameters and roles are checked against that description; the worker validates again with the real
`Params`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from jsonschema.protocols import Validator
from pydantic import TypeAdapter, ValidationError

from shared.catalog_entry import CatalogEntry as CatalogEntry
from shared.compatibility import incompatibility_reason
from shared.data_files import DataFile
from shared.errors import InvalidRequest, PluginImportError, TransientError
from shared.param_schema import (
    build_validator,
    check_schema,
    explain_error,
    get_parameters,
    iter_data_paths,
    normalize_numbers,
)
from shared.plugins import DatasetTraits, JSONObject, ModelTraits, StageTraits
from shared.wiring import RunWhen

NUMBERED_ROLE = re.compile(r"_[1-9][0-9]{0,5}$")
# Bounds of what workers publish. The plugins that come along: 64 entries, 105 kB, the longest 32
# kB, nearly all of it the names of timm's models.
MAX_ENTRIES = 1000
MAX_BYTES = 4 * 2**20
MAX_ENTRY_BYTES = 64 * 2**10
_ENTRIES = TypeAdapter(list[CatalogEntry])


@dataclass(frozen=True)
class CheckedJob:
    """What a valid (stage, method, params) comes to.

    `params` holds every parameter, defaults filled in. `plugins` are the `kind:name` that the
    worker must have. `needs` are the roles its inputs must name, `uses` those they may, `many`
    those they may number. `run_when` says whether it waits for all inputs to succeed or only to
    finish. `code` is one digest over the code of all its plugins. `data_files` are those of the
    data root that its parameters name, and those that its plugins always read.
    """

    params: JSONObject
    plugins: tuple[str, ...]
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    many: tuple[str, ...]
    produces: tuple[str, ...]
    run_when: RunWhen
    code: str
    data_files: tuple[DataFile, ...] = ()


class Catalog:
    """All published entries, by kind and name."""

    def __init__(self, entries: Iterable[CatalogEntry]) -> None:
        self._entries = {(e.kind, e.name): e for e in entries}
        self._validators: dict[tuple[str, str], Validator] = {}
        self._completed_params: (
            dict[tuple[str, str, str], tuple[JSONObject, list[CatalogEntry]] | InvalidRequest]
            | None
        ) = None

    @classmethod
    def from_json(cls, body: list[JSONObject]) -> Catalog:
        """The catalog that was published as `body`.

        Raises:
            PluginImportError: as `require_bounded`, or an entry is malformed.
        """
        try:
            catalog = cls(_ENTRIES.validate_python(body))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            entry = f"entry {where} of the catalog" if where else "the catalog"
            raise PluginImportError(f"{entry} is invalid: {first['msg']}") from error
        catalog.require_bounded()
        return catalog

    def require_bounded(self) -> None:
        """Refuse a catalog that would make a reader resolve outside references, or work without
        bound.

        Raises:
            PluginImportError: too many entries, one too long, or a schema outside of
                `shared.param_schema`; it names the plugin.
        """
        if len(self._entries) > MAX_ENTRIES:
            raise PluginImportError(
                f"the catalog has {len(self._entries)} plugins, above the limit of {MAX_ENTRIES}"
            )
        total = 0
        for entry in self:
            who = f"{entry.kind} {entry.name}"[:100]
            try:
                check_schema(entry.params_schema)
                size = len(entry.model_dump_json().encode())
            except ValueError as error:
                raise PluginImportError(f"the parameters of {who}: {error}") from error
            if size > MAX_ENTRY_BYTES:
                raise PluginImportError(
                    f"the description of {who} has {size} bytes, above the limit of "
                    f"{MAX_ENTRY_BYTES}"
                )
            total += size
        if total > MAX_BYTES:
            raise PluginImportError(
                f"the catalog has {total} bytes, above the limit of {MAX_BYTES}"
            )

    def with_cache(self) -> Catalog:
        """The same catalog, which validates each set of parameters once. For the time of one plan:
        it only grows."""
        catalog = Catalog(self._entries.values())
        catalog._validators, catalog._completed_params = self._validators, {}
        return catalog

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

    def list_names(self, kind: str) -> list[str]:
        return sorted(n for k, n in self._entries if k == kind)

    def require_published(self) -> None:
        """In the first minute of a deployment nothing is known of what may be asked for.

        Raises:
            TransientError: no worker has published a catalog yet.
        """
        if not self._entries:
            raise TransientError(
                "no worker has published its catalog yet: wait until the first worker has started, "
                "or start one"
            )

    def get(self, kind: str, name: str, field: str) -> CatalogEntry:
        """The entry, or an error that lists the names there are and the nearest one.

        Raises:
            TransientError: no worker has published a catalog yet.
            InvalidRequest: unknown name; `field` says where in the request it stood.
        """
        self.require_published()
        entry = self._entries.get((kind, name))
        if entry is None:
            known = self.list_names(kind)
            if not known:
                raise InvalidRequest(
                    f"no worker has published any {kind} yet: start a worker, then check "
                    "/v1/catalog",
                    field,
                )
            near = get_close_matches(name[:100], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InvalidRequest(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}", field)
        return entry

    def describe(self, stage: str, method: str | None, params: Mapping[str, Any]) -> CheckedJob:
        """Validate stage, method and parameters, and say what inputs they ask for.

        Raises:
            InvalidRequest: with the field's dotted path: unknown stage, method or plugin; a
                parameter unknown, of the wrong type or out of bounds; a model that does not fit the
                data.
        """
        entry = self.get("stage", stage, "stage")
        entries = [entry]
        if entry.methods is not None:
            if not method:
                raise InvalidRequest(
                    f"stage {stage!r} needs a method. Known: "
                    f"{', '.join(self.list_names(entry.methods))}",
                    "method",
                )
            entries.append(self.get(entry.methods, method, "method"))
        elif method:
            raise InvalidRequest(
                f"stage {stage!r} has no methods, got {method!r}: remove the method", "method"
            )

        complete: JSONObject = {}
        used = list(entries)
        for part, given in zip(entries, split_params(params, entries), strict=True):
            complete |= self._complete_cached(part, given, used)
        self._check_compatibility(used)

        needs = tuple(dict.fromkeys(role for e in entries for role in e.list_needs(complete)))
        uses = tuple(dict.fromkeys(role for e in entries for role in e.uses))
        produces = tuple(dict.fromkeys(role for e in entries for role in e.list_outputs(complete)))
        names = tuple(sorted({f"{e.kind}:{e.name}" for e in used}))
        traits = entry.get_traits(StageTraits)
        # a stage that runs every plugin of a kind (evaluate: metrics) runs their code too
        run_entries = [*used, *(e for e in self if e.kind in traits.runs)]
        code = hashlib.sha256(
            "\n".join(sorted({f"{e.kind}:{e.name}={e.code}" for e in run_entries})).encode()
        ).hexdigest()
        many, run_when = tuple(entry.many), traits.run_when
        data_files = [
            file for e in entries for file in self._iter_data_files(e, complete, "params")
        ]
        # named is not optional
        files = {file.path: file for file in sorted(data_files, key=lambda file: not file.optional)}
        return CheckedJob(
            complete, names, needs, uses, many, produces, run_when, code, tuple(files.values())
        )

    def check(
        self, stage: str, method: str | None, params: Mapping[str, Any], roles: Iterable[str]
    ) -> CheckedJob:
        """Validate one job as far as it can be without running it.

        Args:
            roles: the roles that the job's inputs name.

        Raises:
            InvalidRequest: as `describe`, or a role is missing or not taken.
        """
        job = self.describe(stage, method, params)
        check_roles(job, stage, method, roles)
        return job

    def _check_compatibility(self, used: Iterable[CatalogEntry]) -> None:
        """Refuse a model that cannot take the job's data set, as far as that is known before a
        file is read."""
        by_kind = {entry.kind: entry for entry in used}
        if "model" in by_kind and "dataset" in by_kind:
            model, dataset = by_kind["model"], by_kind["dataset"]
            shape = dataset.get_traits(DatasetTraits).input_shape or ()
            if why := incompatibility_reason(model.name, model.get_traits(ModelTraits), shape):
                models = (e for e in self if e.kind == "model")
                fitting = [
                    e.name
                    for e in models
                    if not incompatibility_reason(e.name, e.get_traits(ModelTraits), shape)
                ]
                raise InvalidRequest(
                    f"{why} ({dataset.name}). Models that fit: {', '.join(fitting)}", "params.model"
                )

    def _complete_cached(
        self, entry: CatalogEntry, given: JSONObject, used: list[CatalogEntry]
    ) -> JSONObject:
        if self._completed_params is None:
            return self._complete(entry, given, "params", used)
        key = (entry.kind, entry.name, json.dumps(given, sort_keys=True))
        if key not in self._completed_params:
            inner: list[CatalogEntry] = []
            try:
                self._completed_params[key] = (self._complete(entry, given, "params", inner), inner)
            except InvalidRequest as error:
                self._completed_params[key] = error
        cached = self._completed_params[key]
        if isinstance(cached, InvalidRequest):
            raise InvalidRequest(cached.message, cached.field)
        used += cached[1]
        return cached[0]

    def _complete(
        self, entry: CatalogEntry, given: Mapping[str, Any], path: str, used: list[CatalogEntry]
    ) -> JSONObject:
        """`given` with defaults, inner plugins checked and added to `used`."""
        defs = entry.params_schema.get("$defs", {})
        values = self._fill_defaults(entry.properties, defs, given, path, used)
        for error in self._get_validator(entry).iter_errors(values):
            raise InvalidRequest(*explain_error(error, f"{entry.kind} {entry.name}", path))
        return values

    def _fill_defaults(
        self,
        properties: Mapping[str, Mapping[str, Any]],
        defs: Mapping[str, Any],
        given: Mapping[str, Any],
        path: str,
        used: list[CatalogEntry],
    ) -> JSONObject:
        """`given` with defaults, on all levels: parameters of another plugin, and those that are
        objects of named parameters themselves. Equal jobs have equal parameters."""
        values = dict(given)
        for name, schema in properties.items():
            if name not in values and "default" in schema:
                values[name] = schema["default"]
            if name not in values:
                continue
            value, where = normalize_numbers(values[name], schema), f"{path}.{name}"
            if "x-plugin" in schema and not (value is None and "anyOf" in schema):
                value = self._complete_plugin_ref(schema["x-plugin"], value, where, used)
            elif isinstance(value, dict):
                inner = get_parameters(schema, defs)
                value = self._fill_defaults(inner, defs, value, where, used)
            values[name] = value
        return values

    def _iter_data_files(
        self, entry: CatalogEntry, values: Mapping[str, Any], path: str
    ) -> Iterator[DataFile]:
        """What a plugin with these complete parameters reads from the data root, inner plugins
        included."""
        named: list[DataFile] = []
        for name, schema in entry.properties.items():
            value, field = values.get(name), f"{path}.{name}"
            if "x-plugin" in schema and value is not None:
                inner = self.get(schema["x-plugin"], value["name"], f"{field}.name")
                yield from self._iter_data_files(inner, value["params"], f"{field}.params")
            else:
                named += (DataFile(file, field) for file in iter_data_paths(value, schema))
        yield from named or (DataFile(file, path, optional=True) for file in entry.data_files)

    def _get_validator(self, entry: CatalogEntry) -> Validator:
        key = (entry.kind, entry.name)
        if key not in self._validators:
            self._validators[key] = build_validator(entry.params_schema)
        return self._validators[key]

    def complete_ref(self, kind: str, value: Any, field: str) -> JSONObject:
        """A choice of a plugin with all its parameters.

        Raises:
            InvalidRequest: no such plugin, or parameters that it does not take.
        """
        return self._complete_plugin_ref(kind, value, field, [])

    def _complete_plugin_ref(
        self, kind: str, value: Any, path: str, used: list[CatalogEntry]
    ) -> JSONObject:
        ref = {"name": value} if isinstance(value, str) else value
        if not isinstance(ref, dict) or not isinstance(ref.get("name"), str):
            raise InvalidRequest(
                f"{path} names a {kind}: give its name, or {{name, params}}; got {value!r}", path
            )
        for extra in sorted(ref.keys() - {"name", "params"}):
            raise InvalidRequest(
                f"unknown key {extra!r}; a {kind} is given as {{name, params}}", f"{path}.{extra}"
            )
        inner = ref.get("params") or {}
        if not isinstance(inner, dict):
            raise InvalidRequest(f"params must be an object, got {inner!r}", f"{path}.params")
        entry = self.get(kind, ref["name"], f"{path}.name")
        used.append(entry)
        return {"name": entry.name, "params": self._complete(entry, inner, f"{path}.params", used)}


def check_roles(job: CheckedJob, stage: str, method: str | None, roles: Iterable[str]) -> None:
    """Hold the roles that a job's inputs name against those that it needs and may have.

    Raises:
        InvalidRequest: a role is missing or not taken.
    """
    given = set(roles)
    for role in job.needs:
        if role not in given:
            who = f"{stage} {method}" if method else stage
            raise InvalidRequest(
                f"{who} needs {role}: name a job or an artifact that supplies it", f"inputs.{role}"
            )
    for role in sorted(given.difference(job.needs, job.uses)):
        if NUMBERED_ROLE.sub("", role) in job.many and NUMBERED_ROLE.search(role):
            continue
        raise InvalidRequest(
            f"{stage} takes no input {role} with these parameters; "
            f"it takes {', '.join([*job.needs, *job.uses, *(f'{m}_1, {m}_2, ...' for m in job.many)]) or 'none'}",
            f"inputs.{role}",
        )


def split_params(params: Mapping[str, Any], entries: list[CatalogEntry]) -> list[JSONObject]:
    """A job's flat parameters, shared out: the stage's own to the stage, all others to its
    method."""
    *first, _ = entries
    parts = [{k: v for k, v in params.items() if k in e.properties} for e in first]
    rest = {k: v for k, v in params.items() if not any(k in e.properties for e in first)}
    return [*parts, rest]
