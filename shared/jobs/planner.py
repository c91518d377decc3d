"""What `plan` collects its jobs with: each one once, under its plan key, described and validated once a setting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from shared.catalog import Catalog, CheckedJob, check_roles
from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.records import Input, PlannedJob
from shared.jobs.rows import to_json
from shared.jobs.spec import PlannedRow
from shared.probes import quoted
from shared.roles import Role
from shared.shadows import unrepeatable

ADAPTIVE = "adaptive"  # the parameter of attacks: whether the attacker knows the defense
NOTHING: Mapping[str, Any] = MappingProxyType({})
MAX_STORED_BYTES = 32 * 2**20  # parameters of all jobs of one audit: each job is stored with its own


class Source(NamedTuple):
    """Where a role comes from: what a planned job makes under `role`."""

    job: str  # its plan key
    role: str


Providers = Mapping[str, Source]


@dataclass(frozen=True, eq=False)
class Setting:
    """A stage with its method and parameters, validated: what all its jobs have in common, whatever their seed."""

    stage: str
    method: str | None
    checked: CheckedJob
    params_json: str  # canonical
    key_text: KeyText
    supplied: frozenset[str]  # roles that its jobs are given where there are any


class DistinctChoice(NamedTuple):
    """A choice of an audit, where it stands first, and all its places."""

    place: int
    choice: Choice
    places: list[int]


class EvaluatedRow(NamedTuple):
    """A row of the report, by the places of its methods in the audit, and what its evaluation makes."""

    seed: int
    unlearning: int
    defense: int
    attack: int | None
    adaptive_too: bool
    made: Mapping[str, Source]

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands in the report; what a release is worth comes before the attacks on it."""
        return self.unlearning, self.defense, -1 if self.attack is None else self.attack

    def planned(self, evaluation: str) -> dict[str, Any]:
        """As the report is told, with the role of its evaluation."""
        return PlannedRow(
            seed=self.seed,
            unlearning=self.unlearning,
            defense=self.defense,
            attack=self.attack,
            adaptive_too=self.adaptive_too,
            evaluation=evaluation,
        ).model_dump()


class KeyText(NamedTuple):
    """What of the canonical JSON under a plan key does not depend on inputs and seed: before, between and after."""

    before: str
    between: str
    after: str


def planned_job(
    key: str,
    stage: str,
    method: str | None,
    checked: CheckedJob,
    seed: int,
    inputs: tuple[Input, ...],
    fresh: bool,
) -> PlannedJob:
    """The job that was checked, under its plan key."""
    return PlannedJob(
        key,
        stage,
        method,
        checked.params,
        seed,
        inputs,
        checked.plugins,
        checked.produces,
        checked.code,
        fresh,
        checked.tolerant,
    )


def key_text(stage: str, method: str | None, checked: CheckedJob, params_json: str) -> KeyText:
    """`params_json` is the canonical JSON of all parameters."""
    return KeyText(
        f'{{"code":{to_json(checked.code)},"inputs":',
        f',"method":{to_json(method)},"params":{params_json},"seed":',
        f',"stage":{to_json(stage)}}}',
    )


