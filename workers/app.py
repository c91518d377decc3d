"""Celery's entry: one task, `work(hint)`, the bell. `celery -A workers.app worker -Q attack` or `python -m workers`.

Two processes load this module. The parent (Celery's consumer) never imports torch. The pool child imports the
plugins once, publishes the catalog, registers the worker, starts its lease process, and runs jobs whenever a
bell comes. A plugin that does not import stops both, with its file's name.
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
from typing import Any

import structlog
from billiard import active_children
from celery import bootsteps, signals

from shared import logs, machine
from shared.config import Settings, load_settings
from shared.errors import Conflict, InvalidRequest, PalimpsestError
from shared.jobs import fleet, queue
from shared.jobs.database import Database
from shared.jobs.migrations import require_current
from shared.registry import list_entries, list_files

log = structlog.get_logger()

# A stage of an installed package is entered under its name.
STAGES = tuple(list_files([str(Path(__file__).parent / "stages")]) + list_entries("stages"))

try:
    app = queue.make_celery(load_settings().broker_url.get_secret_value(), STAGES)
except InvalidRequest as error:
    sys.exit(f"palimpsest: {error}")  # whoever starts a worker reads one sentence

_WHY_NOT = "PALIMPSEST_WORKER_WHY_NOT"  # names the file in which a pool child says why it cannot start
_child: Any = None  # the Runner of this pool child


@app.task(name=queue.TASK, ignore_result=True)
def work(_hint: str = "") -> None:
    """There is work. The hint names a job, and is only that: SQL says which one is next."""
    _child.work()


def check_settings(conf: Any) -> None:
    """Refuse to start when anything has changed the settings that the protocol stands on.

    Raises:
        Conflict: names the setting.
    """
    for name, wanted in queue.SETTINGS.items():
        if conf[name] != wanted:
            raise Conflict(
                f"Celery setting {name} is {conf[name]!r}, the protocol needs {wanted!r}: remove the override"
            )


def _stop(message: str) -> None:
    print(f"palimpsest: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the one line that says why it does not start
    os._exit(1)


@signals.celeryd_init.connect
def _start(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """In the parent, before anything else: settings, stages, schema, a name that nothing is known of yet."""
    logs.setup()
    settings = load_settings()
    asked = options.get("queues") or settings.stages
    serves = tuple(asked.split(",") if isinstance(asked, str) else asked) if asked else STAGES
    name = settings.worker or f"{'-'.join(serves)}@{socket.gethostname()}-{os.getpid()}"
    try:
        check_settings(conf)
        if unknown := sorted(set(serves) - set(STAGES)):
            raise InvalidRequest(f"there is no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
        db = Database(settings.database_url)
        require_current(db)
        fleet.require_one_host(db, socket.gethostname())
        # Names come back, and one that was killed while it left is still marked so. A SIGTERM that comes from here on
        # finds no row: it does not wait for the pool child (LeaveUnstarted), or marks the row that the child has made.
        fleet.gone(db, name)
        workers = settings.host_workers or fleet.live_on(db, socket.gethostname()) + 1
        db.close()
    except PalimpsestError as error:
        _stop(str(error))
    # the pool child is a fresh interpreter: it learns the rest from the environment
    os.environ |= {
        "PALIMPSEST_WORKER": name,
        "PALIMPSEST_STAGES": ",".join(serves),
        "PALIMPSEST_THREADS": str(settings.threads or os.cpu_count() or 1),
        "PALIMPSEST_MEMORY_LIMIT_BYTES": str(settings.memory_limit_bytes or machine.memory_share_bytes(workers)),
        _WHY_NOT: tempfile.mkstemp(prefix="palimpsest-worker-")[1],
    }


@signals.worker_process_init.connect
def _start_child(**_: Any) -> None:
    """In the pool child: torch, plugins, catalog, lease process."""
    global _child  # noqa: PLW0603 - Celery gives a pool child no other place to keep something
    logs.setup()
    try:
        _child = _make_runner(Settings())
    except Exception as error:
        if not isinstance(error, PalimpsestError):
            log.exception("the pool child cannot start")
        # Celery would start child after child: end the whole worker instead, and let it say why
        Path(os.environ[_WHY_NOT]).write_text(f"{error}" if isinstance(error, PalimpsestError) else repr(error))
        os.kill(os.getppid(), signal.SIGTERM)
        raise


def _make_runner(settings: Settings) -> Any:
    import torch

    from shared.artifacts import ArtifactStore
    from workers import catalog, lease, memory, runner

    assert settings.worker is not None
    assert settings.threads is not None
    assert settings.memory_limit_bytes is not None
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    serves = tuple(settings.stages.split(","))
    about, db = catalog.describe(), Database(settings.database_url)
    fleet.publish(db, about.catalog)
    known: dict[str, Any] = {
        "host": socket.gethostname(), "pid": os.getppid(), "stages": serves, "device": about.device,
        "threads": settings.threads, "versions": about.versions, "catalog": about.catalog.digest,
    }  # fmt: skip
    fleet.register(db, settings.worker, **known)
    memory.require_room(settings.memory_limit_bytes)
    # A ringer's own app: this module's belongs to the consumer.
    ringer = queue.Ringer(queue.CeleryBell(queue.make_celery(settings.broker_url.get_secret_value())))
    made = runner.Runner(
        settings, db, ArtifactStore.from_url(settings.artifacts_url), about.catalog, ringer,
        lease.LeaseProcess(settings.worker, known, settings.lease), worker=settings.worker, serves=serves,
        machine=runner.Machine(
            torch.__version__, about.device, settings.threads, torch.backends.cpu.get_cpu_capability()
        ),
    )  # fmt: skip
    # A child that replaces a dead one finds the dead one's job without waiting for the reconciler.
    ringer.ring(serves)
    return made


def _tell(what: Callable[[Database, str], bool | None]) -> bool | None:
    """Tell SQL something about this worker, from a signal handler: in a thread, without waiting for long. What SQL
    answered; None when it did not."""
    settings = Settings()
    answers: list[bool | None] = []

    def tell() -> None:
        try:
            answers.append(what(Database(settings.database_url), settings.worker or ""))
        except PalimpsestError as error:
            log.warning("the job store was not told that this worker leaves", error=str(error))

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    thread.join(timeout=5)
    return answers[0] if answers else None


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """SIGTERM came: the running job checkpoints and goes back to its queue."""
    _tell(fleet.drain)


class LeaveUnstarted(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """A pool child that has not registered yet has no job: a worker that stops does not wait until it has torch.

    A step that needs the pool is stopped before it, when the pool does not replace a child any more.
    """

    requires = ("celery.worker.components:Pool",)

    def stop(self, _worker: Any) -> None:
        if _tell(fleet.drain) is False:
            for child in active_children():
                child.terminate()


app.steps["worker"].add(LeaveUnstarted)


@signals.worker_shutdown.connect
def _leave(**_: Any) -> None:
    """The last thing the parent does; exit 1 if its pool child could not start."""
    _tell(fleet.gone)
    path = Path(os.environ[_WHY_NOT])
    why = path.read_text()
    path.unlink()
    if why:
        _stop(why)
