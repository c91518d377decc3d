"""The manifests of deploy/k8s as a cluster would get them."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.support.source_tree import ROOT

FOLDER = ROOT / "deploy/k8s"
Manifest = dict[str, Any]


@cache
def render(folder: str) -> tuple[Manifest, ...]:
    """The manifests of a folder below deploy/k8s; callers must not change them."""
    return render_folder(FOLDER / folder)


def render_folder(folder: Path) -> tuple[Manifest, ...]:
    """The manifests of any folder with a kustomization.yaml."""
    kubectl = str(Path(sys.executable).parent / "kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings of what is deprecated
    return tuple(YAML(typ="safe").load_all(done.stdout))


def find_manifest(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The only one of that kind and name."""
    (manifest,) = (m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return manifest


def list_pod_specs(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """The specs of all pods, by name of what starts them."""
    return {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]
        for m in manifests
        if m["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def list_scaled_objects(folder: str) -> dict[str, Manifest]:
    """KEDA's ScaledObjects of a folder, by worker group."""
    return {
        m["metadata"]["name"].removeprefix("worker-"): m
        for m in render(folder)
        if m["kind"] == "ScaledObject"
    }