def plan_key(text: KeyText, seed: int, sources: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of all that a job depends on.

    `sources` is by role the digest of an artifact, or [plan key, role] of the job that makes it.
    """
    whole = f"{text.before}{to_json(sources)}{text.between}{seed:d}{text.after}"
    return hashlib.sha256(whole.encode()).hexdigest()


def is_adaptive(attack: Choice) -> bool:
    """Whether the attacker knows the defense."""
    return attack.params.get(ADAPTIVE) is True


class Planner:
    """Collects jobs, each once; `providers` maps a role to what supplies it along one branch.

    Parameters and choices that are handed in are known again by identity, so that they are validated once and not
    once a job: they must not change meanwhile.
    """

    def __init__(self, catalog: Catalog, fresh: bool) -> None:
        self.catalog = catalog.remembering()
        self.fresh = fresh
        self.jobs: dict[str, PlannedJob] = {}
        self.stored_bytes = 0  # of their parameters
        self._settings: dict[tuple[str, int, int], tuple[Setting, object, object]] = {}

    def setting(self, stage: str, params: Mapping[str, Any], method: Choice | None = None) -> Setting:
        """The stage with these parameters and, beside them, those of the method.

        Raises:
            InvalidRequest: see `Catalog.describe`; or the method brings a parameter of the stage.
        """
        key = (stage, id(params), id(method))
        if key not in self._settings:  # both are kept, so that nothing else gets their ids
            self._settings[key] = (self._describe(stage, params, method), params, method)
        return self._settings[key][0]

    def _describe(self, stage: str, params: Mapping[str, Any], method: Choice | None) -> Setting:
        name, entry = method.name if method else None, self.catalog.get("stage", stage, "stage")
        for param in method.params if method else {}:
            if param in entry.properties:  # else the methods of one audit would not be compared on the same deletions
                raise InvalidRequest(f"{param} belongs to the stage {stage}, not to {name}", f"params.{param}")
        checked = self.catalog.describe(stage, name, {**params, **(method.params if method else {})})
        # A stage's own optional roles are supplied; a method's are not: what an attacker is given is a choice.
        supplied, params_json = frozenset({*checked.needs, *entry.uses}), to_json(checked.params)
        return Setting(stage, name, checked, params_json, key_text(stage, name, checked, params_json), supplied)

    def add(
        self,
        stage: str,
        params: Mapping[str, Any],
        seed: int,
        providers: Providers,
        method: Choice | None = None,
        also: frozenset[str] = frozenset(),
    ) -> dict[str, Source]:
        """Plan one job fed from `providers`; returns its outputs. `also`: roles to supply if the method uses them."""
        setting = self.setting(stage, params, method)
        wanted = setting.supplied | also.intersection(setting.checked.uses) if also else setting.supplied
        return self._plan(setting, seed, {r: s for r, s in providers.items() if r in wanted})

    def _plan(self, setting: Setting, seed: int, providers: Providers) -> dict[str, Source]:
        checked = setting.checked
        check_roles(checked, setting.stage, setting.method, providers)
        key = plan_key(setting.key_text, seed, providers)
        if key not in self.jobs:
            self.stored_bytes += len(setting.params_json)
            require_stored(self.stored_bytes)
            inputs = tuple(
                Input(role, parent=s.job, parent_role=None if s.role == role else s.role)
                for role, s in sorted(providers.items())
            )
            self.jobs[key] = planned_job(key, setting.stage, setting.method, checked, seed, inputs, self.fresh)
        return {role: Source(key, role) for role in checked.produces}

    @property
    def self_tested(self) -> bool:
        """Whether the report tells of the code's self-test: a job that depends on the code alone."""
        return Role.SELF_TEST in self.catalog.get("stage", "report", "stage").uses

    def report(self, audit: Mapping[str, Any], rows: Sequence[EvaluatedRow]) -> None:
        """Plan the job that tells of all rows, in their order; the outputs of each evaluation are numbered."""
        tested = self.add("selftest", NOTHING, 0, {}) if self.self_tested else {}
        numbers: dict[str, int] = {}
        many: dict[str, Source] = {}
        told = []
        for row in rows:
            number = numbers.setdefault(row.made[Role.EVALUATION].job, len(numbers) + 1)
            many |= {f"{role}_{number}": source for role, source in row.made.items()}
            told.append(row.planned(f"{Role.EVALUATION}_{number}"))
        self._plan(self.setting("report", {"audit": audit, "rows": told}), 0, many | tested)

    def params(self, source: Source) -> Mapping[str, Any]:
        """All parameters of the job that supplies it."""
        return self.jobs[source.job].params

    def distinct(
        self, stage: str, params: Mapping[str, Any], choices: Iterable[tuple[int, Choice]]
    ) -> list[DistinctChoice]:
        """The choices that differ once defaults are filled in, each where it stands first."""
        found: dict[object, DistinctChoice] = {}
        for place, choice in choices:
            try:
                same: object = (choice.name, self.setting(stage, params, choice).params_json)
            except InvalidRequest:
                same = place  # it is refused when its job is planned, where the blame is right
            found.setdefault(same, DistinctChoice(place, choice, [])).places.append(place)
        return list(found.values())

    def trained_for(self, stage: str, method: Choice) -> dict[str, Any]:
        """What the method wants the stage train to do otherwise: parameters of both (see `Plugin.trains`)."""
        kind = self.catalog.get("stage", stage, "stage").methods
        if kind is None or (kind, method.name) not in self.catalog:
            return {}  # it is refused when its own job is planned, where the blame is right
        ways = self.catalog.get(kind, method.name, "method").trains
        complete = self.catalog.describe(stage, method.name, method.params).params if ways else {}
        return {name: complete[name] for name in ways}

    def check_retain(self, unlearning: Choice, field: str, training_set: Source, forget_sets: Source) -> None:
        """Refuse a method that needs samples to keep, where each deletion forgets all there are."""
        n, forget = self.params(training_set)["size"], self.params(forget_sets)
        entry, own = self.catalog.get("unlearning", unlearning.name, field), forget.get("indices")
        k = len(own[0]) if own else forget["size"]
        if (own or forget.get("forget") != "class") and k == n and entry.traits.get("retain") != "optional":
            raise InvalidRequest(
                f"{unlearning.name} needs samples to keep: forget sets of {n} leave nothing of a training set of {n}",
                field,
            )

    def needed(self, attack: Choice) -> tuple[str, ...]:
        """The roles that an attack cannot do without: PROBES and CANDIDATES are made for those that want them."""
        return self.setting("attack", NOTHING, attack).checked.needs

    def check_repeatable(
        self, stage: str, method: Choice, field: str, stage_params: Mapping[str, Any] = NOTHING
    ) -> None:
        """Refuse p-values where the deletions they rest on cannot be made again."""
        params = self.setting(stage, stage_params, method).checked.params
        entry = self.catalog.get(self.catalog.get("stage", stage, "stage").methods or "", method.name, "method")
        why = f"needs {lacking}" if (lacking := unrepeatable(entry.needed(params))) else None
        if params.get("successive"):
            why = "with successive deletions starts from many models"
        if why:
            raise InvalidRequest(
                f"no p-values for {method.name}: it {why}, and shadow deletions are made from one model by its recipe; "
                "leave out p_values, or this method",
                field or "inputs",
            )

    def check_probes(self, probes: Source, dataset: Choice) -> None:
        """Refuse at once a search that may ask more than it is allowed, where the data set's shape is known."""
        if "preset" in (params := self.params(probes)):
            quoted(params, self.catalog.get("dataset", dataset.name, "dataset").traits)

    def against(self, attack: Choice, defense: Choice) -> Choice:
        """The attack as it is made on that defense: where knowing it is of no use, the one who does not is he."""
        if not is_adaptive(attack) or ("defense", defense.name) not in self.catalog:
            return attack
        if self.catalog.get("defense", defense.name, "defense").counter:
            return attack
        return Choice(name=attack.name, params={**attack.params, ADAPTIVE: False})

    def needs_judge(self, evaluate: Mapping[str, Any]) -> bool:
        """Whether evaluations with these parameters look at images with a network of their own."""
        return Role.JUDGE in self.setting("evaluate", evaluate).checked.needs


def require_stored(total_bytes: int) -> None:
    """Refuse an audit whose jobs would hold more parameters than may be stored.

    Raises:
        InvalidRequest: with the figure.
    """
    if total_bytes > MAX_STORED_BYTES:
        raise InvalidRequest(
            f"every job is stored with its parameters: at least {total_bytes:,} bytes in this grid, above "
            f"{MAX_STORED_BYTES:,}: split it, or give shorter parameters"
        )
