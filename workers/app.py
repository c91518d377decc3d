"""Celery's entry point: one task, the wake-up. `celery -A workers.app worker -Q attack` or `python
-m workers`.

Two processes load this module. The parent (Celery's consumer) never imports torch. The pool child
imports the plugins once, publishes the catalog, registers the worker, starts its lease process, and
runs jobs whenever a wake-up arrives. A plugin that does not import stops both; the error names its
file.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from billiard import active_children
from celery import bootsteps, signals

from shared import logs, machine
from shared.config import START_ERROR_VARIABLE, Settings, load_settings
from shared.errors import Conflict, InvalidRequest, PalimpsestError
from shared.jobs import queue, worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import require_current_schema
from shared.registry import list_entry_points, list_plugin_files

if TYPE_CHECKING:
    from workers.runner import Runner

log = structlog.get_logger()

# A stage of an installed package is entered under its name.
STAGES = tuple(
    list_plugin_files([str(Path(__file__).parent / "stages")]) + list_entry_points("stages")
)

try:
    app = queue.make_celery(load_settings().broker_url.get_secret_value(), STAGES)
except InvalidRequest as error:
    sys.exit(f"palimpsest: {error}")  # whoever starts a worker reads one sentence

_runner: Runner | None = None  # of this pool child


@app.task(name=queue.TASK_NAME, ignore_result=True)
def run_queued_jobs(_hint: str = "") -> None:
    """Run queued jobs until none is left. The hint is a job id and only a hint: SQL decides which
    job is next."""
    assert _runner is not None  # set before the pool takes its first task
    _runner.run_until_idle()


def check_settings(conf: Any) -> None:
    """Refuse to start when anything has changed the settings that the protocol stands on.

    Raises:
        Conflict: names the setting.
    """
    for name, wanted in queue.CELERY_SETTINGS.items():
        if conf[name] != wanted:
            raise Conflict(
                f"Celery setting {name} is {conf[name]!r}, but the protocol needs {wanted!r}: "
                "remove the override"
            )


def _exit_with_error(message: str) -> None:
    print(f"palimpsest: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the one line that says why it does not start
    os._exit(1)


@signals.celeryd_init.connect
def _start_parent(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """In the parent, before anything else: settings, stages, schema, a name that nothing is known
    of yet."""
    logs.configure_logging()
    settings = load_settings()
    requested = options.get("queues") or settings.stages
    stages = (
        tuple(requested.split(",") if isinstance(requested, str) else requested)
        if requested
        else STAGES
    )
    name = settings.worker or f"{'-'.join(stages)}@{socket.gethostname()}-{os.getpid()}"
    try:
        check_settings(conf)
        if unknown := sorted(set(stages) - set(STAGES)):
            raise InvalidRequest(f"unknown stage {', '.join(unknown)}; known: {', '.join(STAGES)}")
        db = Database(settings.database_url)
        require_current_schema(db)
        worker_registry.require_one_host(db, socket.gethostname())
        # Names come back, and one that was killed while it left is still marked so. A SIGTERM that
        # comes from here on finds no row: it does not wait for the pool child (LeaveUnstarted), or
        # marks the row that the child has made.
        worker_registry.unregister_worker(db, name)
        worker_count = (
            settings.host_workers
            or worker_registry.count_live_on_host(db, socket.gethostname()) + 1
        )
        db.close()
    except PalimpsestError as error:
        _exit_with_error(str(error))
    # the pool child is a fresh interpreter: it learns the rest from the environment
    os.environ |= {
        "PALIMPSEST_WORKER": name,
        "PALIMPSEST_STAGES": ",".join(stages),
        "PALIMPSEST_THREADS": str(settings.threads or os.cpu_count() or 1),
        "PALIMPSEST_MEMORY_LIMIT_BYTES": str(
            settings.memory_limit_bytes or machine.compute_memory_share_bytes(worker_count)
        ),
        START_ERROR_VARIABLE: tempfile.mkstemp(prefix="palimpsest-worker-")[1],
    }


@signals.worker_process_init.connect
def _start_child(**_: Any) -> None:
    """In the pool child: torch, plugins, catalog, lease process."""
    global _runner  # noqa: PLW0603 - Celery gives a pool child no other place to keep something
    logs.configure_logging()
    try:
        _runner = _make_runner(Settings())
    except Exception as error:
        if not isinstance(error, PalimpsestError):
            log.exception("the pool child cannot start")
        # Celery would start child after child: end the whole worker instead, and let it say why
        Path(os.environ[START_ERROR_VARIABLE]).write_text(
            f"{error}" if isinstance(error, PalimpsestError) else repr(error)
        )
        os.kill(os.getppid(), signal.SIGTERM)
        raise


def _make_runner(settings: Settings) -> Runner:
    import torch

    from shared.artifacts import ArtifactStore
    from workers import catalog, lease, memory, runner

    assert settings.worker is not None
    assert settings.threads is not None
    assert settings.memory_limit_bytes is not None
    # without it cuBLAS adds in an order of its own; read when CUDA comes up
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(settings.threads)
    # use_deterministic_algorithms does the same and imports torch's compiler, 1.4 s, to tell it too
    torch.set_deterministic_debug_mode("warn")
    served_stages = tuple(settings.stages.split(","))
    description, db = catalog.describe_worker(), Database(settings.database_url)
    worker_registry.publish_catalog(db, description.catalog)
    registration: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getppid(),
        "stages": served_stages,
        "device": description.device,
        "threads": settings.threads,
        "versions": description.versions,
        "catalog": description.catalog.digest,
    }
    worker_registry.register_worker(db, settings.worker, **registration)
    memory.check_headroom(settings.memory_limit_bytes)
    # The sender has its own app: this module's belongs to the consumer.
    wakeup = queue.WakeupSender(
        queue.CeleryWakeup(queue.make_celery(settings.broker_url.get_secret_value()))
    )
    job_runner = runner.Runner(
        settings,
        db,
        ArtifactStore.from_url(settings.artifacts_url),
        description.catalog,
        wakeup,
        lease.LeaseProcess(settings.worker, registration, settings.lease_s),
        worker=settings.worker,
        served_stages=served_stages,
        machine=runner.MachineInfo(
            torch.__version__,
            description.device,
            settings.threads,
            torch.backends.cpu.get_cpu_capability(),
        ),
    )
    job_runner.devices.announce()
    # A child that replaces a dead one finds the dead one's job without waiting for the reconciler.
    wakeup.notify(served_stages)
    return job_runner


def _call_store(call: Callable[[Database, str], bool | None]) -> bool | None:
    """Tell SQL something about this worker, from a signal handler: in a thread, without waiting for
    long. What SQL answered; None when it did not."""
    settings = Settings()
    answers: list[bool | None] = []

    def call_and_log() -> None:
        try:
            answers.append(call(Database(settings.database_url), settings.worker or ""))
        except PalimpsestError as error:
            log.warning(
                "could not tell the job store that this worker is shutting down", error=str(error)
            )

    thread = threading.Thread(target=call_and_log, daemon=True)
    thread.start()
    thread.join(timeout=5)
    return answers[0] if answers else None


@signals.worker_shutting_down.connect
def _request_drain(**_: Any) -> None:
    """SIGTERM came: the running job checkpoints and goes back to its queue."""
    _call_store(worker_registry.request_drain)


class StopUnregisteredChild(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """A pool child that has not registered yet has no job: a worker that stops does not wait until
    it has torch.

    A step that needs the pool is stopped before it, when the pool does not replace a child any
    more.
    """

    requires = ("celery.worker.components:Pool",)

    def stop(self, _worker: Any) -> None:
        if _call_store(worker_registry.request_drain) is False:
            for child in active_children():
                child.terminate()


app.steps["worker"].add(StopUnregisteredChild)


@signals.worker_shutdown.connect
def _unregister(**_: Any) -> None:
    """The last thing the parent does; exit 1 if its pool child could not start."""
    _call_store(worker_registry.unregister_worker)
    path = Path(os.environ[START_ERROR_VARIABLE])
    start_error = path.read_text()
    path.unlink()
    if start_error:
        _exit_with_error(start_error)
