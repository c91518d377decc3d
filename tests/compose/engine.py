"""The Docker engine that DOCKER_HOST names, and the composition that is tested on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml

PROJECT = "palimpsest-compose-test"
BUILD_TIMEOUT_S = 3600.0
COMMAND_TIMEOUT_S = 600.0
# Ends every process of a container but its init: what the kernel does when memory runs out. `docker
# kill` would count as a wish of the operator, after which the container is not started again.
KILL_ALL = "import os, signal; os.kill(-1, signal.SIGKILL)"


class NoEngine(Exception):
    """There is no Docker engine, or no compose; the message says what is missing."""


class CommandFailed(Exception):
    """A command of Docker's exited with an error; the message has its last lines."""


class Container(NamedTuple):
    """A container of a service. `id` is complete; `started_at` is as Docker writes it."""

    id: str
    name: str
    started_at: str
    restart_count: int

    @property
    def hostname(self) -> str:
        """What Docker calls the machine inside it, and the worker its host."""
        return self.id[:12]


class ImageSize(NamedTuple):
    """In bytes; `base` is None if the engine does not have the base under its name."""

    total: int
    base: int | None


def find_compose() -> list[str]:
    """The words of the compose command, after the engine has answered.

    Raises:
        NoEngine: no engine answers, or no compose is installed.
    """
    try:
        _run(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=30)
    except FileNotFoundError:
        raise NoEngine("the command docker is not installed") from None
    except (CommandFailed, subprocess.TimeoutExpired):
        host = os.environ.get("DOCKER_HOST", "the default socket (DOCKER_HOST is not set)")
        raise NoEngine(f"no Docker engine answers at {host}") from None
    for words in (["docker", "compose"], ["docker-compose"]):
        try:
            _run([*words, "version"], timeout_s=30)
        except (FileNotFoundError, CommandFailed):
            continue
        return words
    raise NoEngine("neither `docker compose` nor `docker-compose` is installed")


def write_additions(
    target: Path, command: Sequence[str], redis_password: str, build_network: str | None
) -> None:
    """A compose file with what depends on the machine: the network of builds, and what version 1
    of compose cannot read in docker-compose.yml, a variable within the default of another."""
    services = load_yaml((ROOT / "docker-compose.yml").read_text())["services"]
    additions: dict[str, Any] = {name: {} for name, s in services.items() if "build" in s}
    for one in additions.values():
        if build_network is not None:
            one["build"] = {"network": build_network}
        if list(command) == ["docker-compose"]:
            url = f"redis://:{redis_password}@redis:6379/0"
            one["environment"] = {"PALIMPSEST_BROKER_URL": url}
    target.write_text(json.dumps({"services": additions}))


class Composition:
    """docker-compose.yml, and the files that COMPOSE_FILE and `more` add to it, under a project name
    of its own."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], more: Path) -> None:
        self._command = list(command)
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
        self._env |= {"COMPOSE_PROJECT_NAME": PROJECT, **variables}
        self._env["COMPOSE_FILE"] = f"{os.environ.get('COMPOSE_FILE', 'docker-compose.yml')}:{more}"

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """What `compose ARGUMENTS` prints.

        Raises:
            CommandFailed: it exited with an error.
        """
        return _run([*self._command, *arguments], env=self._env, timeout_s=timeout_s)

    def list_containers(self, service: str) -> list[Container]:
        """The containers of a service, running or not, by name."""
        own = [
            f"label=com.docker.compose.project={PROJECT}",
            f"label=com.docker.compose.service={service}",
            "label=com.docker.compose.oneoff=False",
        ]
        filters = [word for label in own for word in ("--filter", label)]
        ids = _run(["docker", "ps", "--all", "--quiet", "--no-trunc", *filters]).split()
        return sorted((inspect_container(one) for one in ids), key=lambda c: c.name)

    def read_logs(self, lines: int = 40) -> str:
        """The last lines of every container."""
        return self.run("logs", "--no-color", f"--tail={lines}")


def inspect_container(container_id: str) -> Container:
    """The container as it is now."""
    (state,) = json.loads(_run(["docker", "inspect", container_id]))
    return Container(
        state["Id"],
        state["Name"].removeprefix("/"),
        state["State"]["StartedAt"],
        state["RestartCount"],
    )


def kill_processes(container: Container) -> None:
    """SIGKILL for every process in it; the engine starts it again."""
    command = ["docker", "exec", container.id, "python", "-c", KILL_ALL]
    subprocess.run(command, capture_output=True, check=False, timeout=COMMAND_TIMEOUT_S)


def stop_and_remove(container: Container) -> None:
    """SIGTERM, the time that the compose file gives it, and away with it."""
    _run(["docker", "stop", container.id])
    _run(["docker", "rm", container.id])


def read_image_size(image: str, base: str) -> ImageSize:
    """The size of an image and of what it was built on."""
    try:
        base_bytes: int | None = _inspect_image(base)["Size"]
    except CommandFailed:
        base_bytes = None
    return ImageSize(_inspect_image(image)["Size"], base_bytes)


def read_labels(image: str) -> Mapping[str, str]:
    """The labels of an image."""
    labels: Mapping[str, str] = _inspect_image(image)["Config"]["Labels"] or {}
    return labels


def _inspect_image(image: str) -> dict[str, Any]:
    (described,) = json.loads(_run(["docker", "image", "inspect", image]))
    return dict(described)


def _run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> str:
    done = subprocess.run(
        list(command),
        cwd=ROOT,
        env=None if env is None else dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise CommandFailed(f"{' '.join(command)} exited with {done.returncode}:\n{last}")
    return done.stdout
