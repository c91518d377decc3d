"""Stages that audits run because they say so: order, demand, flags, and wirings that make no
sense."""

from __future__ import annotations

from typing import Any

import pytest

from shared.catalog import Catalog, CatalogEntry
from shared.errors import InvalidRequest, TransientError
from shared.jobs.pipeline import Pipeline
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.jobs.wiring_check import KINDS
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring
from tests.support.planned_audits import list_roles
from tests.support.plugins import MINIMAL_AUDIT, make_catalog


def with_stages(*stages: CatalogEntry, **changes: dict[str, Any]) -> Catalog:
    """The small catalog, with further stages, and with other fields of the wirings that it has."""
    entries = []
    for entry in make_catalog():
        if entry.name in changes and entry.wiring:
            entry = entry.model_copy(
                update={"wiring": entry.wiring.model_copy(update=changes[entry.name])}
            )
        entries.append(entry)
    return Catalog([*entries, *stages])


def stage(
    name: str, *, needs: list[str], produces: list[str], uses: list[str] | None = None, **wired: Any
) -> CatalogEntry:
    """A stage without parameters."""
    schema = {"type": "object", "additionalProperties": False, "properties": {}}
    return CatalogEntry(
        kind="stage", name=name, summary="A further one.", needs=needs, uses=uses or [], produces=produces,
        params_schema=schema, wiring=Wiring(**wired),
    )  # fmt: skip


def planned(catalog_: Catalog, **change: Any) -> list[PlannedJob]:
    return plan(AuditSpec.model_validate({**MINIMAL_AUDIT, **change}), catalog_)


def list_produced_artifacts(jobs: list[PlannedJob], stage_: str) -> list[PlannedJob]:
    return [job for job in jobs if job.stage == stage_]


@pytest.mark.parametrize(
    ("scope", "count"),
    [(Scope.AUDIT, 1), (Scope.SEED, 2), (Scope.RELEASE, 2 * 2 * 2), (Scope.ATTACK, 2 * 2 * 2 * 2)],
)
def test_a_stage_runs_once_in_each_of_its_scope(scope: Scope, count: int) -> None:
    # what differs between the branches is what it is given: UNLEARNED of one release, and who
    # attacked it
    given = {
        Scope.AUDIT: ["BASE"],
        Scope.SEED: ["BASE"],
        Scope.RELEASE: ["UNLEARNED"],
        Scope.ATTACK: ["UNLEARNED"],
    }
    uses = ["RECONSTRUCTION"] if scope is Scope.ATTACK else []
    further = stage(
        "further",
        needs=given[scope],
        uses=uses,
        produces=["METRICS"],
        scopes=(scope,),
        reported=True,
    )
    attacks = ["matching", {"name": "matching", "params": {"steps": 7}}]
    grid = {
        "seeds": [1, 2],
        "unlearning": ["ascent", "retrain"],
        "defenses": ["none", "veil"],
        "attacks": attacks,
    }
    jobs = planned(with_stages(further), **grid)
    assert len(list_produced_artifacts(jobs, "further")) == count
    measured = jobs[-1].params["measurements"]
    assert len({one["metrics"] for one in measured}) == count
    for name, least in (
        ("seed", Scope.SEED),
        ("unlearning", Scope.RELEASE),
        ("attack", Scope.ATTACK),
    ):
        known = list(Scope).index(scope) >= list(Scope).index(least)
        assert all((one[name] is not None) == known for one in measured)


def test_stages_of_a_scope_stand_in_the_order_of_what_they_hand_on() -> None:
    """By their names the last one would come first."""
    first = stage("zz", needs=["ORIGINAL"], produces=["SHARDS"], scopes=(Scope.RELEASE,))
    last = stage("aa", needs=["SHARDS", "UNLEARNED"], produces=["METRICS"], scopes=(Scope.RELEASE,))
    jobs = planned(with_stages(first, last))
    order = [job.stage for job in jobs]
    assert order.index("zz") < order.index("aa")
    (job,) = list_produced_artifacts(jobs, "aa")
    by_key = {job.request_key: job for job in jobs}
    assert {i.role: by_key[str(i.parent)].stage for i in job.inputs} == {
        "SHARDS": "zz",
        "UNLEARNED": "defend",
    }


