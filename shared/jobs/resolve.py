"""Audit -> resolved audit: every choice is looked up in the catalog and validated, before a job is planned.

No file is read here: which ones are to be identified is known when all choices are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shared.catalog import Catalog
from shared.choices import Choice
from shared.data_files import DataFile
from shared.errors import InvalidRequest
from shared.forget_sets import KINDS, PLACES, check_form, with_deletable
from shared.jobs.blame import blame, blame_of, place_of
from shared.jobs.feasibility import check_forget_sets, check_probes, check_repeatable, check_retain
from shared.jobs.pipeline import Pipeline, Place
from shared.jobs.planner import Setting
from shared.jobs.spec import AuditSpec
from shared.jobs.sweep import swept
from shared.roles import Role
from shared.wiring import Scope

ADAPTIVE = "adaptive"  # the parameter of attacks: whether the attacker knows the defense
DATASET = "dataset"  # the audit's choice that may be told which records deletions name
UNLEARNING, DEFENSES, ATTACKS = "unlearning", "defenses", "attacks"  # the audit's lists of methods


class DistinctChoice(NamedTuple):
    """A choice of an audit, where it stands first, and all its places."""

    place: int
    choice: Choice
    places: list[int]


@dataclass(frozen=True, eq=False)
class ResolvedAudit:
    """An audit of which nothing is left to look up. Settings are by stage and the places that matter to it."""

    spec: AuditSpec
    pipeline: Pipeline
    seeds: list[int]
    unlearning: list[DistinctChoice]
    defenses: list[DistinctChoice]
    attacks: Mapping[int, list[DistinctChoice]]  # by place of the defense: as they are made on that one
    settings: Mapping[tuple[str, Place], Setting]
    catalog: Catalog
    files: tuple[DataFile, ...]  # of the data root that its jobs read, each once, by its field of the audit

    def identified(self, digests: Mapping[str, str]) -> ResolvedAudit:
        """The same, whose jobs read `files` as they are now: what `Identify` said of them."""
        return replace(self, settings={key: setting.identified(digests) for key, setting in self.settings.items()})

    def setting(self, stage: str, place: Place) -> Setting:
        """The stage, with its method and parameters at that place."""
        return self.settings[stage, self.pipeline.relevant(stage, place)]

    def is_asked_for(self, stage: str) -> bool:
        """Whether the flag of a stage is set, if it has one."""
        flag = self.pipeline.wirings[stage].flag
        return flag is None or getattr(self.spec, flag) is True

    def closing(self, stage: str, params: Mapping[str, Any]) -> Setting:
        """A stage that tells of all others, with what is known when they are planned."""
        entry, wiring = self.pipeline.entries[stage], self.pipeline.wirings[stage]
        return Setting.of(entry, wiring, None, self.catalog.describe(stage, None, params))

    @property
    def needed(self) -> frozenset[str]:
        """All roles that some job cannot do without."""
        return frozenset(role for setting in self.settings.values() for role in setting.checked.needs)


def is_adaptive(attack: Choice) -> bool:
    """Whether the attacker knows the defense."""
    return attack.params.get(ADAPTIVE) is True


def resolve(spec: AuditSpec, catalog: Catalog, require_jobs: Callable[[int], None]) -> ResolvedAudit:
    """The audit with sweeps written out, equal choices made one, and all its settings.

    Args:
        require_jobs: called with a number of jobs that it makes at least, before all choices are combined.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit.
    """
    return _Resolver(spec, catalog.remembering()).resolve(require_jobs)


class _Resolver:
    def __init__(self, spec: AuditSpec, catalog: Catalog) -> None:
        self.catalog = catalog
        self.pipeline = Pipeline.of(catalog)
        self._require_run()
        self._require_said_once(spec)
        with blame({field: f"forget.{field}" for field in ("class", PLACES, *KINDS)}):
            check_form(spec.forget)
        self.spec = swept(spec, catalog)
        self.against: dict[tuple[int, int], Choice] = {}  # by places of defense and attack
        self.settings: dict[tuple[str, Place], Setting] = {}
        self.files: dict[str, DataFile] = {}

    def resolve(self, require_jobs: Callable[[int], None]) -> ResolvedAudit:
        spec, pipeline = self.spec, self.pipeline
        for scope in (Scope.AUDIT, Scope.SEED):
            self._resolve_scope(scope, Place())
        for d, defense in enumerate(spec.defenses):
            for a, attack in enumerate(spec.attacks):
                self.against[d, a] = self._made_on(attack, defense)
        seeds = list(dict.fromkeys(spec.seeds))
        unlearning = self._distinct(UNLEARNING, (Place(unlearning=u) for u in range(len(spec.unlearning))))
        defenses = self._distinct(DEFENSES, (Place(defense=d) for d in range(len(spec.defenses))))
        attacks = {
            d: self._distinct(ATTACKS, (Place(defense=d, attack=a) for a in range(len(spec.attacks))))
            for d, *_ in defenses
        }
        # each attack is evaluated, each release made and evaluated
        require_jobs(len(seeds) * len(unlearning) * sum(len(attacks[d]) + 2 for d, *_ in defenses))
        for u, *_ in unlearning:
            for d, *_ in defenses:
                self._resolve_release(Place(u, d), [a for a, *_ in attacks[d]])
        for stage in pipeline.stages[Scope.REPORT]:
            for role in pipeline.wirings[stage].asks_for:
                self._resolve_maker(role, Place())
        files = tuple(self.files.values())
        return ResolvedAudit(spec, pipeline, seeds, unlearning, defenses, attacks, self.settings, self.catalog, files)

    def _resolve_release(self, release: Place, attacks: Iterable[int]) -> None:
        """Validate all that is made for one release, and refuse what cannot be done together."""
        made = self._resolve_scope(Scope.RELEASE, release)
        self._check_deletions(release, made)
        for attack in attacks:
            self._resolve_scope(Scope.ATTACK, release._replace(attack=attack))

    def _resolve_scope(self, scope: Scope, place: Place) -> dict[str, Setting]:
        """Validate the stages of a scope and those that they ask for on demand; returns settings by what they make."""
        made: dict[str, Setting] = {}
        for stage in self.pipeline.stages[scope]:
            if (flag := self.pipeline.wirings[stage].flag) and getattr(self.spec, flag) is not True:
                continue
            if flag and not self._is_fed(stage, made):
                continue
            setting = self._setting(stage, place)
            made |= dict.fromkeys(setting.checked.produces, setting)
            for role in setting.wanted:
                self._resolve_maker(role, place)
            if scope is Scope.ATTACK and self.spec.p_values and Role.ANSWERS in setting.checked.produces:
                check_repeatable(setting, f"{ATTACKS}.{place.attack}")
        return made

    def _is_fed(self, stage: str, made: Mapping[str, Setting]) -> bool:
        """Whether what only its own scope can make for a stage is made there."""
        entry, scope = self.pipeline.entries[stage], self.pipeline.wirings[stage].scopes[0]
        own = {role for other in self.pipeline.stages[scope] for role in self.pipeline.outputs[other]}
        return all(role in made for role in entry.needs if role in own)

    def _resolve_maker(self, role: str, place: Place) -> None:
        maker = self.pipeline.makers.get(role)
        if maker is None or (maker, self.pipeline.relevant(maker, place)) in self.settings:
            return
        setting = self._setting(maker, place)
        if role == Role.PROBES:
            with blame(blame_of(setting.wiring, self.spec, None, None)):
                check_probes(setting.params, self.catalog.get("dataset", self.spec.dataset.name, "dataset"))
        for wanted in setting.wanted:
            self._resolve_maker(wanted, place)

    def _check_deletions(self, release: Place, made: Mapping[str, Setting]) -> None:
        """Refuse at once what the worker would refuse of training, forget sets and method together."""
        train, unlearn = made.get(Role.TRAINING_SET), made.get(Role.FORGET_SETS)
        if train is None or unlearn is None or unlearn.method is None:
            return
        field = f"{UNLEARNING}.{release.unlearning}"
        check_forget_sets(train.params, unlearn.params)
        if self.spec.p_values:
            check_repeatable(unlearn, field)
        check_retain(train.params, unlearn, field)

    def _setting(self, stage: str, place: Place) -> Setting:
        key = stage, self.pipeline.relevant(stage, place)
        if key not in self.settings:
            self.settings[key] = self._describe(*key)
        return self.settings[key]

    def _describe(self, stage: str, place: Place) -> Setting:
        """
        Raises:
            InvalidRequest: see `Catalog.describe`; or the method brings a parameter of the stage.
        """
        entry, wiring = self.pipeline.entries[stage], self.pipeline.wirings[stage]
        choice, at = self._choice(wiring.methods, place)
        paths = blame_of(wiring, self.spec, choice, at)
        with blame(paths):
            for param in choice.params if choice else ():
                if choice and param in entry.properties:
                    # else the methods of one audit would not be compared on the same deletions
                    raise InvalidRequest(
                        f"{param} belongs to the stage {stage}, not to {choice.name}", f"params.{param}"
                    )
            params = {**self._params(stage, place), **(choice.params if choice else {})}
            checked = self.catalog.describe(stage, choice.name if choice else None, params)
        self._note(file._replace(field=place_of(file.field, paths)) for file in checked.data_files)
        method = self.catalog.get(entry.methods, choice.name, "method") if entry.methods and choice else None
        return Setting.of(entry, wiring, method, checked)

    def _note(self, files: Iterable[DataFile]) -> None:
        """Each is identified once a plan: all its jobs read the same. One that some job cannot do without is not
        optional, though others could."""
        for file in files:
            if file.path not in self.files or (self.files[file.path].optional and not file.optional):
                self.files[file.path] = file

    def _choice(self, methods: str | None, place: Place) -> tuple[Choice | None, int | None]:
        if methods == UNLEARNING and place.unlearning is not None:
            return self.spec.unlearning[place.unlearning], place.unlearning
        if methods == DEFENSES and place.defense is not None:
            return self.spec.defenses[place.defense], place.defense
        if methods == ATTACKS and place.attack is not None and place.defense is not None:
            return self.against[place.defense, place.attack], place.attack
        return None, None

    def _params(self, stage: str, place: Place) -> dict[str, Any]:
        wiring = self.pipeline.wirings[stage]
        given = dict(getattr(self.spec, wiring.params)) if wiring.params else {}
        if wiring.trained_for_methods:
            for name, value in self._ways(place).items():
                if given.get(name, value) != value:
                    raise InvalidRequest(
                        f"{wiring.params}.{name} is {given[name]!r}, but a method of this audit needs {value!r}: leave "
                        "it out here, and give it to the method",
                        f"params.{name}",
                    )
                given[name] = value
        return given | {name: self._shared(name) for name in wiring.shared_params}

    def _shared(self, name: str) -> dict[str, Any]:
        """A choice that stages share; the data set is told which records deletions name."""
        choice: dict[str, Any] = getattr(self.spec, name).model_dump()
        if name != DATASET or ("dataset", choice["name"]) not in self.catalog:
            return choice
        known = self.catalog.get("dataset", choice["name"], DATASET).properties
        with blame({kind: f"forget.{kind}" for kind in KINDS}):
            return with_deletable(choice, self.spec.forget, [*known])

    def _ways(self, place: Place) -> dict[str, Any]:
        """What the methods at a place want trained otherwise: see `trains` of a plugin."""
        found: dict[str, Any] = {}
        for stage in self.pipeline.stages[Scope.RELEASE]:
            if self.pipeline.wirings[stage].methods is not None:
                setting = self._setting(stage, place)
                found |= {name: setting.params[name] for name in setting.method.trains} if setting.method else {}
        return found

    def _made_on(self, attack: Choice, defense: Choice) -> Choice:
        """The attack as it is made on that defense: where knowing it is of no use, the one who does not is he."""
        if not is_adaptive(attack) or ("defense", defense.name) not in self.catalog:
            return attack
        if self.catalog.get("defense", defense.name, "defense").counter:
            return attack
        return Choice(name=attack.name, params={**attack.params, ADAPTIVE: False})

    def _distinct(self, methods: str, places: Iterable[Place]) -> list[DistinctChoice]:
        """The choices of one list that differ once defaults are filled in, each where it stands first."""
        found: dict[object, DistinctChoice] = {}
        stages = [stage for stage, wiring in self.pipeline.wirings.items() if wiring.methods == methods]
        for place in places:
            choice, at = self._choice(methods, place)
            assert choice is not None
            assert at is not None
            try:
                same: object = (choice.name, *(self._setting(stage, place).params_json for stage in stages))
            except InvalidRequest:
                same = at  # it is refused when its release is resolved, after what stands before it
            found.setdefault(same, DistinctChoice(at, choice, [])).places.append(at)
        return list(found.values())

    def _require_run(self) -> None:
        """Refuse an audit some of whose choices no stage would run: it would read as if they had been."""
        run = {wiring.methods for wiring in self.pipeline.wirings.values()}
        for methods in (UNLEARNING, DEFENSES, ATTACKS):
            if methods not in run:
                raise InvalidRequest(
                    f"no published stage runs the {methods} of an audit: start workers of the gateway's version, then "
                    "look at /v1/catalog",
                    methods,
                )

    def _require_said_once(self, spec: AuditSpec) -> None:
        """Refuse what a stage is given by the audit itself, and would not take from its own parameters."""
        for wiring in self.pipeline.wirings.values():
            for name in wiring.shared_params if wiring.params else ():
                if name in getattr(spec, str(wiring.params)):
                    raise InvalidRequest(
                        f"the audit itself names its {name}: leave this one out", f"{wiring.params}.{name}"
                    )
