"""deploy/k8s: valid, hardened, without a secret, and fitting the code that it runs.

No cluster is here: what can be known without one is checked, docs/kubernetes.md says what cannot.
"""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import kubernetes_validate
import pytest

from deploy.local.layout import WORKER_GROUPS
from services.admin.command_line import make_parser
from services.gateway.__main__ import KILL_TIMEOUT_S
from shared import RELEASE
from shared.config import Settings, known_variables
from tests.support.doc_commands import check_command
from tests.support.kustomize import FOLDER, Manifest, find_manifest, list_pod_specs, render
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml
from workers.app import STAGES

OVERLAYS = sorted(str(path.relative_to(FOLDER)) for path in (FOLDER / "overlays").iterdir())
FOLDERS = ["base", *OVERLAYS]
# Kinds that are not Kubernetes' own; test_kubernetes_scaling.py validates them.
FOREIGN_GROUPS = ("keda.sh",)
COMPOSE = load_yaml((ROOT / "docker-compose.yml").read_text())["services"]
OWN_IMAGES = {"palimpsest-gateway", "palimpsest-worker"}
SETTINGS = {f"PALIMPSEST_{name.upper()}" for name in Settings.model_fields}
# What our processes read besides: libpq, the S3 client, OpenMP.
FOREIGN_VARIABLES = {
    "AWS_ACCESS_KEY_ID", "AWS_ALLOW_HTTP", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SECRET_ACCESS_KEY",
    "KMP_BLOCKTIME", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PGPASSWORD", "PGUSER",
    "POD_NAME",
}  # fmt: skip
ANSWER_S = 5  # how long a worker waits for the job store when it is stopped, twice
STEP_S = 30  # for one step of a stage and the upload of its checkpoint


def list_containers(folder: str) -> dict[str, Manifest]:
    """The containers of a folder, by name of what starts their pod."""
    pods = list_pod_specs(render(folder))
    assert all(len(pod["containers"]) == 1 for pod in pods.values())
    return {name: pod["containers"][0] for name, pod in pods.items()}


def list_own(folder: str) -> dict[str, Manifest]:
    """Those that run code of this project."""
    return {
        name: container
        for name, container in list_containers(folder).items()
        if container["image"].partition(":")[0] in OWN_IMAGES
    }


def test_every_manifest_follows_the_schema_of_kubernetes() -> None:
    manifests = {
        json.dumps(manifest): manifest  # most are in several folders
        for folder in FOLDERS
        for manifest in render(folder)
        if not manifest["apiVersion"].startswith(FOREIGN_GROUPS)
    }
    assert len(manifests) > 40
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("replcas", 2), ("replicas", "two"), ("selector", [])],
)
def test_a_wrong_manifest_is_found(key: str, value: Any) -> None:
    deployment = find_manifest(render("base"), "Deployment", "gateway")
    wrong = {**deployment, "spec": {**deployment["spec"], key: value}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pod_has_no_more_rights_than_it_needs(folder: str) -> None:
    pods = list_pod_specs(render(folder))
    assert {"gateway", "reconciler", "migrate", "worker-evaluate"} <= set(pods)
    for name, pod in pods.items():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # a token only where the Kubernetes API is used
        assert pod["automountServiceAccountToken"] is (name == "pod-costs"), name
        # variables of services would be unknown settings
        assert pod["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod), name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
        for volume in pod["volumes"]:
            assert volume["name"] in {m["name"] for m in container["volumeMounts"]}, name
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], name
    for manifest in render(folder):
        if manifest["kind"] == "ServiceAccount":
            assert manifest["automountServiceAccountToken"] is False
        if manifest["kind"] == "Namespace":
            labels = manifest["metadata"]["labels"]
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_user_is_that_of_the_image(folder: str) -> None:
    pods = list_pod_specs(render(folder))
    for name, container in list_own(folder).items():
        dockerfile = ROOT / f"deploy/{container['image'].partition(':')[0][11:]}.Dockerfile"
        (user,) = re.findall(r"^USER (\d+):(\d+)$", dockerfile.read_text(), re.MULTILINE)
        context = pods[name]["securityContext"]
        assert user == (str(context["runAsUser"]), str(context["runAsGroup"])), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_are_those_of_compose_with_a_version(folder: str) -> None:
    of_compose = {service["image"] for service in COMPOSE.values()}
    for name, container in list_containers(folder).items():
        image, _, tag = container["image"].partition(":")
        assert tag, f"{name}: {container['image']}"
        assert "latest" not in tag, name
        if image in OWN_IMAGES:
            assert image in of_compose
            assert tag == RELEASE
        elif image in {other.partition(":")[0] for other in of_compose}:
            assert container["image"] in of_compose


def test_a_variable_is_a_setting_or_one_that_is_listed() -> None:
    for folder in FOLDERS:
        for manifest in render(folder):
            if manifest["kind"] == "ConfigMap":
                assert set(manifest["data"]) <= SETTINGS | FOREIGN_VARIABLES
        for container in list_own(folder).values():
            named = [variable["name"] for variable in container.get("env", ())]
            assert len(named) == len(set(named))
            assert set(named) <= SETTINGS | FOREIGN_VARIABLES
    assert known_variables() >= SETTINGS


def test_no_file_holds_a_secret_and_each_process_is_given_only_its_own() -> None:
    secret_variables = {
        "PALIMPSEST_TOKEN", "PALIMPSEST_METRICS_TOKEN", "PALIMPSEST_BROKER_URL", "PGPASSWORD",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip
    for folder in FOLDERS:
        for manifest in render(folder):
            assert manifest["kind"] != "Secret"
            if manifest["kind"] == "ConfigMap":
                assert not set(manifest["data"]) & secret_variables
        for name, container in list_containers(folder).items():
            for source in container.get("envFrom", ()):
                assert "secretRef" not in source, name
            for variable in container.get("env", ()):
                if variable["name"] in secret_variables or "PASSWORD" in variable["name"]:
                    assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])
                if variable["name"] in ("PALIMPSEST_TOKEN", "PALIMPSEST_METRICS_TOKEN"):
                    assert name == "gateway"
    for path in FOLDER.rglob("*.yaml"):
        # a URL with a password
        assert not re.search(r"://[^\s/@]*:[^\s/@$]+@", path.read_text()), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_commands_are_entry_points(folder: str) -> None:
    for name, container in list_own(folder).items():
        if name.startswith("worker-"):
            assert "command" not in container  # the image's
            command = ["python", "-m", "workers", *container["args"]]
        else:
            command = container["command"]
        assert importlib.util.find_spec(command[2]), name
        check_command(command)
    assert make_parser().parse_args(list_containers(folder)["migrate"]["command"][3:])


