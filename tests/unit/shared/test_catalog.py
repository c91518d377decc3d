"""The catalog is data: it refuses what a worker would refuse, without the plugins."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from shared.catalog import Catalog, CatalogEntry, CheckedJob
from shared.data_files import DataFile
from shared.errors import InvalidRequest, PluginImportError, TransientError
from shared.plugin_ref import PluginRef, data_file_field, plugin_field
from shared.plugins import DatasetPlugin, Params, StagePlugin, UnlearningPlugin
from shared.wiring import Scope, Wiring
from tests.support.plugins import PLUGINS, make_catalog
from tests.support.wirings import WIRINGS

CATALOG = make_catalog()
BOTH = ["ORIGINAL", "UNLEARNED"]
TRAINED = ["ORIGINAL", "TRAINING_SET"]


def test_a_catalog_survives_json() -> None:
    again = Catalog.from_json(json.loads(json.dumps(CATALOG.to_json())))
    assert again.to_json() == CATALOG.to_json()
    assert again.digest == CATALOG.digest
    assert again.plugins == {f"{p.kind}:{p.name}" for p in PLUGINS}


def test_the_digest_follows_the_content_and_not_the_order() -> None:
    entries = list(CATALOG)
    assert Catalog(reversed(entries)).digest == CATALOG.digest
    assert Catalog(entries[1:]).digest != CATALOG.digest
    assert make_catalog({"attack:matching": "new code"}).digest != CATALOG.digest


def test_a_field_that_a_newer_worker_publishes_is_no_error() -> None:
    body = CATALOG.to_json()
    body[0]["invented_later"] = 1
    assert Catalog.from_json(body).plugins == CATALOG.plugins


def test_defaults_are_filled_in_all_the_way_down() -> None:
    checked = CATALOG.check(
        "pretrain", None, {"dataset": "noisy", "model": {"name": "mlp", "params": {"width": 8}}}, []
    )
    assert checked.params == {
        "dataset": {"name": "noisy", "params": {"sigma": 0.1}},
        "model": {"name": "mlp", "params": {"width": 8, "widths": []}},
        "epochs": 1,
    }
    assert checked.plugins == ("dataset:noisy", "model:mlp", "stage:pretrain")
    assert checked.produces == ("BASE",)


class Start(Params):
    model: Annotated[PluginRef, plugin_field("model")] = Field(PluginRef(name="mlp"))
    epochs: int = 2
    lr: float = 0.1


class Repeating(Params):
    start: Start = Field(Start())
    second: Start | None = None


def repeating() -> Catalog:
    """The catalog, with a stage some of whose parameters are those of another."""

    def target() -> None:
        """Repeats."""

    return Catalog(
        [
            *CATALOG,
            CatalogEntry.from_plugin(StagePlugin(name="repeat", target=target, params=Repeating)),
        ]
    )


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"start": {}},
        {"start": {"epochs": 2}},
        {"start": {"model": "mlp", "epochs": 2.0, "lr": 0.1}, "second": None},
    ],
)
def test_parameters_that_are_objects_have_their_own_defaults(params: dict[str, Any]) -> None:
    checked = repeating().describe("repeat", None, params)
    mlp = {"name": "mlp", "params": {"width": 64, "widths": []}}
    assert checked.params == {"start": {"model": mlp, "epochs": 2, "lr": 0.1}, "second": None}
    assert checked.plugins == ("model:mlp", "stage:repeat")  # it runs the code of both


def test_they_are_filled_in_where_null_is_possible_too() -> None:
    checked = repeating().describe("repeat", None, {"second": {"lr": 1}})
    assert checked.params["second"] == checked.params["start"] | {"lr": 1.0}


@pytest.mark.parametrize(
    ("start", "field", "message"),
    [
        ({"epoch": 1}, "params.start.epoch", "did you mean 'epochs'? Known: epochs, lr, model"),
        ({"epochs": "two"}, "params.start.epochs", "'two' is not of type 'integer'"),
        ({"model": "nil"}, "params.start.model.name", "nil"),
        ({"model": {"name": "mlp", "params": {"w": 1}}}, "params.start.model.params.w", "Known"),
        (3, "params.start", "3 is not of type 'object'"),
    ],
)
def test_what_is_wrong_within_them_is_named(start: Any, field: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)) as raised:
        repeating().describe("repeat", None, {"start": start})
    assert raised.value.field == field


class Reading(Params):
    path: Annotated[str | None, data_file_field()] = None
    more: list[Annotated[str, data_file_field()]] = Field([])
    name: str = "no.npz"


def reading() -> Catalog:
    """The catalog, with a data set and an unlearning method that read files."""

    def target() -> None:
        """Reads."""

    fixed = ("own.npz", "own")
    return Catalog(
        [
            *CATALOG,
            CatalogEntry.from_plugin(
                DatasetPlugin(name="own", target=target, params=Reading, data_files=fixed)
            ),
            CatalogEntry.from_plugin(
                UnlearningPlugin(name="weighted", target=target, params=Reading, exact=False)
            ),
        ]
    )


@pytest.mark.parametrize(
    ("params", "files"),
    [
        ({}, [("own.npz", True), ("own", True)]),
        ({"name": "other.npz"}, [("own.npz", True), ("own", True)]),
        ({"path": "a.npz"}, [("a.npz", False)]),
        ({"more": ["b", "c"]}, [("b", False), ("c", False)]),
        ({"path": "a", "more": ["b", "a"]}, [("a", False), ("b", False)]),
    ],
)
def test_the_files_that_a_job_reads_are_named(
    params: dict[str, Any], files: list[tuple[str, bool]]
) -> None:
    """Those of plugins within its parameters too; those that are looked for where it names none."""
    checked = reading().describe("pretrain", None, {"dataset": {"name": "own", "params": params}})
    assert [(file.path, file.optional) for file in checked.data_files] == files
    assert {file.field.rpartition(".")[0] for file in checked.data_files if not file.optional} <= {
        "params.dataset.params"
    }
    assert CATALOG.describe("pretrain", None, {}).data_files == ()


def test_the_files_of_a_method_are_named_too() -> None:
    checked = reading().describe("unlearn", "weighted", {"path": "a.npz", "deletions": 2})
    assert checked.data_files == (DataFile("a.npz", "params.path"),)


def test_the_plugins_params_accept_what_the_catalog_filled_in() -> None:
    """Gateway and worker must not disagree on what is valid."""
    for plugin in PLUGINS:
        entry = CatalogEntry.from_plugin(plugin)
        if plugin.kind != "stage" or plugin.methods or entry.params_schema.get("required"):
            continue
        checked = CATALOG.check(plugin.name, None, {}, plugin.needs)
        again = plugin.params.model_validate(checked.params).model_dump(mode="json")
        assert {k: v for k, v in again.items() if k not in ("dataset", "model")} == {
            k: v for k, v in checked.params.items() if k not in ("dataset", "model")
        }


def test_a_stages_own_parameters_and_its_methods_are_told_apart() -> None:
    params = {"deletions": 3, "lr": 0.5}
    checked = CATALOG.check("unlearn", "ascent", params, ["ORIGINAL", "TRAINING_SET"])
    own = {"forget": "samples", "deletions": 3, "size": 1, "indices": None, "successive": False}
    assert checked.params == {**own, "lr": 0.5}
    assert checked.plugins == ("stage:unlearn", "unlearning:ascent")


def test_what_a_job_makes_follows_its_parameters() -> None:
    def made(**params: Any) -> tuple[str, ...]:
        return CATALOG.check("unlearn", "ascent", params, ["ORIGINAL", "TRAINING_SET"]).produces

    assert "ORIGINAL" not in made()
    assert made(successive=True) == (*made(), "ORIGINAL")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lr": 1}, {"lr": 1.0}),
        ({"size": 10}, {"size": 10.0}),
        ({"clip": 2}, {"clip": 2.0}),
        ({"dataset": "digits"}, {"dataset": {"name": "digits", "params": {}}}),
        ({"dataset": "digits"}, {}),
        (
            {"dataset": {"name": "noisy", "params": {"sigma": 1}}},
            {"dataset": {"name": "noisy", "params": {"sigma": 1.0}}},
        ),
    ],
)
def test_two_ways_to_say_the_same_come_to_the_same(one: Any, other: Any) -> None:
    said = [json.dumps(CATALOG.check("train", None, p, ["BASE"]).params) for p in (one, other)]
    assert said[0] == said[1]


def test_numbers_in_lists_are_written_one_way_too() -> None:
    checked = CATALOG.check(
        "pretrain", None, {"model": {"name": "mlp", "params": {"widths": [1, 2.0]}}}, []
    )
    assert json.dumps(checked.params["model"]["params"]["widths"]) == "[1.0, 2.0]"


def noisy(more: Any) -> Any:
    return {"dataset": {"name": "noisy", **more}}


REFUSED: list[tuple[str, str | None, Any, list[str], str, str]] = [
    ("trian", None, {}, [], "stage", "did you mean 'train'?"),
    ("xyz", None, {}, [], "stage", "unknown stage 'xyz'. Known: attack, candidates, defend, evaluate, pretrain, "),
    ("attack", None, {}, [], "method", "needs a method. Known: asking, counting, matching"),
    ("attack", "matchin", {}, [], "method", "did you mean 'matching'?"),
    ("train", "ascent", {}, ["BASE"], "method", "has no methods"),
    ("train", None, {"sise": 3}, ["BASE"], "params.sise", "did you mean 'size'?"),
    ("train", None, {"xyz": 3}, ["BASE"], "params.xyz", "Known: clip, dataset, lr, noise, shards, size"),
    ("train", None, {"size": 0}, ["BASE"], "params.size", "0 is less than the minimum of 1"),
    ("train", None, {"size": 2.5}, ["BASE"], "params.size", "not of type 'integer'"),
    ("train", None, {"size": "10"}, ["BASE"], "params.size", "not of type 'integer'"),
    ("train", None, {"size": True}, ["BASE"], "params.size", "not of type 'integer'"),
    ("train", None, {"size": None}, ["BASE"], "params.size", "not of type 'integer'"),
    ("train", None, {"lr": 0}, ["BASE"], "params.lr", "less than or equal to the minimum of 0"),
    ("train", None, {"clip": "x"}, ["BASE"], "params.clip", "'x' is not number or null"),
    ("train", None, {"clip": -1}, ["BASE"], "params.clip", "less than or equal to the minimum of 0"),
    ("train", None, {"dataset": "digit"}, ["BASE"], "params.dataset.name", "did you mean 'digits'?"),
    ("train", None, {"dataset": 3}, ["BASE"], "params.dataset", "give its name"),
    ("train", None, {"dataset": {"params": {}}}, ["BASE"], "params.dataset", "give its name"),
    ("train", None, noisy({"params": {"sigma": 2}}), ["BASE"], "params.dataset.params.sigma", "maximum"),
    ("train", None, noisy({"params": {"sigm": 1}}), ["BASE"], "params.dataset.params.sigm", "'sigma'"),
    ("train", None, noisy({"params": [1]}), ["BASE"], "params.dataset.params", "must be an object"),
    ("train", None, noisy({"parms": {}}), ["BASE"], "params.dataset.parms", "unknown key 'parms'"),
    ("pretrain", None, {"model": "needy"}, [], "params.model.params.needed", "model needy needs parameter 'needed'"),
    ("unlearn", "ascent", {"lr": 2}, TRAINED, "params.lr", "maximum of 1"),
    ("unlearn", "ascent", {"lrr": 1}, TRAINED, "params.lrr", "for unlearning ascent; did you mean 'lr'?"),
    ("attack", "matching", {"labels": "stolen"}, BOTH, "params.labels", "'stolen' is not one of"),
    ("attack", "matching", {}, ["ORIGINAL"], "inputs.UNLEARNED", "attack matching needs UNLEARNED"),
    ("attack", "matching", {"labels": "given"}, BOTH, "inputs.LABELS", "attack matching needs LABELS"),
    ("attack", "matching", {}, [*BOTH, "LABELS"], "inputs.LABELS", "it takes ORIGINAL, UNLEARNED, BASE"),
    ("attack", "matching", {}, [*BOTH, "TRUTH"], "inputs.TRUTH", "takes no input TRUTH"),
    ("pretrain", None, {}, ["BASE"], "inputs.BASE", "it takes none"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "method", "params", "roles", "field", "said"), REFUSED)
def test_what_is_wrong_is_told_by_its_field(
    stage: str, method: str | None, params: Any, roles: list[str], field: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        CATALOG.check(stage, method, params, roles)
    assert refused.value.field == field
    assert said in refused.value.message


def test_needs_may_depend_on_parameters() -> None:
    assert CATALOG.check("attack", "matching", {}, BOTH).needs == ("ORIGINAL", "UNLEARNED")
    checked = CATALOG.check("attack", "matching", {"labels": "given"}, [*BOTH, "LABELS"])
    assert checked.needs == ("ORIGINAL", "UNLEARNED", "LABELS")
    assert CATALOG.check("attack", "matching", {}, [*BOTH, "BASE"]).uses == (
        "BASE",
        "DELETION_SIZES",
    )


def test_a_role_that_may_come_many_times_is_numbered() -> None:
    job = CATALOG.check("report", None, {}, ["EVALUATION_1", "EVALUATION_12", "PICTURES_3"])
    assert (job.many, job.run_when) == (("EVALUATION", "PICTURES", "METRICS"), "all_finished")
    assert CATALOG.check("train", None, {}, ["BASE"]).run_when == "all_succeeded"
    for wrong in (
        "EVALUATION",
        "EVALUATION_",
        "EVALUATION_0",
        "EVALUATION_x",
        "EVALUATION_1_",
        "BASE_1",
    ):
        with pytest.raises(
            InvalidRequest, match="it takes SELF_TEST, EVALUATION_1, EVALUATION_2, "
        ) as refused:
            CATALOG.check("report", None, {}, [wrong])
        assert refused.value.field == f"inputs.{wrong}"


def test_before_any_worker_has_published_the_error_says_to_wait_or_start_one() -> None:
    with pytest.raises(TransientError, match="no worker has published its catalog yet: wait until"):
        Catalog([]).check("train", None, {}, [])


def test_the_code_digest_covers_every_plugin_of_a_kind_that_the_stage_runs() -> None:
    def evaluated(by: Catalog) -> CheckedJob:
        return by.describe("evaluate", None, {})

    assert evaluated(make_catalog({"metric:psnr": "changed"})).code != evaluated(CATALOG).code
    assert evaluated(CATALOG).plugins == ("stage:evaluate",)


def test_the_code_digest_covers_every_plugin_that_the_job_uses_and_no_other() -> None:
    def code(changed: str) -> str:
        return (
            make_catalog({changed: "changed"})
            .check("train", None, {"dataset": "noisy"}, ["BASE"])
            .code
        )

    same = CATALOG.check("train", None, {"dataset": "noisy"}, ["BASE"]).code
    assert code("stage:train") != same
    assert code("dataset:noisy") != same
    assert code("dataset:digits") == same
    assert code("attack:matching") == same


def test_checking_changes_nothing_that_was_given() -> None:
    params: dict[str, Any] = {"dataset": {"name": "noisy", "params": {}}, "lr": 1}
    before = json.dumps(params)
    digest = CATALOG.digest
    CATALOG.check("train", None, params, ["BASE"])
    assert (json.dumps(params), CATALOG.digest) == (before, digest)


def test_a_catalog_of_newer_workers_is_read_as_far_as_it_is_known() -> None:
    """Their stages may say more of how audits run them; who declares a wiring here is told what
    there is none of."""
    published = [entry for entry in make_catalog().to_json() if entry["name"] == "evaluate"]
    published[0]["wiring"]["only_on_tuesdays"] = True
    (entry,) = Catalog.from_json(json.loads(json.dumps(published, default=list)))
    assert entry.wiring == WIRINGS["evaluate"]
    with pytest.raises(ValidationError, match="only_on_tuesdays"):
        Wiring(scopes=(Scope.AUDIT,), only_on_tuesdays=True)  # type: ignore[call-arg]  # what the test is about
    published[0]["wiring"]["scopes"] = ["tuesdays"]
    with pytest.raises(PluginImportError, match=r"wiring\.scopes"):
        Catalog.from_json(published)
