"""The life of one attempt, inside the pool child: claim, run the stage, publish, say how it
ended."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import structlog
import torch
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars

from shared.artifacts import ArtifactStore
from shared.catalog import Catalog, CheckedJob, split_params
from shared.config import Settings
from shared.data_files import PlannedFiles
from shared.errors import (
    Conflict,
    DamagedArtifact,
    FencedOut,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    NotFound,
    PalimpsestError,
    TransientError,
    WorkerDraining,
)
from shared.failpoints import failpoint
from shared.jobs import attempts, completion, queries, repair, worker_drains
from shared.jobs.cost_history import describe_machine
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.mapping import to_json
from shared.jobs.queue import WakeupSender
from shared.jobs.records import Artifact, Claim, JobCost
from shared.jobs.repair import UnreadableInput
from shared.jobs.states import Failure
from shared.ml import REGISTRIES
from shared.ml.reproducibility import full_precision
from shared.plugins import Params, Plugin, StagePlugin
from workers import memory
from workers.attempt import AttemptHooks
from workers.attempt_spans import record_attempt
from workers.claimer import Claimer
from workers.context import JobContext, StageOutput, Submission
from workers.devices import WorkerDevices, list_devices
from workers.lease import LeaseProcess
from workers.stages import registry as stages
from workers.store_wait import RECORD_TIMEOUT_S, wait_for_store
from workers.uploads import uploads_as_files
from workers.usage import UsageMeter

log = structlog.get_logger()

# seconds that a stage may compute without progress unless its `stall_timeout_s` says otherwise
DEFAULT_STALL_TIMEOUT_S = 120.0
DRAIN_POLL_S = 1.0  # between two looks of a drained worker whether it still is
BROKEN_DEVICE_STATUS = 71  # of a pool child whose GPU takes no more work from it
RESULT_WAIT_FACTOR = 10  # times the patience, for what took an attempt its whole life to make


class UnreadableInputs(PalimpsestError):
    """The attempt cannot read its inputs, for they are damaged."""

    def __init__(self, inputs: tuple[UnreadableInput, ...]) -> None:
        super().__init__(", ".join(one.sha256 for one in inputs))
        self.inputs = inputs


@dataclass(frozen=True)
class MachineInfo:
    """What a result depends on besides code and inputs."""

    torch: str
    device: str  # "cpu", or the kind of GPU that the job computes on
    threads: int
    cpu: str  # the widest vector instructions that torch takes here: other ones give other bits


class Runner:
    """Runs jobs of some stages until there are none."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        artifacts: ArtifactStore,
        catalog: Catalog,
        wakeup: WakeupSender,
        lease_process: LeaseProcess,
        *,
        worker: str,
        served_stages: tuple[str, ...],
        machine: MachineInfo,
    ) -> None:
        self.settings, self.db, self.artifacts, self.catalog = settings, db, artifacts, catalog
        self.wakeup, self.lease_process, self.worker, self.machine = (
            wakeup,
            lease_process,
            worker,
            machine,
        )
        self.served_stages = served_stages
        self.devices = WorkerDevices(
            db, worker, lease_process.state, settings.lease_s, list_devices()
        )
        self.device_is_broken = False
        self.claimer = Claimer(
            Dispatcher(db, worker, served_stages, catalog.plugins),
            wakeup,
            served_stages[0],
            settings.lease_s,
        )

    def run_until_idle(self) -> int:
        """Claim and run until nothing is left for this worker; returns how many jobs it had. A
        worker that an operator has drained waits here."""
        count = 0
        while True:
            self.lease_process.ensure_running()
            claim = self.claimer.claim()
            if claim is None:
                if self._wait_while_drained():
                    continue
                return count
            failpoint("worker.after_claim")
            self.run_attempt(claim)
            count += 1
            if self.device_is_broken:
                log.error("exiting the pool child: its GPU takes no more work from this process")
                os._exit(BROKEN_DEVICE_STATUS)

    def _wait_while_drained(self) -> bool:
        """Wait until the operator has undrained this worker, or it is told to shut down; whether
        there was something to wait for.

        A worker that waits takes no more wake-ups, which are meant for workers that take jobs; the
        one that it has taken it passes on.
        """
        waited = False
        try:
            while worker_drains.is_drained(self.db, self.worker):
                if not waited:
                    log.info("drained by an operator; waiting", worker=self.worker)
                    self.wakeup.notify(self.served_stages)
                waited = True
                time.sleep(DRAIN_POLL_S)
                self.lease_process.ensure_running()
        except TransientError as error:
            # with a later wake-up it looks again
            log.warning("the job store is unreachable", error=str(error))
            return False
        return waited

    def run_attempt(self, claim: Claim) -> None:
        """One attempt, to one of its ends. Nothing escapes but the death of the process."""
        fields = {**claim.log_fields, "attempt": claim.job.attempt, "worker": self.worker}
        with bound_contextvars(**fields):  # of every line, also of the stage and its plugins
            self._run_attempt(claim, log.bind(method=claim.job.method, **fields))

    def _run_attempt(self, claim: Claim, logger: Any) -> None:
        job, started = claim.job, time.monotonic()
        logger.info("attempt begins")
        stall_timeout_s = (
            self.settings.stall_timeout_s
            or stages.get(job.stage).stall_timeout_s
            or DEFAULT_STALL_TIMEOUT_S
        )
        # CUDA reserves far more than it takes
        memory.prepare_for_job(
            self.settings.memory_limit_bytes, set_rlimit=not torch.cuda.is_available()
        )
        lease_number = self.lease_process.hold_lease(
            job.id, claim.fence, stall_timeout_s, job.time_limit, claim.log_fields
        )
        try:
            end = self._run_to_end(claim, lease_number)
        except FencedOut as error:
            end = f"fenced out: {error}"
        except TransientError as error:
            # SQL is away: the lease runs out and the job is taken up again, from its checkpoint
            end = f"not recorded: {error}"
        finally:
            self.lease_process.release_lease()
        seconds = time.monotonic() - started
        logger.info("attempt ended", end=end, seconds=round(seconds, 3))
        record_attempt(claim, end, seconds, self.worker)

    def _run_to_end(self, claim: Claim, lease_number: int) -> str:
        job, fence = claim.job, claim.fence
        try:
            return self._execute(claim, lease_number)
        except JobCancelled:
            self._record_end(lambda: attempts.cancel_attempt(self.db, job.id, fence))
            return "cancelled"
        except WorkerDraining:
            self._record_end(lambda: attempts.drain_attempt(self.db, job.id, fence))
            return "drained"
        except FencedOut:
            raise
        except UnreadableInputs as error:
            return self._wait_for_inputs(claim, error.inputs)
        except TransientError as error:
            why, pause = str(error), self.settings.retry_backoff_s
            self._record_end(lambda: attempts.requeue_attempt(self.db, job.id, fence, why, pause))
            return f"returned to the queue: {error}"
        except torch.AcceleratorError as error:
            return self._leave_broken_device(claim, error)
        except Exception as error:
            failure, message = classify_error(error, self.settings.memory_limit_bytes)
            if failure is Failure.ERROR:
                log.exception("the stage raised", job=job.id, stage=job.stage, method=job.method)
            self._record_end(
                lambda: attempts.fail_attempt(self.db, job.id, fence, failure, message)
            )
            return f"failed: {failure}: {message}"

    def _leave_broken_device(self, claim: Claim, error: Exception) -> str:
        """After such an error CUDA refuses whatever this process asks for: the job is for another
        one, be it the job that broke the device or not."""
        reason = f"the GPU reported an error: {str(error).splitlines()[0]}"
        log.exception("the GPU reported an error", job=claim.job.id)
        self.device_is_broken = True
        record_loss = partial(
            attempts.lose_attempt,
            self.db,
            claim.job.id,
            claim.fence,
            reason,
            self.settings.max_lost_attempts,
            self.settings.retry_backoff_s,
        )
        self._record_end(record_loss)
        return f"lost: {reason}"

    def _execute(self, claim: Claim, lease_number: int) -> str:
        """The attempt, as long as nothing ends it."""
        job = claim.job
        hooks = AttemptHooks(
            self.settings,
            self.db,
            self.artifacts,
            self.lease_process.state,
            claim,
            lease_number,
        )
        device, device_kind = self.devices.choose(hooks.wait_for_store)
        machine = replace(self.machine, device=device_kind)
        checked, cache_key = self._compute_cache_key(claim, machine)
        code, hooks.cache_key = checked.code, cache_key
        cached = (
            None
            if job.no_cache
            else hooks.wait_for_store(
                lambda: completion.find_cached_artifacts(self.db, job.tenant, cache_key)
            )
        )
        if cached is not None and hooks.wait_for_store(lambda: self._are_intact(cached[1])):
            # gone since: it is made anew
            with suppress(Conflict):
                self._finish(claim, cached[1], cache_key, code, machine, reused_from=cached[0])
                return f"reused the artifacts of {cached[0]}"
        meter = UsageMeter()
        files = PlannedFiles(job.data_digests)
        files.require_all(checked.data_files)
        with files.guard_reads(), uploads_as_files(self.artifacts):
            outputs, summary = self._run_stage(claim, hooks, device)
        files.require_unchanged()
        failpoint("worker.before_artifacts")
        artifacts = self._store_outputs(job.produces, outputs, hooks)
        failpoint("worker.after_artifacts")
        cost = None if hooks.has_resumed else meter.read()
        put_missing = partial(self._put_missing, artifacts, outputs)
        self._finish(
            claim,
            artifacts,
            cache_key,
            code,
            machine,
            cost=cost,
            summary=summary,
            put_missing=put_missing,
        )
        failpoint("worker.after_finish")
        return "succeeded"

    def _are_intact(self, artifacts: Sequence[Artifact]) -> bool:
        """Whether no artifact of an earlier job is damaged. The bytes are read in full: nothing
        else would verify what is reused."""
        return all(self.artifacts.is_intact(a.sha256, a.size) for a in artifacts)

    def _wait_for_inputs(self, claim: Claim, unreadable: tuple[UnreadableInput, ...]) -> str:
        job, fence = claim.job, claim.fence
        damaged = ", ".join(f"{one.role} ({one.sha256})" for one in unreadable)
        log.warning(
            "inputs are damaged; their jobs are rebuilding them", job=job.id, inputs=damaged
        )
        try:
            self._record_end(lambda: repair.wait_for_inputs(self.db, job.id, fence, unreadable))
        except Conflict as error:
            message = str(error)
            self._record_end(
                lambda: attempts.fail_attempt(self.db, job.id, fence, Failure.ERROR, message)
            )
            return f"failed: {message}"
        return f"waits for {damaged}"

    def _compute_cache_key(self, claim: Claim, machine: MachineInfo) -> tuple[CheckedJob, str]:
        """What the job comes to with the code that runs it here, and the key under which equal work
        is found."""
        job = claim.job
        checked = self.catalog.check(job.stage, job.method, job.params, claim.inputs)
        identity = {
            "stage": job.stage,
            "method": job.method,
            "params": job.params,
            "seed": job.seed,
            "inputs": claim.inputs,
            "data": job.data_digests,
        }
        text = to_json({**identity, "code": checked.code, **asdict(machine)})
        return checked, hashlib.sha256(text.encode()).hexdigest()

    def _run_stage(
        self, claim: Claim, hooks: AttemptHooks, device: torch.device
    ) -> tuple[Mapping[str, StageOutput], Mapping[str, Any] | None]:
        """The outputs, and the summary if the stage gives one."""
        job = claim.job
        stage = stages.get(job.stage)
        method = _get_method(stage, job.method)
        params, method_params = _parse_params(self.catalog, stage, method, job.params)
        inputs = self._read_inputs(claim, hooks)
        torch.manual_seed(job.seed)  # for what a plugin draws without a generator of its own
        context = JobContext(
            params=params,
            method=method,
            method_params=method_params,
            inputs=inputs,
            seed=job.seed,
            device=device,
            hooks=hooks,
            load_submission=partial(self._load_submission, claim, hooks),
        )
        with full_precision():
            outputs: Mapping[str, StageOutput] = stage.target(context)
        return outputs, context.summary

    def _load_submission(self, claim: Claim, hooks: AttemptHooks) -> Submission:
        job = claim.job
        audit = hooks.wait_for_store(partial(queries.find_first_audit, self.db, job.id))
        return Submission(job.id, audit, job.created_at, job.data_digests)

    def _read_inputs(self, claim: Claim, hooks: AttemptHooks) -> dict[str, bytes]:
        """The bytes by role.

        Raises:
            InputsLost: some are damaged, on a second look too.
        """
        data_by_role: dict[str, bytes] = {}
        unreadable: list[UnreadableInput] = []
        parents = {i.role: i.parent for i in claim.job.inputs}
        for role, sha256 in claim.inputs.items():
            read = partial(self.artifacts.get, sha256)
            try:
                data_by_role[role] = hooks.wait_for_store(read)
            except (NotFound, DamagedArtifact):
                find_producer = partial(
                    repair.find_producer, self.db, claim.job.tenant, sha256, parents.get(role)
                )
                producer = hooks.wait_for_store(find_producer)
                try:
                    data_by_role[role] = hooks.wait_for_store(read)
                except (NotFound, DamagedArtifact):
                    unreadable.append(UnreadableInput(role, sha256, producer))
        if unreadable:
            raise UnreadableInputs(tuple(unreadable))
        return data_by_role

    def _store_outputs(
        self, produces: tuple[str, ...], outputs: Mapping[str, StageOutput], hooks: AttemptHooks
    ) -> tuple[Artifact, ...]:
        if set(outputs) != set(produces):
            raise RuntimeError(
                f"the stage produced {sorted(outputs)}, but its catalog entry declares "
                f"{sorted(produces)}"
            )
        wait_s = RESULT_WAIT_FACTOR * self.settings.store_wait_s
        return tuple(
            Artifact(
                role,
                hooks.wait_for_store(partial(self.artifacts.put, o.data), wait_s),
                len(o.data),
                o.media_type,
            )
            for role, o in sorted(outputs.items())
        )

    def _put_missing(
        self, artifacts: Sequence[Artifact], outputs: Mapping[str, StageOutput]
    ) -> None:
        for artifact in artifacts:
            if not self.artifacts.has(artifact.sha256, artifact.size):
                self.artifacts.put(outputs[artifact.role].data)

    def _finish(
        self,
        claim: Claim,
        artifacts: tuple[Artifact, ...],
        cache_key: str,
        code: str,
        machine: MachineInfo,
        reused_from: str | None = None,
        cost: JobCost | None = None,
        summary: Mapping[str, Any] | None = None,
        put_missing: Callable[[], None] | None = None,
    ) -> None:
        write = partial(
            completion.finish_job,
            self.db,
            claim.job.id,
            claim.fence,
            artifacts,
            cache_key=cache_key,
            code=code,
            reused_from=reused_from,
            progress=self.lease_process.state.read_progress(),
            cost=cost,
            ran_on=describe_machine(machine.device, machine.threads),
            summary=summary,
            put_missing=put_missing,
        )
        self._record_end(write)

    def _record_end(self, end: Callable[[], set[str]]) -> None:
        """Write the end of an attempt, again while SQL is away; the fence decides if that took too
        long. Wakes the stages that got something to do."""
        self.wakeup.notify(wait_for_store(end, self.lease_process.state, RECORD_TIMEOUT_S))


