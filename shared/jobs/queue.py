"""Bells: a Celery message on a stage's queue that says "there is work". Lost ones are rung again by the
reconciler, doubled ones do no harm, and none is needed to accept a job."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from typing import Any, Protocol

import structlog
from celery import Celery
from kombu.entity import Queue

log = structlog.get_logger()

TASK = "workers.app.work"

SETTINGS: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    # early acknowledgement: SQL has the job, a lost message costs one look of the reconciler
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_publish_retry": False,
    "worker_concurrency": 1,
    "worker_pool": "prefork",
    # no fork after CUDA was touched
    "worker_pool_start_method": "spawn",
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # importing torch takes seconds on a busy machine
    "worker_proc_alive_timeout": 120,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_pool_acquire_timeout": 5,
    "broker_transport_options": {
        "visibility_timeout": 600,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "priority_steps": [0],
    },
}


def make_celery(broker_url: str, stages: Iterable[str] = ()) -> Celery:
    """The Celery app, for those who ring (`stages` not needed) and those who listen."""
    app = Celery("palimpsest", broker=broker_url)
    app.conf.update(SETTINGS)
    app.conf.task_queues = [Queue(stage) for stage in stages]
    return app


class Bell(Protocol):
    """Says that a stage has work. May fail: whoever calls it does not depend on it."""

    def ring(self, stage: str, job: str = "") -> None: ...


class MemoryBell:
    """Remembers what was rung. For tests without Redis."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, stage: str, job: str = "") -> None:  # noqa: ARG002 - a Bell
        self.rung.append(stage)


class CeleryBell:
    """Publishes one message. Raises kombu's or redis' errors when the broker is away."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, stage: str, job: str = "") -> None:
        # A queue object, not a name: a ringer need not know the stages when it starts.
        self._app.send_task(TASK, args=[job], queue=Queue(stage), ignore_result=True)


class Ringer:
    """Rings from a thread of its own, so that no request and no job waits for Redis.

    A bell that fails is dropped: the reconciler rings again within seconds.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._todo: queue.Queue[str | None] = queue.Queue(maxsize=1000)
        self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)
        self._thread.start()

    def ring(self, stages: Iterable[str]) -> None:
        """Ring these stages soon. Never blocks, never raises."""
        for stage in stages:
            try:
                self._todo.put_nowait(stage)
            except queue.Full:
                return

    def close(self) -> None:
        """Ring what is still to be rung, then end."""
        self._todo.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (stage := self._todo.get()) is not None:
            try:
                self._bell.ring(stage)
            except Exception as error:
                log.warning("bell not rung; the reconciler will", stage=stage, error=str(error))
