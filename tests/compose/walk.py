"""What is done to the composition: an audit with a killed worker, then one during a rolling update.

Every step raises `WalkFailed` with a sentence if the system did not do what it promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from services.client import TERMINAL_STATES, Audit, Client, Job
from tests.compose import engine
from tests.compose.engine import Composition, Container
from tests.compose.numbers import ReportNumbers
from tests.support.waiting import wait_for

SCALED, SCALE = "worker-attack", 3
START_TIMEOUT_S = 600.0
AUDIT_TIMEOUT_S = 3600.0
POLL_S = 0.5
Say = Callable[[str], None]


class WalkFailed(Exception):
    """The composition lost, charged or changed something; the message says what."""


def submit_when_up(gateway: Client, spec: Mapping[str, Any]) -> Audit:
    """Submit the audit as soon as the gateway takes it."""

    def try_once() -> Audit | None:
        try:
            return gateway.submit_audit(spec)
        except Exception as error:  # whatever a gateway that starts answers, or does not
            failures.append(str(error))
            return None

    failures: list[str] = []
    try:
        return wait_for(try_once, START_TIMEOUT_S, "the gateway takes an audit", POLL_S)
    except AssertionError:
        raise WalkFailed(f"the gateway took no audit: {failures[-1]}") from None


def kill_one_that_works(
    system: Composition, gateway: Client, audit_id: str
) -> tuple[Container, Job]:
    """Kill all processes of one container of the scaled service while it runs a job; returns the
    container and the job, whose attempt is lost. The engine must start the container again.

    Raises:
        WalkFailed: every job of the service had finished before its container was killed.
    """
    containers = {c.hostname: c for c in system.list_containers(SCALED)}

    def find_busy() -> tuple[Container, str] | None:
        for worker in gateway.list_workers():
            if worker["host"] in containers and worker["live"] and worker["job"]:
                return containers[worker["host"]], worker["job"]
        if gateway.get_audit(audit_id).state in TERMINAL_STATES:
            raise WalkFailed(f"the audit had ended before a {SCALED} could be killed")
        return None

    while True:
        victim, job_id = wait_for(find_busy, AUDIT_TIMEOUT_S, f"a {SCALED} runs a job")
        engine.kill_processes(victim)

        def has_restarted(victim: Container = victim) -> bool:
            restarts = engine.inspect_container(victim.id).restart_count
            return restarts > victim.restart_count

        wait_for(has_restarted, START_TIMEOUT_S, f"{victim.name} is started again", POLL_S)

        def judge(job_id: str = job_id) -> Job | None:
            job = gateway.get_job(job_id)
            return job if job.raw["lost_count"] or job.state == "succeeded" else None

        job = wait_for(judge, AUDIT_TIMEOUT_S, "the lost attempt is noticed", POLL_S)
        if job.raw["lost_count"]:
            return victim, job
        # it had finished just before: kill another


def wait_for_end(gateway: Client, audit_id: str) -> list[Job]:
    """Wait for the audit; its jobs.

    Raises:
        WalkFailed: a job did not succeed.
    """

    def has_ended() -> bool:
        return gateway.get_audit(audit_id).state in TERMINAL_STATES

    wait_for(has_ended, AUDIT_TIMEOUT_S, "the audit ends", POLL_S)
    jobs = list(gateway.list_jobs(audit=audit_id))
    if failed := [job for job in jobs if job.state != "succeeded"]:
        first = failed[0]
        raise WalkFailed(
            f"{len(failed)} of {len(jobs)} jobs did not succeed; {first.id} ({first.stage}) is "
            f"{first.state}: {first.message}"
        )
    return jobs


def count_lost(gateway: Client, jobs: Sequence[Job]) -> int:
    """Attempts of these jobs that were charged as lost."""
    return sum(int(gateway.get_job(job.id).raw["lost_count"]) for job in jobs)


def count_resumed(gateway: Client, jobs: Sequence[Job]) -> int:
    """Jobs that a second attempt has finished."""
    return sum(int(gateway.get_job(job.id).raw["attempt"]) > 1 for job in jobs)


def read_numbers(gateway: Client, audit_id: str) -> ReportNumbers:
    """The numbers of an audit's report."""
    return ReportNumbers.from_report(gateway.get_report(audit_id, with_manifest=False).data)


def update_workers(system: Composition, gateway: Client, services: Sequence[str], say: Say) -> int:
    """Drain, remove and recreate every container of these services, one by one; returns how many."""
    replaced = 0
    for service in services:
        for container in system.list_containers(service):
            name = _find_worker(gateway, container)
            gateway.drain_worker(name)
            wait_for(
                lambda name=name: _is_idle(gateway, name),  # type: ignore[misc]
                START_TIMEOUT_S,
                f"{name} is drained",
                POLL_S,
            )
            engine.stop_and_remove(container)
            scale = f"{service}={SCALE if service == SCALED else 1}"
            system.run(
                "up",
                "--detach",
                "--no-deps",
                "--no-recreate",
                "--no-build",
                "--scale",
                scale,
                service,
            )
            gateway.undrain_worker(name)
            others = {c.id for c in system.list_containers(service)} - {container.id}
            for other in others:
                _find_worker(gateway, engine.inspect_container(other))
            say(f"  {name} drained, removed and recreated")
            replaced += 1
    return replaced


def find_worker_names(system: Composition, gateway: Client, services: Sequence[str]) -> list[str]:
    """The names of the live workers, one per container."""
    return sorted(_list_names(system, gateway, services))


def _list_names(system: Composition, gateway: Client, services: Sequence[str]) -> Iterator[str]:
    for service in services:
        for container in system.list_containers(service):
            yield _find_worker(gateway, container)


def _find_worker(gateway: Client, container: Container) -> str:
    """The name of the live worker in a container, once there is one."""

    def find() -> str | None:
        for worker in gateway.list_workers():
            if worker["live"] and worker["host"] == container.hostname:
                return str(worker["id"])
        return None

    return wait_for(find, START_TIMEOUT_S, f"a worker in {container.name} is live", POLL_S)


def _is_idle(gateway: Client, name: str) -> bool:
    return all(not w["job"] for w in gateway.list_workers() if w["id"] == name)