def test_the_image_of_a_worker_starts_workers() -> None:
    dockerfile = (ROOT / "deploy/worker.Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "-m", "workers"]' in dockerfile


def list_stages(container: Manifest) -> tuple[str, ...]:
    arguments = container["args"]
    return tuple(arguments[arguments.index("--stages") + 1].split(","))


@pytest.mark.parametrize("folder", FOLDERS)
def test_worker_groups_are_those_of_one_machine(folder: str) -> None:
    workers = {n: c for n, c in list_own(folder).items() if n.startswith("worker-")}
    groups = {n.removeprefix("worker-"): list_stages(c) for n, c in workers.items()}
    if "gpu" in folder:
        of_gpu = groups.pop("gpu")
        assert list(of_gpu) == COMPOSE["worker-gpu"]["command"][1].split(",")
    assert groups == WORKER_GROUPS
    assert {stage for group in groups.values() for stage in group} == set(STAGES)
    for name in workers:
        manifest = find_manifest(render(folder), "Deployment", name)
        assert manifest["spec"]["template"]["metadata"]["labels"]["worker-group"] == name[7:]


def test_a_worker_is_named_after_its_pod() -> None:
    for name, container in list_own("base").items():
        if name.startswith("worker-"):
            assert "--name=$(POD_NAME)" in container["args"]
            (variable,) = (v for v in container["env"] if v["name"] == "POD_NAME")
            assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_threads_and_memory_follow_the_limits_of_the_container() -> None:
    for name, container in list_own("base").items():
        if name.startswith("worker-"):
            env = {v["name"]: v for v in container["env"]}
            for variable in ("PALIMPSEST_THREADS", "OMP_NUM_THREADS"):
                source = env[variable]["valueFrom"]["resourceFieldRef"]
                assert source["resource"] == "limits.cpu"
            assert env["PALIMPSEST_HOST_WORKERS"]["value"] == "1"
            assert int(container["resources"]["limits"]["cpu"]) >= 1


def test_a_stopped_pod_has_the_time_that_its_process_takes() -> None:
    settings = Settings()
    pods = list_pod_specs(render("base"))
    needed_s = 2 * ANSWER_S + settings.lease_renew_s + settings.stop_grace_s + STEP_S
    of_compose = {f"{s}s": s for s in range(1, 100)}
    for name, pod in pods.items():
        if name.startswith("worker-"):
            grace_s = pod["terminationGracePeriodSeconds"]
            assert grace_s >= needed_s
            assert grace_s == of_compose[COMPOSE[name]["stop_grace_period"]]
    gateway = pods["gateway"]
    pause_s = gateway["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert gateway["terminationGracePeriodSeconds"] > pause_s + KILL_TIMEOUT_S


def test_workers_are_probed_as_in_compose() -> None:
    shell_command = COMPOSE["worker-train"]["healthcheck"]["test"][1]
    for name, container in list_own("base").items():
        if name.startswith("worker-"):
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["exec"]["command"] == ["sh", "-c", shell_command]


def test_the_probes_of_the_gateway_are_routes_without_a_token() -> None:
    text = (ROOT / "services/gateway/api/health.py").read_text()
    rules = re.findall(r'@routes\.get\("([^"]+)"', text)
    assert "require_scope" not in text
    container = list_containers("base")["gateway"]
    (port,) = container["ports"]
    command = container["command"]
    assert command[command.index("--port") + 1] == str(port["containerPort"])
    for probe, path in (
        ("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz"),
    ):  # fmt: skip
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert path in rules
    service = find_manifest(render("base"), "Service", "gateway")
    assert [p["targetPort"] for p in service["spec"]["ports"]] == [port["name"]]


def test_the_stores_of_the_overlay_dev_are_those_of_compose() -> None:
    containers = list_containers("overlays/dev")
    redis = containers["redis"]
    assert [w.replace("$", "$$") for w in redis["command"]] == COMPOSE["redis"]["command"]
    assert {"postgres", "redis", "s3"} <= set(containers)
    for name in ("postgres", "redis"):
        variables = {v["name"] for v in containers[name]["env"]} - {"PGDATA"}
        assert variables == set(COMPOSE[name]["environment"])
    settings = next(m for m in render("overlays/dev") if m["kind"] == "ConfigMap")["data"]
    services = {m["metadata"]["name"] for m in render("overlays/dev") if m["kind"] == "Service"}
    for url in (settings["AWS_ENDPOINT_URL"], settings["PALIMPSEST_DATABASE_URL"]):
        assert re.split(r"[@/:]+", url)[-2 if url.startswith("http") else -3] in services
    bucket = settings["PALIMPSEST_ARTIFACTS_URL"].removeprefix("s3://")
    assert f"mkdir -p /data/{bucket}" in containers["s3"]["command"][2]


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_select_pods_that_there_are(folder: str) -> None:
    manifests = render(folder)
    labels = [
        m["spec"]["template"]["metadata"]["labels"]
        for m in manifests
        if m["kind"] in ("Deployment", "StatefulSet", "Job")
    ]
    assert all(one["app.kubernetes.io/name"] == "palimpsest" for one in labels)
    for manifest in manifests:
        kind, spec = manifest["kind"], manifest.get("spec", {})
        selector = (
            spec["selector"]["matchLabels"]
            if kind in ("Deployment", "StatefulSet", "PodDisruptionBudget")
            else spec["selector"]
            if kind == "Service"
            else spec["podSelector"].get("matchLabels", {})
            if kind == "NetworkPolicy"
            else {}
        )
        assert any(selector.items() <= one.items() for one in labels), manifest["metadata"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_open_but_what_is_said(folder: str) -> None:
    policies = {
        m["metadata"]["name"]: m["spec"] for m in render(folder) if m["kind"] == "NetworkPolicy"
    }
    assert policies.pop("default-deny") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    (names,) = policies.pop("names")["egress"]
    assert names["to"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ]
    for name, policy in policies.items():
        if "Ingress" in policy["policyTypes"]:
            # nobody connects to a worker, a reconciler, a migration or the controller of costs
            component = policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            assert component in ("gateway", "postgres", "redis", "s3"), name
        for rule in [*policy.get("ingress", ()), *policy.get("egress", ())]:
            assert rule["ports"], name
            assert rule.get("from") or rule.get("to"), name
            for peer in rule.get("to", ()):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"], name


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_goes_on_survives_the_drain_of_a_node(folder: str) -> None:
    budgets = {m["metadata"]["name"] for m in render(folder) if m["kind"] == "PodDisruptionBudget"}
    deployments = {m["metadata"]["name"] for m in render(folder) if m["kind"] == "Deployment"}
    assert budgets == deployments - {"pod-costs"}
    for name in ("gateway", "reconciler"):
        replicas = find_manifest(render(folder), "Deployment", name)["spec"]["replicas"]
        assert replicas >= (1 if folder == "overlays/dev" else 2)
