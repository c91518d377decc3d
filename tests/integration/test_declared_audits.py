"""Audits that name declared models and data sets: with the real catalog and the real stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from shared.artifacts import compute_sha256
from shared.errors import InvalidRequest
from shared.jobs import attempts, completion, uploads, worker_registry
from shared.jobs.dispatch import Dispatcher
from shared.jobs.records import Artifact
from shared.jobs.states import Failure
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef
from tests.support.gateway import TENANT, GatewayInProcess
from workers.catalog import load_catalog
from workers.context import StageOutput
from workers.local import run_stage
from workers.uploads import uploads_as_files

MODEL = {"name": "mlp", "params": {"hidden": 8}}
ARCHITECTURE = {"model": MODEL, "input_shape": [1, 8, 8], "num_classes": 4}
RELEASES = [{"name": "scrub", "weights": [{"model": "after"}]}]


class Declared:
    """A gateway with the catalog of this code, and a worker that runs its stages in here."""

    def __init__(self, folder: Path) -> None:
        self.gateway = GatewayInProcess(folder, publish=False)
        self.http, self.db = self.gateway.http, self.gateway.db
        self.catalog = load_catalog()
        worker_registry.publish_catalog(self.db, self.catalog)
        stages = ["inspect_model", "inspect_dataset"]
        worker_registry.register_worker(
            self.db, "here", host="here", pid=1, stages=tuple(stages), device="cpu", threads=1,
            versions={}, catalog=self.catalog.digest,
        )  # fmt: skip
        self.dispatcher = Dispatcher(self.db, "here", stages, self.catalog.plugins)

    def bring(self, data: bytes) -> str:
        with self.gateway.artifacts.open_draft() as draft:
            draft.write(data)
            uploads.record_upload(
                self.db, TENANT, draft.seal(), "application/octet-stream",
                lifetime_s=3600, quota_bytes=1 << 30, place=draft.place,
            )  # fmt: skip
        return compute_sha256(data)

    def bring_samples(self, count: int, seed: int, classes: int = 4) -> str:
        path = self.gateway.db.file
        assert path is not None
        file = path.with_name("samples.npz")
        random = np.random.default_rng(seed)
        np.savez(
            file,
            images=random.random((count, 8, 8), dtype=np.float32),
            labels=np.arange(count) % classes,
        )
        return self.bring(file.read_bytes())

    def post(self, path: str, body: Mapping[str, Any], status: int = 202) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return dict(answer.get_json())

    def declare_model(self, name: str, weights: str, **more: Any) -> dict[str, Any]:
        """A declared model once it is checked."""
        body = {"name": name, "weights": weights, **ARCHITECTURE, **more}
        return self.check(self.post("/v1/models", body)["url"])

    def declare_dataset(self, name: str, dataset: Any, **more: Any) -> dict[str, Any]:
        body = {"name": name, "dataset": dataset, **more}
        return self.check(self.post("/v1/datasets", body)["url"])

    def check(self, url: str) -> dict[str, Any]:
        """Run the checks that are queued, and show what was declared."""
        artifacts = self.gateway.artifacts
        while claim := self.dispatcher.claim(60, "0" * 32):
            job = claim.job
            inputs = {
                role: StageOutput(artifacts.get(sha256)) for role, sha256 in claim.inputs.items()
            }
            try:
                with uploads_as_files(artifacts):
                    outputs = run_stage(job.stage, inputs, **job.params)
            except InvalidRequest as error:
                attempts.fail_attempt(self.db, job.id, claim.fence, Failure.INVALID, error.message)
                continue
            made = [
                Artifact(role, artifacts.put(out.data), len(out.data), out.media_type)
                for role, out in outputs.items()
            ]
            completion.finish_job(
                self.db, job.id, claim.fence, made, cache_key=job.request_key, code=job.code
            )
        return dict(self.http.get(url).get_json())


def make_weights(seed: int, **changes: Any) -> bytes:
    """A file of the architecture's weights."""
    torch.manual_seed(seed)
    fields = {**ARCHITECTURE, **changes}
    network = build_network(
        Architecture(
            model=PluginRef.model_validate(fields["model"]),
            input_shape=(1, 8, 8),
            num_classes=fields["num_classes"],
            mean=(0.0,),
            std=(1.0,),
        )
    )
    return save({f"module.{name}": one for name, one in network.state_dict().items()})


def own_samples(deleted: str, public: str, classes: int = 4) -> dict[str, Any]:
    params = {
        "deleted": f"upload:{deleted}", "public": f"upload:{public}", "num_classes": classes,
    }  # fmt: skip
    return {"name": "own_samples", "params": params}


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Declared]:
    """before@1, before@2, after@1 and the data set mine@1, all ready."""
    made = Declared(tmp_path_factory.mktemp("declared"))
    samples = own_samples(made.bring_samples(1, 0), made.bring_samples(8, 1))
    made.declare_dataset("mine", samples, classes=["a", "b", "c", "d"])
    for seed, name in enumerate(("before", "before", "after")):
        made.declare_model(name, made.bring(make_weights(seed)), test={"declared": "mine"})
    yield made
    made.gateway.close()


