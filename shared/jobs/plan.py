"""The pure function audit -> jobs, with identical jobs made once.

The *plan key* of a job is a Merkle hash: stage, method, all parameters, seed, code digest, and for each
input the plan key of the job or the digest of the artifact it comes from. It is known before anything runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

from shared.catalog import Catalog, CheckedJob
from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.records import Input, PlannedJob
from shared.jobs.rows import to_json
from shared.jobs.spec import AuditSpec
from shared.jobs.sweep import swept
from shared.probes import quoted
from shared.shadows import unrepeatable

MAX_JOBS = 10_000
UNLEARNED, PROBES, CANDIDATES, JUDGE = "UNLEARNED", "PROBES", "CANDIDATES", "JUDGE"
ADAPTIVE = "adaptive"  # the parameter of attacks: whether the attacker knows the defense
FETCHED = "FETCHED"  # the mean of several fetches of one release, of defenses that draw anew for each
SELF_TEST = "SELF_TEST"
SEEDS = 2**31
# What an evaluation joins with the attacker's result: the truth, and what nulls are made of, with the same knowledge.
# Without TRAINING_SET it leaves out what the models are worth: that is another evaluation's, made once for all attacks.
JOINED = frozenset(
    {"FORGET_SETS", "UNLEARNING", "DEFENSE", "ORIGINAL", "UNLEARNED", "BASE", "COUNTS", "PUBLIC", "MEMBERSHIP", JUDGE}
)
ANSWERS = "ANSWERS"


class Source(NamedTuple):
    """Where a role comes from: what a planned job makes under `role`."""

    job: str  # its plan key
    role: str


Providers = Mapping[str, Source]


def plan_job(
    catalog: Catalog,
    stage: str,
    method: str | None,
    params: Mapping[str, Any],
    seed: int,
    inputs: tuple[Input, ...],
    *,
    parent_keys: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> PlannedJob:
    """One job.

    Args:
        parent_keys: plan key of each `Input.parent` that is a job id; a parent not in it is a plan key.

    Raises:
        InvalidRequest: see `Catalog.check`.
    """
    checked = catalog.check(stage, method, params, [i.role for i in inputs])
    key = _plan_key(stage, method, checked, seed, inputs, parent_keys or {})
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


def _plan_key(
    stage: str,
    method: str | None,
    checked: CheckedJob,
    seed: int,
    inputs: tuple[Input, ...],
    keys: Mapping[str, str],
) -> str:
    sources = {
        i.role: [keys.get(i.parent, i.parent), i.parent_role or i.role] if i.parent else i.sha256 for i in inputs
    }
    parts = {
        "stage": stage,
        "method": method,
        "params": checked.params,
        "seed": seed,
        "inputs": sources,
        "code": checked.code,
    }
    return hashlib.sha256(to_json(parts).encode()).hexdigest()


class _Planner:
    """Collects jobs, each once; `providers` maps a role to what supplies it along one branch."""

    def __init__(self, catalog: Catalog, fresh: bool) -> None:
        self.catalog = catalog
        self.fresh = fresh
        self.jobs: dict[str, PlannedJob] = {}

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
        name = method.name if method else None
        own = self.catalog.get("stage", stage, "stage").properties
        for param in method.params if method else {}:
            if param in own:  # else the methods of one audit would not be compared on the same deletions
                raise InvalidRequest(f"{param} belongs to the stage {stage}, not to {name}", f"params.{param}")
        merged = {**params, **(method.params if method else {})}
        # A stage's own optional roles are supplied; a method's are not: what an attacker is given is a choice.
        described = self.catalog.describe(stage, name, merged)
        wanted = {*described.needs, *self.catalog.get("stage", stage, "stage").uses, *(also & {*described.uses})}
        return self._plan(stage, name, merged, seed, {r: s for r, s in providers.items() if r in wanted})

    def report(self, params: Mapping[str, Any], evaluations: list[dict[str, Source]]) -> None:
        """Plan the job that tells of all evaluations; each of their outputs is numbered.

        Beside them it tells of the code's self-test, if it says that it uses one: a job that depends on the code alone.
        """
        used = self.catalog.get("stage", "report", "stage").uses
        tested = self.add("selftest", {}, 0, {}) if SELF_TEST in used else {}
        each = {made["EVALUATION"].job: made for made in evaluations}.values()
        many = {f"{role}_{n}": s for n, made in enumerate(each, start=1) for role, s in made.items()}
        self._plan("report", None, params, 0, many | tested)

    def _plan(
        self, stage: str, method: str | None, params: Mapping[str, Any], seed: int, providers: Providers
    ) -> dict[str, Source]:
        inputs = tuple(
            Input(role, parent=s.job, parent_role=None if s.role == role else s.role)
            for role, s in sorted(providers.items())
        )
        job = plan_job(self.catalog, stage, method, params, seed, inputs, fresh=self.fresh)
        self.jobs.setdefault(job.plan_key, job)
        if len(self.jobs) > MAX_JOBS:
            raise InvalidRequest(f"this grid makes more than {MAX_JOBS} jobs: split it", "")
        return {role: Source(job.plan_key, role) for role in job.produces}

    def params(self, source: Source) -> Mapping[str, Any]:
        """All parameters of the job that supplies it."""
        return self.jobs[source.job].params

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
        return self.catalog.describe("attack", attack.name, attack.params).needs

    def check_repeatable(
        self, stage: str, method: Choice, field: str, stage_params: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Refuse p-values where the deletions they rest on cannot be made again."""
        described = self.catalog.describe(stage, method.name, {**stage_params, **method.params})
        entry = self.catalog.get(self.catalog.get("stage", stage, "stage").methods or "", method.name, "method")
        needed = entry.needed(described.params)
        why = f"needs {lacking}" if (lacking := unrepeatable(needed)) else None
        if described.params.get("successive"):
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
        if attack.params.get(ADAPTIVE) is not True or self.catalog.get("defense", defense.name, "defense").counter:
            return attack
        return Choice(name=attack.name, params={**attack.params, ADAPTIVE: False})

    def needs_judge(self, evaluate: Mapping[str, Any]) -> bool:
        """Whether evaluations with these parameters look at images with a network of their own."""
        return JUDGE in self.catalog.describe("evaluate", None, evaluate).needs


