"""Wake-ups: Celery messages on a stage's queue that say "look for jobs". The reconciler re-sends
lost ones, duplicates are harmless, and jobs are accepted even when Redis is down."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Protocol

import redis
import structlog
from celery import Celery
from kombu.entity import Queue

from shared.jobs.broker import TASK_NAME

__all__ = [
    "CELERY_SETTINGS",
    "TASK_NAME",
    "CeleryWakeup",
    "InMemoryWakeup",
    "WakeupQueue",
    "WakeupSender",
    "make_celery",
]

log = structlog.get_logger()

CELERY_SETTINGS: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    # early acknowledgement: SQL has the job, so a lost message costs at most one round of the
    # reconciler
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_publish_retry": False,
    "worker_concurrency": 1,
    "worker_pool": "prefork",
    # no fork after CUDA was touched
    "worker_pool_start_method": "spawn",
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # importing torch can take minutes on a busy machine; a child killed meanwhile would start over
    "worker_proc_alive_timeout": 1200,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
    # remote control has no authentication: workers are observed and drained through SQL
    "worker_enable_remote_control": False,
    "broker_connection_retry_on_startup": True,
    # a Redis that is temporarily a replica, or full, responds with errors: treat it as unavailable
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
    """The Celery app of senders (which need no `stages`) and of workers."""
    app = Celery("palimpsest", broker=broker_url)
    app.conf.update(CELERY_SETTINGS)
    app.conf.task_queues = [Queue(stage) for stage in stages]
    return app


class WakeupQueue(Protocol):
    """Wakes the workers of a stage. May fail: no caller depends on it."""

    def notify(self, stage: str, job_id: str = "") -> None: ...

    def publish(self, stage: str, job_id: str = "") -> None: ...


class InMemoryWakeup:
    """Records the stages it was called for. For tests without Redis."""

    def __init__(self) -> None:
        self.notified_stages: list[str] = []

    def notify(self, stage: str, job_id: str = "") -> None:  # noqa: ARG002 - the signature of a WakeupQueue
        self.notified_stages.append(stage)

    publish = notify


class CeleryWakeup:
    """Publishes messages: never one per job.

    Raises the errors of kombu or redis when the broker is unavailable.
    """

    MAX_PENDING = 64  # messages per queue, whoever has jobs; the reconciler counts workers

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._redis = redis.Redis.from_url(
            app.conf.broker_url, socket_timeout=5, socket_connect_timeout=5
        )

    def depth(self, stage: str) -> int:
        """Number of pending messages."""
        return int(self._redis.llen(stage))

    def notify(self, stage: str, job_id: str = "") -> None:
        """Publish one message, unless enough are pending already."""
        if self.depth(stage) < self.MAX_PENDING:
            self.publish(stage, job_id)

    def publish(self, stage: str, job_id: str = "") -> None:
        """Publish one message, with a job id as a hint; for who knows how many are needed."""
        # A queue object, not a name: senders do not know the stages in advance.
        self._app.send_task(TASK_NAME, args=[job_id], queue=Queue(stage), ignore_result=True)


class WakeupSender:
    """Sends from its own thread, so that no request and no job waits for Redis.

    A pending stage is not added twice. A failed message is dropped: the reconciler sends another
    within seconds.
    """

    def __init__(self, queue: WakeupQueue) -> None:
        self._queue = queue
        self._pending_stages: dict[str, None] = {}  # an ordered set
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(
            target=self._send_pending, name="wakeup-sender", daemon=True
        )
        self._thread.start()

    def notify(self, stages: Iterable[str]) -> None:
        """Wake these stages soon. Never blocks on the broker, never raises."""
        with self._condition:
            self._pending_stages |= dict.fromkeys(stages)
            self._condition.notify()

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what is still pending, for at most `timeout_s` seconds, then stop."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join(timeout=timeout_s)

    def _send_pending(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending_stages or self._closed)
                if not self._pending_stages:
                    return
                stage = next(iter(self._pending_stages))
                del self._pending_stages[stage]
            try:
                self._queue.notify(stage)
            except Exception as error:
                log.warning(
                    "wake-up not sent; the reconciler will send it", stage=stage, error=str(error)
                )