def build_audit(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": {"declared": "mine"},
        "original": {"model": "before"},
        "releases": RELEASES,
        "attacks": ["label_inference"],
        **changes,
    }


def dry_run(declared: Declared, **changes: Any) -> list[dict[str, Any]]:
    answer = declared.http.post("/v1/audits?dry_run=true", json=build_audit(**changes))
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return list(answer.get_json()["jobs"])


def refuse(declared: Declared, status: int = 422, **changes: Any) -> dict[str, Any]:
    return declared.post("/v1/audits", build_audit(**changes), status)


def test_what_a_check_reads(declared: Declared) -> None:
    model = declared.http.get("/v1/models/before").get_json()
    assert (model["version"], model["state"]) == (2, "ready")
    found = model["inspection"]
    assert found["parameters"] == 64 * 8 + 8 + 8 * 4 + 4
    assert found["prefixes"] == ["module.", "network."]
    assert found["dtypes"] == {"F32": found["tensors"]}
    assert (found["test_samples"], 0 <= found["test_accuracy"] <= 1) == (8, True)
    data = declared.http.get("/v1/datasets/mine").get_json()["inspection"]
    assert (data["input_shape"], data["classes"]) == ([1, 8, 8], ["a", "b", "c", "d"])
    assert (data["train"]["samples"], data["test"]["samples"]) == (1, 8)
    assert (data["test"]["lowest_label"], data["test"]["highest_label"]) == (0, 3)


def test_an_audit_by_name_is_the_audit_by_digest(declared: Declared) -> None:
    shown = {
        name: declared.http.get(f"/v1/models/{name}").get_json() for name in ("before", "after")
    }
    data = declared.http.get("/v1/datasets/mine").get_json()
    by_name = dry_run(declared)
    by_digest = dry_run(
        declared,
        dataset=data["dataset"],
        model=MODEL,
        original=shown["before"]["weights"],
        releases=[{"name": "scrub", "weights": [shown["after"]["weights"]]}],
        ingest={"input_shape": [1, 8, 8], "num_classes": 4},
    )
    names = {job["request_key"] for job in by_name if job["stage"] != "report"}
    assert names == {job["request_key"] for job in by_digest if job["stage"] != "report"}
    assert len(names) > 3
    older = dry_run(declared, original={"model": "before", "version": 1})
    assert not names & {job["request_key"] for job in older if job["stage"] == "ingest"}


def test_an_audit_keeps_the_names_with_versions(declared: Declared) -> None:
    submitted = declared.post("/v1/audits", build_audit(name="named"))
    spec = declared.http.get(f"/v1/audits/{submitted['id']}").get_json()["spec"]
    assert spec["declared"] == {
        "original": "before@2", "releases.0.weights.0": "after@1", "dataset": "mine@1",
    }  # fmt: skip
    assert len(spec["original"]) == 64
    # sent again as it was stored, it keeps them; what is not true of a name goes
    body = declared.http.get(f"/v1/audits/{submitted['id']}/spec").get_json()
    cloned = declared.post("/v1/audits", body)
    assert (cloned["created"], cloned["spec"]) == ([], spec)
    again = declared.post("/v1/audits", {**spec, "declared": {**spec["declared"], "base": "x@1"}})
    stored = declared.http.get(f"/v1/audits/{again['id']}").get_json()["spec"]
    assert stored["declared"] == spec["declared"]
    lying = {**spec, "declared": {"original": "after@1", "dataset": "before@1"}}
    again = declared.post("/v1/audits", lying)
    stored = declared.http.get(f"/v1/audits/{again['id']}").get_json()["spec"]
    assert stored["declared"] == {}
    # a declaration stays while the audit's jobs need it
    answer = declared.http.delete("/v1/models/after")
    assert answer.status_code == 409
    declared.http.post(f"/v1/audits/{submitted['id']}/cancel")


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "model": ({"model": {"name": "mlp", "params": {"hidden": 9}}}, "model", "before@2"),
    "classes": ({"ingest": {"num_classes": 5}}, "ingest.num_classes", "another num_classes"),
    "mean": ({"ingest": {"mean": [0.5], "std": [0.5]}}, "ingest.mean", "another mean"),
    "no name": ({"original": {"model": "other"}}, "original", "there is no model other"),
    "no version": ({"original": {"model": "before@9"}}, "original", "before@9"),
    "a data set as a model": ({"original": {"model": "mine"}}, "original", "no model mine"),
    "no data": ({"dataset": {"declared": "before"}}, "dataset", "no data set before"),
}


def test_contradictions_are_refused_by_field(declared: Declared) -> None:
    for case, (changes, field, words) in CONTRADICTIONS.items():
        problem = refuse(declared, **changes)
        assert problem["field"] == field, (case, problem)
        assert words in problem["detail"], (case, problem)
    # the same said twice is no contradiction; mean 0 and std 1 are none
    assert dry_run(declared, model=MODEL, ingest={"num_classes": 4, "mean": [0.0], "std": [1.0]})