def plan(spec: AuditSpec, catalog: Catalog) -> list[PlannedJob]:
    """All jobs of an audit, parents before children.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit.
    """
    spec = swept(spec, catalog)
    planner = _Planner(catalog, spec.fresh)
    dataset, model = spec.dataset.model_dump(), spec.model.model_dump()
    pretrain = {**spec.pretrain, "dataset": dataset, "model": model}
    with _blame({"params.dataset": "dataset", "params.model": "model", "params": "pretrain"}):
        base = planner.add("pretrain", pretrain, spec.pretrain_seed, {})
    with _blame({"params": "evaluate"}):
        judged = planner.needs_judge(spec.evaluate)
    if judged:  # what was attacked must not judge, and what judges must see as well: the same training, another seed
        base[JUDGE] = planner.add("pretrain", pretrain, (spec.pretrain_seed + 1) % SEEDS, {})["BASE"]
    evaluations: list[dict[str, Source]] = []
    for seed in dict.fromkeys(spec.seeds):
        for u, unlearning in enumerate(spec.unlearning):
            for d, defense in enumerate(spec.defenses):
                with _blame({"params.dataset": "dataset", "params": "train"}):
                    ways = planner.trained_for("unlearn", unlearning) | planner.trained_for("defend", defense)
                    recipe = {**_train(spec, ways), "dataset": dataset}
                    trained = base | planner.add("train", recipe, seed, base)
                with _blame_choice("unlearning", u, unlearning, "forget", spec.forget):
                    unlearned = trained | planner.add("unlearn", spec.forget, seed, trained, unlearning)
                _check_forget_sets(planner.params(trained["TRAINING_SET"]), planner.params(unlearned["FORGET_SETS"]))
                if spec.p_values:
                    planner.check_repeatable("unlearn", unlearning, f"unlearning.{u}", spec.forget)
                planner.check_retain(unlearning, f"unlearning.{u}", trained["TRAINING_SET"], unlearned["FORGET_SETS"])
                with _blame_choice("defenses", d, defense, "defend", spec.defend):
                    released = unlearned | planner.add("defend", spec.defend, seed, unlearned, defense)
                released[UNLEARNED] = released["RELEASED"]  # what is released is what an attacker gets to see
                evaluations += _evaluations(planner, spec, seed, released, defense)
    told = spec.model_dump(mode="json", exclude={"fresh", "priority", "time_limit"})
    planner.report({"audit": told}, evaluations)
    return list(planner.jobs.values())


