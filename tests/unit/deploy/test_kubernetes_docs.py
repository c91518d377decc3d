"""What docs/kubernetes.md tells an operator to write, as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.doc_blocks import list_blocks
from tests.support.kustomize import Manifest, find_manifest, list_pod_specs, render, render_folder
from tests.support.source_tree import ROOT

PAGE = "docs/kubernetes.md"
SCRIPTS = "\n".join(block.text for block in list_blocks("sh") if block.path == PAGE)


def list_required_keys(folder: str) -> dict[str, set[str]]:
    """The keys that pods cannot start without, by Secret."""
    keys: dict[str, set[str]] = {}
    for pod in list_pod_specs(render(folder)).values():
        for variable in pod["containers"][0].get("env", ()):
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            if source and not source.get("optional"):
                keys.setdefault(source["name"], set()).add(source["key"])
    return keys


def test_the_secrets_have_every_key_that_is_needed() -> None:
    written = set(re.findall(r'echo "([a-z0-9-]+)=', SCRIPTS))
    for folder in ("overlays/dev", "overlays/keda-gpu"):
        for secret, keys in list_required_keys(folder).items():
            assert f"create secret generic {secret} " in SCRIPTS
            assert keys <= written, secret
    assert "connection" in written  # KEDA's


def list_roles(manifests: tuple[Manifest, ...]) -> dict[str, tuple[str, str]]:
    """Role and key of its password by pod."""
    roles = {}
    for name, pod in list_pod_specs(manifests).items():
        env = {variable["name"]: variable for variable in pod["containers"][0]["env"]}
        if "PGUSER" in env:
            source = env["PGPASSWORD"]["valueFrom"]["secretKeyRef"]
            roles[name] = (env["PGUSER"]["value"], source["key"])
    return roles


def test_the_overlay_of_an_operator_can_be_applied(tmp_path: Path) -> None:
    (block,) = (block for block in list_blocks("yaml") if block.path == PAGE)
    (tmp_path / "palimpsest").symlink_to(ROOT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(block.text)
    manifests = render_folder(tmp_path / "mine")

    def get_container(name: str) -> Manifest:
        return list_pod_specs(manifests)[name]["containers"][0]

    attack = get_container("worker-attack")
    assert attack["image"] == "registry.internal/palimpsest-worker:0.2.0"
    assert attack["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}
    assert get_container("pod-costs")["image"].startswith("registry.internal/")
    roles = list_roles(manifests)
    assert roles["migrate"] == ("palimpsest", "postgres-password")
    for name, (role, key) in roles.items():
        kind = "worker" if name.startswith("worker-") else name
        assert kind == "migrate" or (role, key) == (
            f"palimpsest_{kind}",
            f"{kind}-postgres-password",
        )
        assert kind in ("migrate", "worker", "gateway", "reconciler")
    (settings,) = (m for m in manifests if m["kind"] == "ConfigMap")
    assert settings["data"]["PALIMPSEST_ARTIFACTS_URL"] == "s3://audits"
    assert "PALIMPSEST_DATA_ROOT" in settings["data"]  # of the base
    policy = find_manifest(manifests, "NetworkPolicy", "to-postgres")
    assert policy["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.20.30.40/32"}}]