def test_releases_must_be_of_the_architecture_of_the_original(declared: Declared) -> None:
    wide = {"name": "mlp", "params": {"hidden": 16}}
    declared.declare_model("wide", declared.bring(make_weights(5, model=wide)), model=wide)
    problem = refuse(declared, releases=[{"name": "x", "weights": [{"model": "wide"}]}])
    assert (problem["field"], "wide@1" in problem["detail"]) == ("releases.0.weights.0", True)


def test_data_must_be_of_the_form_that_the_models_take(declared: Declared) -> None:
    five = own_samples(declared.bring_samples(1, 0), declared.bring_samples(8, 1), classes=5)
    declared.declare_dataset("five", five)
    problem = refuse(declared, dataset={"declared": "five"})
    assert problem["field"] == "dataset"
    assert "five@1 has the num_classes 5, but the models have 4" in problem["detail"]


def test_what_is_not_ready_is_waited_for(declared: Declared) -> None:
    body = {"name": "late", "weights": declared.bring(make_weights(7)), **ARCHITECTURE}
    job = declared.post("/v1/models", body)["job"]
    problem = refuse(declared, 409, original={"model": "late"})
    assert f"late@1 is still being checked: wait until job {job}" in problem["detail"]
    declared.http.post(f"/v1/jobs/{job}/cancel")
    assert "declare it again" in refuse(declared, 409, original={"model": "late"})["detail"]
    declared.post("/v1/models", body)
    declared.check("/v1/models")
    assert dry_run(declared, original={"model": "late"})


def test_what_is_wrong_is_rejected_with_the_reason(declared: Declared) -> None:
    other = declared.declare_model("many", declared.bring(make_weights(8)), num_classes=5)
    assert (other["state"], other["inspection"]) == ("rejected", None)
    assert "4 classes instead of 5" in other["reason"]
    problem = refuse(declared, original={"model": "many"})
    assert problem["field"] == "original"
    assert problem["detail"].startswith("the model many@1 was rejected: WEIGHTS")
    pickle = declared.declare_model("pickle", declared.bring(b"\x80\x04hostile"))
    assert "palimpsest convert" in pickle["reason"]
    samples = own_samples(declared.bring_samples(9, 4, classes=9), declared.bring_samples(9, 5))
    beyond = declared.declare_dataset("beyond", samples)
    assert "a label is beyond the 4 classes" in beyond["reason"]
    named = own_samples(declared.bring_samples(1, 0), declared.bring_samples(8, 1))
    short = declared.declare_dataset("short", named, classes=["a", "b"])
    assert "2 names of classes" in short["reason"]
    untested = declared.declare_model(
        "untested",
        declared.bring(make_weights(9, num_classes=3)),
        num_classes=3,
        test={"declared": "mine"},
    )
    assert "of 3 classes, but own_samples has" in untested["reason"]


def test_the_form_of_an_earlier_audit_has_its_names(declared: Declared) -> None:
    posted = declared.post("/v1/audits", build_audit(original={"model": "before", "version": 1}))
    page = declared.http.get(f"/audits/new?from={posted['id']}", headers={"Accept": "text/html"})
    text = page.get_data(as_text=True)
    assert 'name="dataset" value="declared:mine@1" checked' in text
    for name in ("before@1", "after@1"):
        assert f'<option value="model:{name}" selected' in text
    assert "Not ready yet" not in text


def test_the_form_of_an_audit_of_samples_can_be_sent(declared: Declared) -> None:
    samples = own_samples(declared.bring_samples(1, 0), declared.bring_samples(8, 1))
    posted = declared.post("/v1/audits", build_audit(dataset=samples))
    page = declared.http.get(f"/audits/new?from={posted['id']}", headers={"Accept": "text/html"})
    assert "Not ready yet" not in page.get_data(as_text=True)


def test_a_draft_says_what_is_missing_and_what_will_not_run(declared: Declared) -> None:
    form = {
        "way": "own", "original": "model:before@2", "releases/0/weights/0": "model:after@1",
        "attacks": ["feature_recovery", "label_inference"], "dataset": "own_samples",
    }  # fmt: skip
    text = declared.http.post("/audits/draft", data=form).get_data(as_text=True)
    assert 'data-field="dataset/own_samples/deleted"><span>Choose a file of samples' in text
    text = declared.http.post("/audits/draft", data={**form, "dataset": ""}).get_data(as_text=True)
    assert "What it will cost" in text
    assert "Will not run: feature_recovery" in text


def test_a_draft_warns_of_releases_without_a_plain_one(declared: Declared) -> None:
    form = {
        "way": "lab", "dataset": "mnist_5k", "model": "convnet", "unlearning": "gradient_ascent",
        "attacks": "label_inference",
    }  # fmt: skip
    for defenses, is_warned in ((["obfuscation"], True), (["none", "obfuscation"], False)):
        answer = declared.http.post("/audits/draft", data={**form, "defenses": defenses})
        text = answer.get_data(as_text=True)
        assert ("No release without a defense" in text, "What it will cost" in text) == (
            is_warned, True,
        )  # fmt: skip