def test_on_demand_a_stage_runs_for_those_that_need_or_ask_for_it_and_only_then() -> None:
    further = stage(
        "further",
        needs=["FORGET_SETS"],
        produces=["SHADOWS"],
        scopes=(Scope.RELEASE,),
        on_demand=True,
    )
    assert list_produced_artifacts(planned(with_stages(further)), "further") == []
    asking = with_stages(further, evaluate={"optional_needs": (Role.SHADOWS,)})
    # evaluate does not use it: nothing is gained
    assert list_produced_artifacts(planned(asking), "further") == []
    evaluate = next(entry for entry in asking if entry.kind == "stage" and entry.name == "evaluate")
    using = Catalog(
        entry.model_copy(update={"uses": [*entry.uses, "SHADOWS"]}) if entry is evaluate else entry
        for entry in asking
    )
    jobs = planned(using)
    (made,) = list_produced_artifacts(jobs, "further")
    taken = [
        {i.role: i.parent for i in job.inputs}.get("SHADOWS")
        for job in list_produced_artifacts(jobs, "evaluate")
    ]
    assert taken == [made.request_key, made.request_key]


def test_a_flag_asks_for_a_stage_wherever_its_inputs_are() -> None:
    further = stage(
        "further",
        needs=["MEMBERSHIP", "ORIGINAL"],
        produces=["SHADOWS"],
        scopes=(Scope.ATTACK,),
        flag="p_values",
    )
    attacks = ["matching", "suspecting"]  # only the second has candidates lined up
    wired = with_stages(further)
    assert list_produced_artifacts(planned(wired, attacks=attacks), "further") == []
    (job,) = list_produced_artifacts(planned(wired, attacks=attacks, p_values=True), "further")
    assert list_roles(job) == ["MEMBERSHIP", "ORIGINAL"]


def test_what_is_on_its_way_to_an_attacker_is_made_from_what_all_attackers_get() -> None:
    """Who knows the defense has another UNLEARNED; what is made for all attackers on demand is made
    once."""
    probe = {"scopes": (Scope.RELEASE,), "on_demand": True}
    wired = Catalog(
        entry.model_copy(update={"needs": ["UNLEARNED"], "wiring": Wiring(**probe)})
        if entry.name == "probe"
        else entry
        for entry in make_catalog()
    )
    asking = {"name": "asking", "params": {}}
    jobs = planned(
        wired, attacks=[asking, "matching", {"name": "matching", "params": {"adaptive": True}}]
    )
    assert len(list_produced_artifacts(jobs, "probe")) == 1


@pytest.mark.parametrize(
    ("wired", "message"),
    [
        (
            {"params": "no_such"},
            "the stage further reads the field 'no_such' of an audit, which does not exist",
        ),
        (
            {"flag": "p_value"},
            "the stage further reads the field 'p_value' of an audit, which does not exist",
        ),
    ],
)
def test_a_stage_that_reads_what_audits_do_not_have_is_refused(
    wired: dict[str, Any], message: str
) -> None:
    further = stage("further", needs=["BASE"], produces=["METRICS"], scopes=(Scope.SEED,), **wired)
    with pytest.raises(InvalidRequest, match=message):
        planned(with_stages(further))


SEED: dict[str, Any] = {"seed": "pretrain_seed"}
AUDIT_SCOPE: dict[str, Any] = {"scopes": (Scope.AUDIT,)}


