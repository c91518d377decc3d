"""Audit -> resolved audit: every choice is looked up in the catalog and validated, before a job is
planned.

No file is read here: which ones are to be identified is known when all choices are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shared.catalog import Catalog
from shared.data_files import DataFile
from shared.errors import InvalidRequest
from shared.forget_sets import KINDS, PLACES, add_deletable, check_form
from shared.jobs.brought import check_brought_sizes, list_brought_parts
from shared.jobs.brought_shadows import check_brought_p_values
from shared.jobs.error_paths import build_path_map, map_error_fields, place_of
from shared.jobs.feasibility import check_forget_sets, check_probes, check_repeatable, check_retain
from shared.jobs.pipeline import GridCell, Pipeline
from shared.jobs.planner import JobTemplate
from shared.jobs.spec import AuditSpec
from shared.jobs.sweep import expand_sweep
from shared.plugin_ref import PluginRef
from shared.pool import check_feature_network, check_training_size
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope

ADAPTIVE = "adaptive"  # the parameter of attacks: whether the attacker knows the defense
DATASET = "dataset"  # the audit's choice that may get the records that deletions name
UNLEARNING, DEFENSES, ATTACKS = "unlearning", "defenses", "attacks"  # the audit's lists of methods


class DistinctChoice(NamedTuple):
    """A choice of an audit, where it stands first, and all its places."""

    position: int
    choice: PluginRef
    positions: list[int]


@dataclass(frozen=True, eq=False)
class ResolvedAudit:
    """An audit of which nothing is left to look up. Settings are by stage and the places that
    matter to it."""

    spec: AuditSpec
    pipeline: Pipeline
    seeds: list[int]
    unlearning: list[DistinctChoice]
    defenses: list[DistinctChoice]
    # by place of the defense: as they are made on that one
    attacks: Mapping[int, list[DistinctChoice]]
    templates: Mapping[tuple[str, GridCell], JobTemplate]
    catalog: Catalog
    # of the data root that its jobs read, each once, by its field of the audit
    files: tuple[DataFile, ...]

    def with_digests(self, digests: Mapping[str, str]) -> ResolvedAudit:
        """The same, whose jobs read `files` as they are now: the digests that `IdentifyFiles` gave."""
        return replace(
            self,
            templates={
                key: template.with_digests(digests) for key, template in self.templates.items()
            },
        )

    def get_template(self, stage: str, cell: GridCell) -> JobTemplate:
        """The stage, with its method and parameters at that place."""
        return self.templates[stage, self.pipeline.reduce_cell(stage, cell)]

    def is_enabled(self, stage: str, cell: GridCell) -> bool:
        """Whether the flag of a stage is set at that place, if it has one."""
        flag = self.pipeline.wirings[stage].flag
        return flag is None or self.spec.is_set(flag, cell.unlearning)

    def build_closing_template(self, stage: str, params: Mapping[str, Any]) -> JobTemplate:
        """A stage that tells of all others, with what is known when they are planned."""
        entry, wiring = self.pipeline.entries[stage], self.pipeline.wirings[stage]
        return JobTemplate.build(entry, wiring, None, self.catalog.describe(stage, None, params))

    @property
    def needed_roles(self) -> frozenset[str]:
        """All roles that some job cannot do without."""
        return frozenset(
            role for setting in self.templates.values() for role in setting.checked.needs
        )


def is_adaptive(attack: PluginRef) -> bool:
    """Whether the attacker knows the defense."""
    return attack.params.get(ADAPTIVE) is True


def resolve_audit(
    spec: AuditSpec, catalog: Catalog, require_jobs: Callable[[int], None]
) -> ResolvedAudit:
    """The audit with sweeps written out, equal choices made one, and all its settings.

    Args:
        require_jobs: called with a number of jobs that it makes at least, before all choices are
            combined.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit.
    """
    return _Resolver(spec, catalog.with_cache()).resolve(require_jobs)


class _Resolver:
    def __init__(self, spec: AuditSpec, catalog: Catalog) -> None:
        self.catalog = catalog
        self.pipeline = Pipeline.from_catalog(
            catalog, ModelOrigin.BROUGHT if spec.is_brought else ModelOrigin.TRAINED
        )
        self._require_run((ATTACKS,) if spec.is_brought else (UNLEARNING, DEFENSES, ATTACKS))
        check_brought_p_values(spec, catalog)
        self._reject_duplicate_params(spec)
        # where deletions are named
        self.deletions_field = "ingest" if spec.is_brought else "forget"
        with map_error_fields(self._map_deletions("class", PLACES, *KINDS)):
            check_form(getattr(spec, self.deletions_field))
        self.spec = expand_sweep(spec, catalog)
        self.attacks_on: dict[tuple[int, int], PluginRef] = {}  # by places of defense and attack
        self.templates: dict[tuple[str, GridCell], JobTemplate] = {}
        self.files: dict[str, DataFile] = {}

    def resolve(self, require_jobs: Callable[[int], None]) -> ResolvedAudit:
        spec, pipeline = self.spec, self.pipeline
        for scope in (Scope.AUDIT, Scope.SEED):
            self._resolve_scope(scope, GridCell())
        for d, defense in enumerate(spec.defenses):
            for a, attack in enumerate(spec.attacks):
                self.attacks_on[d, a] = self._adapt_attack(attack, defense)
        seeds = list(dict.fromkeys(spec.seeds))
        unlearning = self._deduplicate(
            UNLEARNING, (GridCell(unlearning=u) for u in range(len(spec.unlearning)))
        )
        defenses = self._deduplicate(
            DEFENSES, (GridCell(defense=d) for d in range(len(spec.defenses)))
        )
        attacks = {
            d: self._deduplicate(
                ATTACKS, (GridCell(defense=d, attack=a) for a in range(len(spec.attacks)))
            )
            for d, *_ in defenses
        }
        # each attack is evaluated, each release made and evaluated
        require_jobs(len(seeds) * len(unlearning) * sum(len(attacks[d]) + 2 for d, *_ in defenses))
        for u, *_ in unlearning:
            for d, *_ in defenses:
                self._resolve_release(GridCell(u, d), [a for a, *_ in attacks[d]])
        for stage in pipeline.stages[Scope.REPORT]:
            for role in pipeline.wirings[stage].optional_needs:
                self._resolve_maker(role, GridCell())
        files = tuple(self.files.values())
        return ResolvedAudit(
            spec,
            pipeline,
            seeds,
            unlearning,
            defenses,
            attacks,
            self.templates,
            self.catalog,
            files,
        )

    def _resolve_release(self, release: GridCell, attacks: Iterable[int]) -> None:
        """Validate all that is made for one release, and refuse what cannot be done together."""
        templates = self._resolve_scope(Scope.RELEASE, release)
        self._check_deletions(release, templates)
        for attack in attacks:
            self._resolve_scope(Scope.ATTACK, release._replace(attack=attack))

    def _resolve_scope(self, scope: Scope, cell: GridCell) -> dict[str, JobTemplate]:
        """Validate the stages of a scope and those that they ask for on demand; returns settings by
        what they make."""
        templates: dict[str, JobTemplate] = {}
        for stage in self.pipeline.stages[scope]:
            flag = self.pipeline.wirings[stage].flag
            if flag and not self.spec.is_set(flag, cell.unlearning):
                continue
            if flag and not self._has_inputs(stage, templates):
                continue
            template = self._get_template(stage, cell)
            templates |= dict.fromkeys(template.checked.produces, template)
            for role in template.on_demand_roles:
                self._resolve_maker(role, cell)
            if (
                scope is Scope.ATTACK
                and self.spec.p_values
                and Role.ANSWERS in template.checked.produces
            ):
                check_repeatable(template, f"{ATTACKS}.{cell.attack}")
        return templates

    def _has_inputs(self, stage: str, templates: Mapping[str, JobTemplate]) -> bool:
        """Whether what only its own scope can make for a stage is made there."""
        entry, scope = self.pipeline.entries[stage], self.pipeline.wirings[stage].scopes[0]
        own_roles = {
            role for other in self.pipeline.stages[scope] for role in self.pipeline.outputs[other]
        }
        return all(role in templates for role in entry.needs if role in own_roles)

    def _resolve_maker(self, role: str, cell: GridCell) -> None:
        maker = self.pipeline.makers.get(role)
        if maker is not None and role == Role.FEATURE_NETWORK:
            check_feature_network(self._get_template(maker, cell).params)
        if maker is None or (maker, self.pipeline.reduce_cell(maker, cell)) in self.templates:
            return
        template = self._get_template(maker, cell)
        if role == Role.PROBES:
            with map_error_fields(build_path_map(template.wiring, self.spec, None, None)):
                check_probes(
                    template.params,
                    self.catalog.get("dataset", self.spec.dataset.name, "dataset")
                    if self.spec.dataset
                    else None,
                )
        for wanted in template.on_demand_roles:
            self._resolve_maker(wanted, cell)

    def _check_deletions(self, release: GridCell, templates: Mapping[str, JobTemplate]) -> None:
        """Refuse at once what the worker would refuse of training, forget sets and method
        together."""
        if self.spec.is_brought and release.unlearning is not None:
            check_brought_sizes(self.spec, release.unlearning)
        train, unlearn = templates.get(Role.TRAINING_SET), templates.get(Role.FORGET_SETS)
        if train is None or unlearn is None or unlearn.method is None:
            return
        field = f"{UNLEARNING}.{release.unlearning}"
        check_training_size(train.params)
        check_forget_sets(train.params, unlearn.params)
        if self.spec.p_values:
            check_repeatable(unlearn, field)
        check_retain(train.params, unlearn, field)

    def _get_template(self, stage: str, cell: GridCell) -> JobTemplate:
        key = stage, self.pipeline.reduce_cell(stage, cell)
        if key not in self.templates:
            self.templates[key] = self._build_template(*key)
        return self.templates[key]

    def _build_template(self, stage: str, cell: GridCell) -> JobTemplate:
        """
        Raises:
            InvalidRequest: see `Catalog.describe`; or the method brings a parameter of the stage.
        """
        entry, wiring = self.pipeline.entries[stage], self.pipeline.wirings[stage]
        choice, index = self._get_choice(wiring.methods, cell)
        paths = build_path_map(wiring, self.spec, choice, index)
        if wiring.release:
            paths = {**paths, "params.stated_method": f"releases.{cell.unlearning}.method"}
        with map_error_fields(paths):
            for param in choice.params if choice else ():
                if choice and param in entry.properties:
                    # else the methods of one audit would not be compared on the same deletions
                    raise InvalidRequest(
                        f"{param} belongs to the stage {stage}, not to {choice.name}",
                        f"params.{param}",
                    )
            params = {**self._build_params(stage, cell), **(choice.params if choice else {})}
            checked = self.catalog.describe(stage, choice.name if choice else None, params)
        self._note(file._replace(field=place_of(file.field, paths)) for file in checked.data_files)
        method = (
            self.catalog.get(entry.methods, choice.name, "method")
            if entry.methods and choice
            else None
        )
        return JobTemplate.build(entry, wiring, method, checked)

    def _note(self, files: Iterable[DataFile]) -> None:
        """Each is identified once a plan: all its jobs read the same. One that some job cannot do
        without is not optional, though others could."""
        for file in files:
            if file.path not in self.files or (
                self.files[file.path].optional and not file.optional
            ):
                self.files[file.path] = file

    def _get_choice(
        self, methods: str | None, cell: GridCell
    ) -> tuple[PluginRef | None, int | None]:
        if methods == UNLEARNING and cell.unlearning is not None:
            return self.spec.unlearning[cell.unlearning], cell.unlearning
        if methods == DEFENSES and cell.defense is not None:
            return self.spec.defenses[cell.defense], cell.defense
        if methods == ATTACKS and cell.attack is not None and cell.defense is not None:
            return self.attacks_on[cell.defense, cell.attack], cell.attack
        return None, None

    def _build_params(self, stage: str, cell: GridCell) -> dict[str, Any]:
        wiring = self.pipeline.wirings[stage]
        params = dict(getattr(self.spec, wiring.params)) if wiring.params else {}
        if wiring.trained_for_methods:
            for name, value in self._collect_training_params(cell).items():
                if params.get(name, value) != value:
                    raise InvalidRequest(
                        f"{wiring.params}.{name} is {params[name]!r}, but a method of this audit "
                        f"needs {value!r}: remove it here, and set it on the method",
                        f"params.{name}",
                    )
                params[name] = value
        if wiring.release and cell.unlearning is not None:
            params["release"] = self.spec.releases[cell.unlearning].name
            params["with_recipe"] = self.spec.ingest.get("recipe") is not None
            params["exact"] = self.spec.is_exact(cell.unlearning)
            stated = self.spec.releases[cell.unlearning].method
            params["stated_method"] = stated and stated.model_dump()
            params |= list_brought_parts(self.spec, self.catalog, params)
        return params | {name: self._dump_shared_field(name) for name in wiring.shared_params}

    def _dump_shared_field(self, name: str) -> Any:
        """A field that stages share; the data set also gets the records that deletions name."""
        value = getattr(self.spec, name)
        if not isinstance(value, PluginRef):
            return value
        choice: dict[str, Any] = value.model_dump()
        if name != DATASET or ("dataset", choice["name"]) not in self.catalog:
            return choice
        known = self.catalog.get("dataset", choice["name"], DATASET).properties
        named = getattr(self.spec, self.deletions_field)
        if self.spec.is_brought and named.get("rows") and "deletable_rows" not in known:
            return (
                choice  # its rows are those of the train split, and no base model is trained here
            )
        with map_error_fields(self._map_deletions(*KINDS)):
            return add_deletable(choice, named, [*known])

    def _map_deletions(self, *fields: str) -> dict[str, str]:
        return {field: f"{self.deletions_field}.{field}" for field in fields}

    def _collect_training_params(self, cell: GridCell) -> dict[str, Any]:
        """What the methods at a place want trained otherwise: see `trains` of a plugin."""
        params: dict[str, Any] = {}
        for stage in self.pipeline.stages[Scope.RELEASE]:
            if self.pipeline.wirings[stage].methods is not None:
                template = self._get_template(stage, cell)
                params |= (
                    {name: template.params[name] for name in template.method.trains}
                    if template.method
                    else {}
                )
        return params

    def _adapt_attack(self, attack: PluginRef, defense: PluginRef) -> PluginRef:
        """The attack as it is made on that defense: where knowing it is of no use, the one who does
        not is he."""
        if not is_adaptive(attack) or ("defense", defense.name) not in self.catalog:
            return attack
        if self.catalog.get("defense", defense.name, "defense").has_adaptive_attack:
            return attack
        return PluginRef(name=attack.name, params={**attack.params, ADAPTIVE: False})

    def _deduplicate(self, methods: str, cells: Iterable[GridCell]) -> list[DistinctChoice]:
        """The choices of one list that differ once defaults are filled in, each where it stands
        first."""
        distinct: dict[object, DistinctChoice] = {}
        stages = [
            stage for stage, wiring in self.pipeline.wirings.items() if wiring.methods == methods
        ]
        for cell in cells:
            choice, index = self._get_choice(methods, cell)
            assert choice is not None
            assert index is not None
            try:
                identity: object = (
                    choice.name,
                    *(self._get_template(stage, cell).params_json for stage in stages),
                )
            except InvalidRequest:
                # it is refused when its release is resolved, after what stands before it
                identity = index
            distinct.setdefault(identity, DistinctChoice(index, choice, [])).positions.append(index)
        return list(distinct.values())

    def _require_run(self, lists: Iterable[str]) -> None:
        """Refuse an audit some of whose choices no stage would run: it would read as if they had
        been."""
        run = {wiring.methods for wiring in self.pipeline.wirings.values()}
        for methods in lists:
            if methods not in run:
                raise InvalidRequest(
                    f"no published stage runs the {methods} of an audit: start workers of the "
                    "gateway's version, then check /v1/catalog",
                    methods,
                )

    def _reject_duplicate_params(self, spec: AuditSpec) -> None:
        """Refuse what a stage is given by the audit itself, and would not take from its own
        parameters."""
        for wiring in self.pipeline.wirings.values():
            for name in wiring.shared_params if wiring.params else ():
                if name in getattr(spec, str(wiring.params)):
                    raise InvalidRequest(
                        f"the audit already has a field {name}: remove it here",
                        f"{wiring.params}.{name}",
                    )