def _get_method(stage: StagePlugin, name: str | None) -> Plugin | None:
    if stage.methods is None or name is None:
        return None
    method: Plugin = next(r for r in REGISTRIES if r.kind == stage.methods).get(name)
    return method


def _parse_params(
    catalog: Catalog, stage: StagePlugin, method: Plugin | None, flat: Mapping[str, Any]
) -> tuple[Params, Params | None]:
    """The job's flat parameters as the real models of stage and method."""
    plugins: list[Plugin] = [stage] + ([method] if method else [])
    parts = split_params(flat, [catalog.get(p.kind, p.name, "method") for p in plugins])
    models = [p.params.model_validate(part) for p, part in zip(plugins, parts, strict=True)]
    return models[0], models[1] if method else None


def classify_error(error: Exception, memory_limit_bytes: int | None = None) -> tuple[Failure, str]:
    """The failure word and the sentence for whatever a stage raised."""
    if isinstance(error, JobFailed):
        return Failure(error.kind), error.message
    if isinstance(error, InvalidRequest):
        return Failure.INVALID, f"{error.field}: {error.message}" if error.field else error.message
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return Failure.INVALID, f"params.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
    if isinstance(error, NotFound):
        return Failure.ERROR, str(error)
    if isinstance(error, torch.OutOfMemoryError):  # the accelerator's
        return (
            Failure.OUT_OF_MEMORY,
            f"not enough memory: {error}; make the job smaller or give it a larger worker",
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Failure.OUT_OF_MEMORY, memory.describe_refused_allocation(error, memory_limit_bytes)
    return Failure.ERROR, f"{type(error).__name__}: {error}"