@pytest.mark.parametrize(
    ("described", "wired", "message"),
    [
        (
            {},
            {"params": "seeds"},
            "reads the field 'seeds' of an audit as its params, but must use one of pretrain, train, forget,",
        ),
        (
            {},
            {"flag": "name"},
            "reads the field 'name' of an audit as its flag, but must use one of sweep, p_values, "
            "check_forgetting, no_cache",
        ),
        (
            {},
            {"shared_params": ("seeds",)},
            "reads the field 'seeds' of an audit as its shared_params, but must use one of dataset, model, "
            "pretrain, train, forget, ingest, defend, probe, candidates, shadow, retraining, forgetting, "
            "evaluate, pool",
        ),
        (
            {},
            {"methods": "seeds"},
            "reads the field 'seeds' of an audit as its methods, but must use one of unlearning, defenses, "
            "attacks",
        ),
        ({}, {"methods": "attacks"}, "has no methods: remove methods from its wiring"),
        (
            {"methods": "attack"},
            {},
            "has methods of the kind attack: give its wiring methods='attacks'",
        ),
        (
            {"methods": "metric"},
            {"methods": "attacks"},
            "has methods of the kind metric: remove methods from its wiring",
        ),
        (
            {"methods": "attack"},
            {"methods": "attacks"},
            "runs once per seed, but its method, .* scopes of its wiring among attack",
        ),
        (
            {},
            {"trained_for_methods": True},
            "runs once per seed, but .* scopes of its wiring among attack, release",
        ),
        (
            {"methods": "attack"},
            {"methods": "attacks", "trained_for_methods": True},
            "has methods and is trained for",
        ),
        (
            {},
            {"scopes": (Scope.REPORT,)},
            "runs with the report, so it must have the parameters audit and rows",
        ),
        (
            {},
            {"on_demand": True, "scopes": (Scope.SEED, Scope.RELEASE)},
            "runs on demand, which works in one scope only",
        ),
        ({}, {"on_demand": True, "flag": "sweep"}, "runs both on demand and by a flag"),
        ({}, {"on_demand": True, "reported": True}, "runs on demand and is reported"),
        # the judge would be the very model that was attacked
        (
            {},
            {"twins": {Role.FEATURE_NETWORK: Role.METRICS}, **SEED},
            "has twins, .* scopes=.Scope.AUDIT,. and a seed",
        ),
        (
            {},
            {"twins": {Role.FEATURE_NETWORK: Role.METRICS}, **AUDIT_SCOPE},
            "has twins, .* is the same model",
        ),
        (
            {},
            {"twins": {Role.FEATURE_NETWORK: Role.ORIGINAL}, **SEED, **AUDIT_SCOPE},
            "has a twin FEATURE_NETWORK of ORIGINAL, which it does not always produce",
        ),
        (
            {"produces": ["SHADOWS"]},
            {"reported": True},
            "is reported, but does not always produce a role that reports take: let it produce",
        ),
        (
            {"produces": ["EVALUATION"]},
            {"reported": True},
            "is reported, but does not always produce a role",
        ),
        (
            {"produces": [], "produces_when": {"x": {"1": ["METRICS"]}}},
            {"reported": True},
            "is reported, but does not always produce a role",
        ),
    ],
)
def test_a_wiring_that_audits_cannot_follow_is_refused_with_what_to_do(
    described: dict[str, Any], wired: dict[str, Any], message: str
) -> None:
    further = stage(
        "further", needs=["BASE"], produces=["METRICS"], **{"scopes": (Scope.SEED,), **wired}
    )
    further = further.model_copy(update=described)
    with pytest.raises(InvalidRequest, match=f"the stage further {message}"):
        planned(with_stages(further))


def test_the_report_is_given_what_it_takes_of_a_reported_stage() -> None:
    """Before, an audit was refused for what else its stage made: no input SHARDS_1."""
    further = stage(
        "further",
        needs=["BASE"],
        produces=["METRICS", "SHARDS"],
        scopes=(Scope.SEED,),
        reported=True,
    )
    *_, report = planned(with_stages(further))
    assert not any(role.startswith("SHARDS") for role in list_roles(report))
    assert [one["metrics"] in list_roles(report) for one in report.params["measurements"]] == [True]


def test_a_stage_that_is_reported_to_nobody_is_refused() -> None:
    further = stage(
        "further", needs=["BASE"], produces=["METRICS"], scopes=(Scope.SEED,), reported=True
    )
    entries = [
        entry.model_copy(update={"many": ["EVALUATION", "PICTURES"]})
        if entry.name == "report"
        else entry
        for entry in with_stages(further)
    ]
    with pytest.raises(
        InvalidRequest,
        match="the stage further is reported, but no stage of scope report takes METRICS",
    ):
        planned(Catalog(entries))


