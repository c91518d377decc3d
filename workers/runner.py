"""The life of one attempt, inside the pool child: claim, run the stage, publish, say how it ended."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import structlog
import torch
from pydantic import ValidationError

from shared.artifacts import ArtifactStore
from shared.catalog import Catalog, CheckedJob, split_params
from shared.config import Settings
from shared.data_files import PlannedFiles
from shared.errors import (
    Conflict,
    Damaged,
    Drained,
    FencedOut,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    NotFound,
    PalimpsestError,
    TransientError,
)
from shared.failpoints import failpoint
from shared.jobs import claims, completion, damage
from shared.jobs.damage import Lost
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.queue import Ringer
from shared.jobs.records import Artifact, Claim
from shared.jobs.rows import to_json
from shared.jobs.states import Failure
from shared.ml import REGISTRIES
from shared.plugins import Params, Plugin, StagePlugin
from workers import memory
from workers.attempt import AttemptHooks
from workers.claimer import Claimer
from workers.context import JobContext, Output
from workers.lease import LeaseProcess
from workers.patience import TELL_WITHIN, wait_for
from workers.stages import registry as stages

log = structlog.get_logger()

SILENCE = 120.0  # seconds that a stage may compute without progress unless its `silence` says otherwise
RESULTS = 10  # times the patience, for what took an attempt its whole life to make


class InputsLost(PalimpsestError):
    """The attempt cannot read its inputs, for they are damaged."""

    def __init__(self, lost: tuple[Lost, ...]) -> None:
        super().__init__(", ".join(one.sha256 for one in lost))
        self.lost = lost


@dataclass(frozen=True)
class Machine:
    """What a result depends on besides code and inputs."""

    torch: str
    device: str
    threads: int
    cpu: str  # the widest vector instructions that torch takes here: other ones give other bits


class Runner:
    """Runs jobs of some stages until there are none."""

    def __init__(
        self, settings: Settings, db: Database, artifacts: ArtifactStore, catalog: Catalog, ringer: Ringer,
        lease: LeaseProcess, *, worker: str, serves: tuple[str, ...], machine: Machine,
    ) -> None:  # fmt: skip
        self.settings, self.db, self.artifacts, self.catalog = settings, db, artifacts, catalog
        self.ringer, self.lease, self.worker, self.machine = ringer, lease, worker, machine
        self.claimer = Claimer(Dispatcher(db, worker, serves, catalog.plugins), ringer, serves[0], settings.lease)

    def work(self) -> int:
        """Claim and run until nothing is left for this worker; returns how many jobs it had."""
        done = 0
        while True:
            self.lease.require()
            claim = self.claimer.claim()
            if claim is None:
                return done
            failpoint("worker.after_claim")
            self.run(claim)
            done += 1

    def run(self, claim: Claim) -> None:
        """One attempt, to one of its ends. Nothing escapes but the death of the process."""
        job, started = claim.job, time.monotonic()
        logger = log.bind(job=job.id, stage=job.stage, method=job.method, attempt=job.attempt, worker=self.worker)
        logger.info("attempt begins")
        silence = self.settings.silence or stages.get(job.stage).silence or SILENCE
        # CUDA reserves far more than it takes
        memory.settle(self.settings.memory_limit_bytes, refuse=not torch.cuda.is_available())
        number = self.lease.hold(job.id, claim.fence, silence, job.time_limit)
        try:
            end = self._attempt(claim, number)
        except FencedOut as error:
            end = f"fenced out: {error}"
        except TransientError as error:
            # SQL is away: the lease runs out and the job is taken up again, from its checkpoint
            end = f"not recorded: {error}"
        finally:
            self.lease.release()
        logger.info("attempt ended", end=end, seconds=round(time.monotonic() - started, 3))

    def _attempt(self, claim: Claim, number: int) -> str:
        job, fence = claim.job, claim.fence
        try:
            return self._work(claim, number)
        except JobCancelled:
            self._record(lambda: claims.cancelled(self.db, job.id, fence))
            return "cancelled"
        except Drained:
            self._record(lambda: claims.drained(self.db, job.id, fence))
            return "drained"
        except FencedOut:
            raise
        except InputsLost as error:
            return self._wait_for_inputs(claim, error.lost)
        except TransientError as error:
            why, pause = str(error), self.settings.retry_backoff_s
            self._record(lambda: claims.give_back(self.db, job.id, fence, why, pause))
            return f"given back: {error}"
        except Exception as error:
            failure, message = explain(error, self.settings.memory_limit_bytes)
            if failure is Failure.ERROR:
                log.exception("the stage raised", job=job.id, stage=job.stage, method=job.method)
            self._record(lambda: claims.fail(self.db, job.id, fence, failure, message))
            return f"failed: {failure}: {message}"

    def _work(self, claim: Claim, number: int) -> str:
        """The attempt, as long as nothing ends it."""
        job = claim.job
        checked, key = self._content_key(claim)
        code = checked.code
        hooks = AttemptHooks(self.settings, self.db, self.artifacts, self.lease.page, claim, number, key)
        earlier = None if job.fresh else hooks.wait_for(lambda: completion.equal_work(self.db, job.tenant, key))
        if earlier is not None and hooks.wait_for(lambda: self._whole(earlier[1])):
            self._finish(claim, earlier[1], key, code, reused_from=earlier[0])
            return f"reused the artifacts of {earlier[0]}"
        files = PlannedFiles(job.data)
        files.require_all(checked.data_files)
        with files.guarding():
            outputs = self._run_stage(claim, hooks)
        files.require_unchanged()
        failpoint("worker.before_artifacts")
        artifacts = self._publish(job.produces, outputs, hooks)
        failpoint("worker.after_artifacts")
        self._finish(claim, artifacts, key, code)
        failpoint("worker.after_finish")
        return "succeeded"

    def _whole(self, artifacts: Sequence[Artifact]) -> bool:
        """Whether nothing of an earlier job's work is damaged. Read, not looked at: what is reused is not made anew."""
        return all(self.artifacts.whole(a.sha256, a.size) for a in artifacts)

    def _wait_for_inputs(self, claim: Claim, lost: tuple[Lost, ...]) -> str:
        job, fence = claim.job, claim.fence
        damaged = ", ".join(f"{one.role} ({one.sha256})" for one in lost)
        log.warning("inputs are damaged; they are made again", job=job.id, inputs=damaged)
        try:
            self._record(lambda: damage.wait_for_inputs(self.db, job.id, fence, lost))
        except Conflict as error:
            message = str(error)
            self._record(lambda: claims.fail(self.db, job.id, fence, Failure.ERROR, message))
            return f"failed: {message}"
        return f"waits for {damaged}"

    def _content_key(self, claim: Claim) -> tuple[CheckedJob, str]:
        """What the job comes to with the code that runs it here, and the key under which equal work is found."""
        job, machine = claim.job, self.machine
        checked = self.catalog.check(job.stage, job.method, job.params, claim.inputs)
        what = {
            "stage": job.stage,
            "method": job.method,
            "params": job.params,
            "seed": job.seed,
            "inputs": claim.inputs,
            "data": job.data,
        }
        text = to_json({**what, "code": checked.code, **asdict(machine)})
        return checked, hashlib.sha256(text.encode()).hexdigest()

    def _run_stage(self, claim: Claim, hooks: AttemptHooks) -> Mapping[str, Output]:
        job = claim.job
        stage = stages.get(job.stage)
        method = _method(stage, job.method)
        params, method_params = _params(self.catalog, stage, method, job.params)
        inputs = self._read_inputs(claim, hooks)
        torch.manual_seed(job.seed)  # for what a plugin draws without a generator of its own
        context = JobContext(
            params=params, method=method, method_params=method_params, inputs=inputs, seed=job.seed, hooks=hooks
        )
        outputs: Mapping[str, Output] = stage.target(context)
        return outputs

    def _read_inputs(self, claim: Claim, hooks: AttemptHooks) -> dict[str, bytes]:
        """The bytes by role.

        Raises:
            InputsLost: some are damaged, on a second look too.
        """
        found: dict[str, bytes] = {}
        lost: list[Lost] = []
        parents = {i.role: i.parent for i in claim.job.inputs}
        for role, sha256 in claim.inputs.items():
            read = partial(self.artifacts.get, sha256)
            try:
                found[role] = hooks.wait_for(read)
            except (NotFound, Damaged):
                find = partial(damage.maker_of, self.db, claim.job.tenant, sha256, parents.get(role))
                maker = hooks.wait_for(find)
                try:
                    found[role] = hooks.wait_for(read)
                except (NotFound, Damaged):
                    lost.append(Lost(role, sha256, maker))
        if lost:
            raise InputsLost(tuple(lost))
        return found

    def _publish(
        self, produces: tuple[str, ...], outputs: Mapping[str, Output], hooks: AttemptHooks
    ) -> tuple[Artifact, ...]:
        if set(outputs) != set(produces):
            raise RuntimeError(f"the stage made {sorted(outputs)}, its catalog entry says {sorted(produces)}")
        keep = RESULTS * self.settings.patience_s
        return tuple(
            Artifact(role, hooks.wait_for(partial(self.artifacts.put, o.data), keep), len(o.data), o.media_type)
            for role, o in sorted(outputs.items())
        )

    def _finish(
        self, claim: Claim, artifacts: tuple[Artifact, ...], key: str, code: str, reused_from: str | None = None
    ) -> None:
        write = partial(
            completion.finish, self.db, claim.job.id, claim.fence, artifacts,
            content_key=key, code=code, reused_from=reused_from, progress=self.lease.page.progress(),
        )  # fmt: skip
        self._record(write)

    def _record(self, end: Callable[[], set[str]]) -> None:
        """Write the end of an attempt, again while SQL is away; the fence decides if that took too long. Rings for
        what got something to do."""
        self.ringer.ring(wait_for(end, self.lease.page, TELL_WITHIN))


def _method(stage: StagePlugin, name: str | None) -> Plugin | None:
    if stage.methods is None or name is None:
        return None
    method: Plugin = next(r for r in REGISTRIES if r.kind == stage.methods).get(name)
    return method


def _params(
    catalog: Catalog, stage: StagePlugin, method: Plugin | None, flat: Mapping[str, Any]
) -> tuple[Params, Params | None]:
    """The job's flat parameters as the real models of stage and method."""
    plugins: list[Plugin] = [stage] + ([method] if method else [])
    parts = split_params(flat, [catalog.get(p.kind, p.name, "method") for p in plugins])
    models = [p.params.model_validate(part) for p, part in zip(plugins, parts, strict=True)]
    return models[0], models[1] if method else None


def explain(error: Exception, memory_limit_bytes: int | None = None) -> tuple[Failure, str]:
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
        return Failure.OUT_OF_MEMORY, f"not enough memory: {error}; make the job smaller or give it a larger worker"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Failure.OUT_OF_MEMORY, memory.refused(error, memory_limit_bytes)
    return Failure.ERROR, f"{type(error).__name__}: {error}"
