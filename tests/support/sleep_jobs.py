"""A sleeping job, as the tests of faults post it."""

from __future__ import annotations

from pathlib import Path

from tests.support.system import System
from tests.support.waiting import TIMEOUT_S, wait_for

SHORT_PARAMS = {"steps": 30, "seconds": 0.1}
LONG_PARAMS = {"steps": 300, "seconds": 2.0}  # longer than any wait for what cuts it short


def read_effects(system: System, job: str) -> list[str]:
    return Path(system.get_job(job).params["effects"]).read_text().splitlines()


def make_params(system: System, tag: str, **more: object) -> dict[str, object]:
    return {**SHORT_PARAMS, "tag": tag, "effects": str(system.home / f"effects-{tag}"), **more}


def make_gated_params(system: System, tag: str, **more: object) -> dict[str, object]:
    """Work that goes on until `open_gate`, whatever happens to the worker and however busy the
    machine is."""
    return make_params(system, tag, steps=5, gate=str(system.home / f"gate-{tag}"), **more)


def make_unhurried_params(system: System, tag: str) -> dict[str, object]:
    """Work that makes progress, step by step, until `end_sleeping`."""
    return make_params(system, tag, steps=20_000, hurry=str(system.home / f"hurry-{tag}"))


def end_sleeping(system: System, tag: str) -> None:
    (system.home / f"hurry-{tag}").touch()


def open_gate(system: System, tag: str) -> None:
    (system.home / f"gate-{tag}").touch()


def wait_for_checkpoint(system: System, job: str) -> None:
    wait_for(lambda: system.get_job(job).checkpoint, TIMEOUT_S, "a checkpoint is written")


def run_undisturbed(system: System, tag: str) -> str:
    """The artifact's digest when nothing goes wrong."""
    job = system.wait(system.submit("sleep", make_params(system, tag), no_cache=True))
    assert job.state == "succeeded", job
    return job.artifacts[0].sha256


def rerun_undisturbed(system: System, job: str) -> str:
    """The digest of the same work, done once more without a break."""
    params = {**system.get_job(job).params, "seconds": 0.0}
    rerun = system.wait(system.submit("sleep", params, no_cache=True))
    return rerun.artifacts[0].sha256