@pytest.mark.parametrize("how", ["needs", "needs_when", "optional_needs"])
def test_stages_on_demand_that_wait_for_each_other_are_refused(how: str) -> None:
    needs = ["SHADOWS"] if how == "needs" else []
    optional_needs = (Role.SHADOWS,) if how == "optional_needs" else ()
    demanded = {"scopes": (Scope.RELEASE,), "on_demand": True}
    one = stage(
        "one",
        needs=needs,
        uses=list(optional_needs),
        produces=["SHARDS"],
        optional_needs=optional_needs,
        **demanded,
    )
    if how == "needs_when":
        one = one.model_copy(update={"needs_when": {"careful": {"True": ["SHADOWS"]}}})
    other = stage("other", needs=["SHARDS"], produces=["SHADOWS"], **demanded)
    asking = stage("asking", needs=["SHARDS"], produces=["METRICS"], scopes=(Scope.RELEASE,))
    for stages in ((one, other, asking), (one, other)):
        with pytest.raises(
            InvalidRequest,
            match=r"the stages one and other wait for each other: .* remove a role",
        ):
            planned(with_stages(*stages))


def test_a_stage_on_demand_that_waits_for_itself_is_refused() -> None:
    one = stage(
        "one", needs=["SHARDS"], produces=["SHARDS"], scopes=(Scope.RELEASE,), on_demand=True
    )
    with pytest.raises(InvalidRequest, match="the stage one waits for itself: "):
        planned(with_stages(one))


def test_stages_that_wait_for_each_other_are_refused() -> None:
    one = stage("one", needs=["SHARDS"], produces=["SHADOWS"], scopes=(Scope.RELEASE,))
    other = stage("other", needs=["SHADOWS"], produces=["SHARDS"], scopes=(Scope.RELEASE,))
    with pytest.raises(InvalidRequest, match="the stages one and other wait for each other"):
        Pipeline.from_catalog(with_stages(one, other), ModelOrigin.TRAINED)


def test_before_any_catalog_is_published_an_audit_is_to_be_sent_again() -> None:
    with pytest.raises(TransientError, match=r"^no worker has published its catalog yet: wait"):
        planned(Catalog([]))


def test_stages_that_say_nothing_of_audits_run_none() -> None:
    """A fleet whose workers are of before audits were wired."""
    unwired = Catalog(entry.model_copy(update={"wiring": None}) for entry in make_catalog())
    with pytest.raises(
        InvalidRequest,
        match=r"^no published stage declares how an audit runs it: start workers",
    ):
        planned(unwired)


@pytest.mark.parametrize(
    ("gone", "field"), [("unlearn", "unlearning"), ("defend", "defenses"), ("attack", "attacks")]
)
def test_methods_that_no_stage_runs_are_refused(gone: str, field: str) -> None:
    """Without its attacks an audit would succeed and say that nothing leaks."""
    lacking = Catalog(
        entry for entry in make_catalog() if (entry.kind, entry.name) != ("stage", gone)
    )
    with pytest.raises(
        InvalidRequest, match=rf"^no published stage runs the {field} of an audit"
    ) as error:
        planned(lacking)
    assert error.value.field == field


def test_a_plan_without_jobs_is_refused() -> None:
    """Nothing to run would read as succeeded."""
    kinds = (("unlearn", "unlearning"), ("defend", "defense"), ("attack", "attack"))
    stages = [
        stage(
            name, needs=[], produces=[], methods=KINDS[kind], scopes=(Scope.ATTACK,), on_demand=True
        ).model_copy(update={"methods": kind})
        for name, kind in kinds
    ]
    demanded = Catalog([*(entry for entry in make_catalog() if entry.kind != "stage"), *stages])
    with pytest.raises(InvalidRequest, match=r"^this audit has no jobs"):
        planned(demanded)


def test_a_stage_whose_needs_nobody_meets_is_refused_by_its_name() -> None:
    further = stage("further", needs=["SHARDS"], produces=["METRICS"], scopes=(Scope.SEED,))
    with pytest.raises(InvalidRequest, match="further needs SHARDS"):
        planned(with_stages(further))


def test_a_stage_without_wiring_is_run_by_hand_only() -> None:
    plain = stage("further", needs=["BASE"], produces=["METRICS"], scopes=(Scope.SEED,))
    wired, unwired = with_stages(plain), with_stages(plain.model_copy(update={"wiring": None}))
    assert len(planned(wired)) == len(planned(unwired)) + 1
