"""KEDA's objects and the controller of deletion costs, as deploy/k8s has them."""

from __future__ import annotations

import re

import pytest
from cloudcoil.models.keda import v1alpha1 as keda
from pydantic import BaseModel
from sqlalchemy import text

from deploy.local.layout import WORKER_GROUPS
from services.pod_costs.__main__ import WORKER_PODS
from shared.jobs.stage_pauses import pause_stage
from tests.support.job_store import JobStore, make_planned_job
from tests.support.kustomize import (
    Manifest,
    find_manifest,
    list_pod_specs,
    list_scaled_objects,
    render,
)
from tests.support.migrated import open_in_memory

SCALING = ("overlays/keda", "overlays/keda-gpu")
MODELS: dict[str, type[BaseModel]] = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
}


def find_differences(manifest: Manifest) -> dict[str, object]:
    """What KEDA's schema does not know of a manifest: its models drop unknown fields.

    Raises ValidationError for a value of the wrong type.
    """
    model = MODELS[manifest["kind"]].model_validate(manifest)
    known = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return {key: value for key, value in manifest.items() if known.get(key) != value}


@pytest.mark.parametrize("folder", SCALING)
def test_every_object_follows_the_schema_of_keda(folder: str) -> None:
    of_keda = [m for m in render(folder) if m["apiVersion"] == "keda.sh/v1alpha1"]
    assert {m["kind"] for m in of_keda} == set(MODELS)
    for manifest in of_keda:
        assert find_differences(manifest) == {}


def test_an_unknown_field_is_found() -> None:
    manifest = list_scaled_objects(SCALING[0])["attack"]
    wrong = {**manifest, "spec": {**manifest["spec"], "maxReplicas": 7}}
    assert find_differences(wrong)


@pytest.mark.parametrize("folder", SCALING)
def test_each_group_has_one_that_counts_the_jobs_of_its_stages(folder: str) -> None:
    objects = list_scaled_objects(folder)
    assert set(objects) == set(WORKER_GROUPS) | ({"gpu"} if "gpu" in folder else set())
    pods = list_pod_specs(render(folder))
    for group, manifest in objects.items():
        spec = manifest["spec"]
        assert spec["scaleTargetRef"] == {"name": f"worker-{group}"}
        assert spec["minReplicaCount"] == 0
        (trigger,) = spec["triggers"]
        arguments = pods[f"worker-{group}"]["containers"][0]["args"]
        query = trigger["metadata"]["query"]
        counted = re.findall(r"'(\w+)'", query.partition("(state")[0])
        assert ",".join(counted) == arguments[arguments.index("--stages") + 1]
        (limit,) = re.findall(r"LIMIT (\d+)", query)
        assert spec["maxReplicaCount"] <= int(limit)
        assert (
            "replicas" not in find_manifest(render(folder), "Deployment", f"worker-{group}")["spec"]
        )


def test_with_gpus_nothing_is_trained_or_attacked_on_a_cpu() -> None:
    for group, manifest in list_scaled_objects("overlays/keda-gpu").items():
        annotations = manifest["metadata"].get("annotations", {})
        paused = annotations == {"autoscaling.keda.sh/paused-replicas": "0"}
        assert paused == (group in ("train", "attack"))
    for name in ("worker-train", "worker-attack"):
        assert find_manifest(render("overlays/gpu"), "Deployment", name)["spec"]["replicas"] == 0


def test_queued_and_running_jobs_count_and_those_of_paused_stages_only_while_they_run() -> None:
    queries = {
        group: manifest["spec"]["triggers"][0]["metadata"]["query"]
        for group, manifest in list_scaled_objects(SCALING[0]).items()
    }
    store = JobStore(open_in_memory())

    def count() -> dict[str, int]:
        with store.db.read() as connection:
            return {g: connection.execute(text(q)).scalar_one() for g, q in queries.items()}

    assert set(count().values()) == {0}
    parent = make_planned_job("parent")
    store.post(parent)
    store.post(parent, make_planned_job("waits", parent))
    for n in range(2):
        store.post(make_planned_job(f"attack-{n}", stage="attack"))
    store.post(make_planned_job("paused", stage="pretrain"))
    assert count() == {"train": 2, "unlearn": 0, "attack": 2, "evaluate": 0}
    claim = store.claim_one()  # of the stage train
    pause_stage(store.db, "pretrain")
    pause_stage(store.db, "train")
    assert count() == {"train": 1, "unlearn": 0, "attack": 2, "evaluate": 0}
    store.finish(claim)  # its child is queued, and paused
    assert count() == {"train": 0, "unlearn": 0, "attack": 2, "evaluate": 0}
    assert store.db.dialect == "sqlite"  # test_database_roles.py asks PostgreSQL
    store.db.close()


@pytest.mark.parametrize("folder", SCALING)
def test_the_controller_may_list_and_patch_pods_and_nothing_else(folder: str) -> None:
    manifests = render(folder)
    roles = [m for m in manifests if m["kind"] in ("Role", "ClusterRole")]
    assert [(r["kind"], r["rules"]) for r in roles] == [
        ("Role", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "patch"]}])
    ]
    (binding,) = (m for m in manifests if "Binding" in m["kind"])
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "pod-costs", "namespace": "palimpsest"}
    ]
    accounts = {
        name: pod.get("serviceAccountName") for name, pod in list_pod_specs(manifests).items()
    }
    assert [name for name, account in accounts.items() if account == "pod-costs"] == ["pod-costs"]


@pytest.mark.parametrize("folder", SCALING)
def test_the_controller_looks_at_workers(folder: str) -> None:
    wanted = dict(pair.split("=") for pair in WORKER_PODS.split(","))
    for manifest in render(folder):
        if manifest["kind"] == "Deployment":
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            is_worker = manifest["metadata"]["name"].startswith("worker-")
            assert (wanted.items() <= labels.items()) == is_worker


def test_keda_and_the_controller_have_a_secret_of_their_own() -> None:
    manifests = render(SCALING[0])
    authentication = find_manifest(manifests, "TriggerAuthentication", "job-store")
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "connection", "name": "palimpsest-scaler", "key": "connection"}
    ]
    (container,) = list_pod_specs(manifests)["pod-costs"]["containers"]
    sources = [variable["valueFrom"]["secretKeyRef"]["name"] for variable in container["env"]]
    assert sources == ["palimpsest-scaler"]
    assert "envFrom" not in container