def _train(spec: AuditSpec, ways: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the stage train for one pair of methods, which have the last word on what is theirs."""
    for name, value in ways.items():
        if spec.train.get(name, value) != value:
            raise InvalidRequest(
                f"train.{name} is {spec.train[name]!r}, but a method of this audit needs {value!r}: leave it out "
                "here, and give it to the method",
                f"params.{name}",
            )
    return {**spec.train, **ways}


def _check_forget_sets(train: Mapping[str, Any], unlearn: Mapping[str, Any]) -> None:
    """Refuse at once what the worker would refuse: forget sets are disjoint parts of the training set."""
    n, deletions, k, own = train["size"], unlearn["deletions"], unlearn["size"], unlearn.get("indices")
    if own is not None:
        if beyond := [place for row in own for place in row if place >= n]:
            raise InvalidRequest(f"there is no sample {beyond[0]} in a training set of {n}", "forget.indices")
        return
    if unlearn.get("forget") == "class":
        return  # how many a class has is known when the training set is drawn
    if k > n:
        raise InvalidRequest(f"a training set of {n} has no forget set of {k}", "forget.size")
    if deletions * k > n:
        raise InvalidRequest(
            f"{deletions} disjoint forget sets of {k} need a training set of at least {deletions * k}, not {n}: "
            "raise train.size or lower forget.deletions",
            "forget.deletions",
        )


def _several(forget: Mapping[str, Any]) -> bool:
    """Whether a deletion forgets several samples, or a share of a class, which may be several."""
    own = forget.get("indices")
    return len(own[0]) > 1 if own else forget["size"] > 1 or forget.get("forget") == "class"


def _evaluations(
    planner: _Planner, spec: AuditSpec, seed: int, released: Providers, defense: Choice
) -> list[dict[str, Source]]:
    """Plan what is asked of one released model: its utility, and every attack with its evaluation."""
    with _blame({"params": "evaluate"}):
        made = [{"EVALUATION": planner.add("evaluate", spec.evaluate, seed, released)["EVALUATION"]}]
    # An attacker that is not told how many samples, of how many classes, were forgotten takes it to be one of one.
    several = frozenset({"COUNTS"} if _several(planner.params(released["FORGET_SETS"])) else ())
    for a, attack in enumerate(planner.against(attack, defense) for attack in spec.attacks):
        seen = _fetched(released, attack)
        with _blame({"params": f"attacks.{a}.params", "method": f"attacks.{a}.name", "inputs": f"attacks.{a}"}):
            needed = planner.needed(attack)
        for role, stage, params in ((PROBES, "probe", spec.probe), (CANDIDATES, "candidates", spec.candidates)):
            if role in needed:
                with _blame({"params": stage, "stage": f"attacks.{a}"}):
                    seen = {**seen, **planner.add(stage, params, seed, released)}
        if PROBES in needed:
            with _blame({"params": "probe"}):
                planner.check_probes(seen[PROBES], spec.dataset)
        with _blame({"params": f"attacks.{a}.params", "method": f"attacks.{a}.name", "inputs": f"attacks.{a}"}):
            attacked = planner.add("attack", {}, seed, seen, attack, several)
            if spec.p_values and ANSWERS in attacked:
                planner.check_repeatable("attack", attack, "")
        if spec.p_values and ANSWERS in attacked:
            with _blame({"params": "shadow"}):
                attacked |= planner.add("shadow", spec.shadow, seed, {**seen, **attacked})
        with _blame({"params": "evaluate"}):
            truth = {role: seen[role] for role in seen if role in JOINED}
            made.append(planner.add("evaluate", spec.evaluate, seed, {**truth, **attacked}))
    return made


def _fetched(released: Providers, attack: Choice) -> Providers:
    """What the attacker gets of the release: who knows that each fetch differs fetches as often as is assumed."""
    often = attack.params.get(ADAPTIVE) is True and FETCHED in released
    return {**released, UNLEARNED: released[FETCHED]} if often else released


def _blame_choice(
    where: str, place: int, choice: Choice, stage: str, params: Mapping[str, Any]
) -> AbstractContextManager[None]:
    """Blame for one of a list of methods, whose stage has parameters of its own under `stage`."""
    own = {f"params.{name}": f"{stage}.{name}" for name in params if name not in choice.params}
    path = f"{where}.{place}"
    return _blame({**own, "params": f"{path}.params", "method": f"{path}.name", "inputs": path})


@contextmanager
def _blame(paths: Mapping[str, str]) -> Iterator[None]:
    """Rewrite the path of an error from within one job to where it stands in the audit (longest match)."""
    try:
        yield
    except InvalidRequest as error:
        for own, there in sorted(paths.items(), key=lambda p: -len(p[0])):
            if error.field == own or error.field.startswith(own + "."):
                field = there + error.field[len(own) :]
                raise InvalidRequest(error.message.replace(f"{error.field}: ", f"{field}: ", 1), field) from error
        raise
