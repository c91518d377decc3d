"""docker-compose.yml and the Dockerfiles: valid, hardened, without a secret, and serving what there
is to serve."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from deploy.local.layout import WORKER_GROUPS
from shared.config import Settings
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml
from workers.app import STAGES

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = load_yaml(TEXT)["services"]
WORKERS = {n: s for n, s in SERVICES.items() if n.startswith("worker-")}
SETTINGS = {f"PALIMPSEST_{name.upper()}" for name in Settings.model_fields}


def checked(*command: str) -> None:
    program = str(Path(sys.executable).parent / command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_follows_the_compose_specification() -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_the_dockerfiles_pass_their_linter(name: str) -> None:
    checked("hadolint", f"deploy/{name}.Dockerfile")


def stages(service: dict[str, Any]) -> list[str]:
    option, listed, *_ = service["command"]
    assert option == "--stages"
    return str(listed).split(",")


def test_each_worker_is_named_after_its_service() -> None:
    for name, service in WORKERS.items():
        assert service["command"][2:] == ["--service", name, "--machine", "${MACHINE:-}"]


def test_every_stage_has_one_group_of_workers_as_on_one_machine() -> None:
    groups = {
        n.removeprefix("worker-"): tuple(stages(s))
        for n, s in WORKERS.items()
        if "profiles" not in s
    }
    assert groups == WORKER_GROUPS
    assert sorted(stage for group in groups.values() for stage in group) == sorted(STAGES)
    assert set(stages(WORKERS["worker-gpu"])) < set(STAGES)


def test_the_workers_know_how_many_share_the_machine() -> None:
    started = [n for n, s in WORKERS.items() if "profiles" not in s]
    for service in WORKERS.values():
        assert (
            service["environment"]["PALIMPSEST_HOST_WORKERS"]
            == f"${{PALIMPSEST_HOST_WORKERS:-{len(started)}}}"
        )


def test_the_variables_are_settings() -> None:
    given = {
        name
        for s in SERVICES.values()
        for name in s.get("environment", {})
        if name.startswith("PALIMPSEST_")
    }
    asked = set(re.findall(r"\$\{(PALIMPSEST_\w+)", TEXT))
    assert {"PALIMPSEST_DATABASE_URL", "PALIMPSEST_BROKER_URL", "PALIMPSEST_ARTIFACTS_URL"} <= given
    assert given | asked <= SETTINGS


def test_no_secret_has_a_default_and_only_those_who_need_one_are_given_it() -> None:
    for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        uses = re.findall(rf"\$\{{{secret}\b[^}}]*\}}", TEXT)
        assert uses
        assert all(use.startswith(f"${{{secret}:?") for use in uses)
    assert {n: s["environment"]["PALIMPSEST_TOKEN"] for n, s in SERVICES.items()
            if "PALIMPSEST_TOKEN" in s.get("environment", {})} == {"gateway": None}  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode"} & set(service)
    dockerfile = service.get("build", {}).get("dockerfile")
    user = (
        re.findall(r"^USER (.+)$", (ROOT / dockerfile).read_text(), re.M)[-1]
        if dockerfile
        else service["user"]
    )
    assert user.partition(":")[0] not in ("root", "0")


def test_only_the_gateway_is_reached_from_outside_and_only_from_this_machine() -> None:
    assert [n for n, s in SERVICES.items() if "ports" in s] == ["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["gateway"]["ports"])
    assert [n for n, s in SERVICES.items() if s["networks"] == ["inside"]] == ["postgres", "redis"]
    assert load_yaml(TEXT)["networks"]["inside"] == {"internal": True}


def test_what_must_go_on_is_probed_started_again_and_waits_for_the_schema() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        assert ("healthcheck" in service) == (name not in ("migrate", "reconciler")), name
        if name not in ("postgres", "redis", "migrate"):
            assert service["depends_on"]["migrate"] == {
                "condition": "service_completed_successfully"
            }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_redis_keeps_bells_and_takes_those_of_other_containers() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for option in (
        "bind 0.0.0.0",
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
    ):
        assert f"--{option}" in command


def test_redis_has_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    """The command as the shell of the container gets it, with a server that tells what it was
    given."""
    redis = SERVICES["redis"]
    assert "REDISCLI_AUTH" in redis["environment"]  # of the probe, too
    shell, option, script = redis["command"]
    program = tmp_path / "redis-server"
    program.write_text('#!/bin/sh\ncat "$1"; shift; echo "$@"; stat -c %a "$CONF"\n')
    program.chmod(0o755)
    script = script.replace("$$", "$").replace("/tmp/redis.conf", str(tmp_path / "redis.conf"))
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "REDISCLI_AUTH": "s3cret",
        "CONF": str(tmp_path / "redis.conf"),
    }
    done = subprocess.run(
        [shell, option, script], env=env, capture_output=True, text=True, check=True
    )
    config, arguments, mode = done.stdout.splitlines()
    assert (config, mode) == ('requirepass "s3cret"', "600")
    assert "s3cret" not in arguments


def locked(image: str) -> set[str]:
    """What an image installs, by distribution name."""
    lines = (ROOT / f"requirements/{image}.lock").read_text().splitlines()
    return {line.partition("==")[0].lower() for line in lines if "==" in line}


def imported(*folders: str) -> Iterator[str]:
    """Top-level names in the import statements of these folders or files."""
    for folder in folders:
        path = ROOT / folder
        for file in [path] if path.suffix else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.partition(".")[0]


LIGHT = [
    str(p.relative_to(ROOT))
    for p in (ROOT / "shared").iterdir()
    if p.name not in ("ml", "__pycache__")
]


@pytest.mark.parametrize(
    ("image", "code"),
    [("gateway", ["services", *LIGHT]), ("worker", ["workers", "shared"])],
)
def test_an_image_installs_what_its_code_imports_and_the_same_versions(
    image: str, code: list[str]
) -> None:
    homes = packages_distributions()
    missing = {
        name for name in imported(*[c for c in code if c.endswith(".py") or (ROOT / c).is_dir()])
        if name in homes and name not in ("shared", "services", "workers", "deploy")
        and not {re.sub("[-_.]+", "-", home.lower()) for home in homes[name]} & locked(image)
    }  # fmt: skip
    assert not missing
    everything = set((ROOT / "requirements/all.lock").read_text().splitlines())
    own = {
        line
        for line in (ROOT / f"requirements/{image}.lock").read_text().splitlines()
        if "==" in line
    }
    assert own <= everything


def test_the_gateway_s_image_has_no_torch() -> None:
    heavy = {"torch", "torchvision", "timm", "numpy", "safetensors", "triton"}
    assert not locked("gateway") & heavy
    assert locked("worker") >= heavy
    assert "gateway.lock" in (ROOT / "deploy/gateway.Dockerfile").read_text()
    assert "worker.lock" not in (ROOT / "deploy/gateway.Dockerfile").read_text()


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_an_image_says_what_it_is_and_what_it_was_built_from(name: str) -> None:
    text = (ROOT / f"deploy/{name}.Dockerfile").read_text()
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', text))
    assert labels.pop("title") == f"Palimpsest {name}"
    assert labels.pop("licenses") == "Apache-2.0"
    assert labels.pop("description")
    assert labels == {one: f"${{{one.upper()}}}" for one in ("version", "revision", "source")}
    arguments = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    build = next(
        s["build"]
        for s in SERVICES.values()
        if s.get("build", {}).get("dockerfile") == f"deploy/{name}.Dockerfile"
    )
    assert set(build["args"]) == arguments


def test_other_builds_of_torch_come_without_the_libraries_of_the_locked_one() -> None:
    text = (ROOT / "deploy/worker.Dockerfile").read_text()
    (left_out,) = re.findall(r"grep -vE '([^']+)'", text)
    lines = (ROOT / "requirements/worker.lock").read_text().splitlines()
    names = {line.partition("==")[0] for line in lines if re.match(left_out, line)}
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"} <= names
    assert not names & {"numpy", "torchmetrics", "timm", "opacus"}
