"""Bells: a Celery message on a stage's queue that says "there is work". Lost ones are rung again by the
reconciler, doubled ones do no harm, and none is needed to accept a job."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Protocol

import redis
import structlog
from celery import Celery
from kombu.entity import Queue

from shared.jobs.broker import TASK

__all__ = ["SETTINGS", "TASK", "Bell", "CeleryBell", "MemoryBell", "Ringer", "make_celery"]

log = structlog.get_logger()

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
    # importing torch takes minutes on a machine that is busy enough, and a child killed for it would start over
    "worker_proc_alive_timeout": 1200,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
    # nobody is asked who may command: workers are seen and told through SQL
    "worker_enable_remote_control": False,
    "broker_connection_retry_on_startup": True,
    # a Redis that is a replica for a while, or full, answers with errors; it counts as away
    "broker_channel_error_retry": True,
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

    def ring(self, stage: str, job: str = "") -> None:  # noqa: ARG002 - the signature of a Bell
        self.rung.append(stage)


class CeleryBell:
    """Publishes one message, unless enough of them lie there already: never one message a job.

    Raises kombu's or redis' errors when the broker is away.
    """

    ENOUGH = 64  # bells on one queue; more would wake nobody sooner

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._server = redis.Redis.from_url(app.conf.broker_url, socket_timeout=5, socket_connect_timeout=5)

    def lying(self, stage: str) -> int:
        """How many bells nobody has heard yet."""
        return int(self._server.llen(stage))

    def ring(self, stage: str, job: str = "") -> None:
        """One more bell, with a job id as a hint."""
        if self.lying(stage) < self.ENOUGH:
            # A queue object, not a name: a ringer need not know the stages when it starts.
            self._app.send_task(TASK, args=[job], queue=Queue(stage), ignore_result=True)


class Ringer:
    """Rings from a thread of its own, so that no request and no job waits for Redis.

    A stage that is to be rung already is not noted twice. A bell that fails is dropped: the reconciler rings
    again within seconds.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._todo: dict[str, None] = {}  # a set that keeps its order
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)
        self._thread.start()

    def ring(self, stages: Iterable[str]) -> None:
        """Ring these stages soon. Never waits for the broker, never raises."""
        with self._changed:
            self._todo |= dict.fromkeys(stages)
            self._changed.notify()

    def close(self, patience: float = 10.0) -> None:
        """Ring what is still to be rung, for at most `patience` seconds, then end."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(timeout=patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._todo or self._ended)
                if not self._todo:
                    return
                stage = next(iter(self._todo))
                del self._todo[stage]
            try:
                self._bell.ring(stage)
            except Exception as error:
                log.warning("bell not rung; the reconciler will", stage=stage, error=str(error))
