"""A sleeping job, as the tests of faults post it."""

from __future__ import annotations

from pathlib import Path

from tests.support.system import System
from tests.support.waiting import PATIENCE, wait_for

WORK = {"steps": 30, "seconds": 0.1}
LONG = {"steps": 300, "seconds": 2.0}  # longer than any wait for what cuts it short


def effects_of(system: System, job: str) -> list[str]:
    return Path(system.job(job).params["effects"]).read_text().splitlines()


def work(system: System, tag: str, **more: object) -> dict[str, object]:
    return {**WORK, "tag": tag, "effects": str(system.home / f"effects-{tag}"), **more}


def gated(system: System, tag: str, **more: object) -> dict[str, object]:
    """Work that goes on until `open_gate`, whatever happens to the worker and however busy the machine is."""
    return work(system, tag, steps=5, gate=str(system.home / f"gate-{tag}"), **more)


def unhurried(system: System, tag: str) -> dict[str, object]:
    """Work that makes progress, step by step, until `hurry`."""
    return work(system, tag, steps=20_000, hurry=str(system.home / f"hurry-{tag}"))


def hurry(system: System, tag: str) -> None:
    (system.home / f"hurry-{tag}").touch()


def open_gate(system: System, tag: str) -> None:
    (system.home / f"gate-{tag}").touch()


def checkpointed(system: System, job: str) -> None:
    wait_for(lambda: system.job(job).checkpoint, PATIENCE, "a checkpoint is written")


def unbroken(system: System, tag: str) -> str:
    """The artifact's digest when nothing goes wrong."""
    job = system.wait(system.submit("sleep", work(system, tag), fresh=True))
    assert job.state == "succeeded", job
    return job.artifacts[0].sha256


def unbroken_again(system: System, job: str) -> str:
    """The digest of the same work, done anew without a break."""
    params = {**system.job(job).params, "seconds": 0.0}
    again = system.wait(system.submit("sleep", params, fresh=True))
    return again.artifacts[0].sha256
