"""A message taken from a stage's queue can only be a wake-up.

Anyone with access to Redis can push anything onto its lists. Celery trusts what a message says
(time limits, ETA, callbacks), and a malformed message crashes a worker. So the transport rebuilds
every message before Celery sees it: one that names our task is passed on with our own headers;
anything else is dropped and logged.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.redis import Channel, QoS, SentinelChannel, SentinelTransport, Transport

log = structlog.get_logger()

TASK_NAME = "workers.app.work"

# what a malformed message may raise
_MALFORMED_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
_MAX_HINT_CHARS = 64  # characters, at most


def sanitize_message(item: bytes, queue: str) -> bytes | None:
    """`item` rebuilt as a plain wake-up, without options that Celery would act on; None if it is
    not one."""
    try:
        message = json.loads(item)
        if message["headers"]["task"] != TASK_NAME:
            log.warning(
                "dropped a message for another task",
                queue=queue,
                task=str(message["headers"]["task"])[:80],
            )
            return None
        hint = json.loads(base64.b64decode(message["body"]))[0][0]
    except _MALFORMED_ERRORS as error:
        log.warning(
            "dropped a malformed message",
            queue=queue,
            begin=repr(item[:80]),
            error=type(error).__name__,
        )
        return None
    return _build_message(hint if isinstance(hint, str) else "", queue)


def _build_message(hint: str, queue: str) -> bytes:
    message_id = str(uuid.uuid4())
    no_callbacks = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[hint[:_MAX_HINT_CHARS]], {}, no_callbacks]).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "task": TASK_NAME,
            "id": message_id,
            "root_id": message_id,
            "lang": "py",
            "ignore_result": True,
        },
        "properties": {
            "delivery_tag": message_id,
            "correlation_id": message_id,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
            "priority": 0,
        },
    }
    return json.dumps(message).encode()


class _WakeupClient(redis.Redis):
    """The Redis client of a worker's consumer."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        reply: Any = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply:
            return reply
        queue, item = reply
        message = sanitize_message(item, queue.decode())
        return None if message is None else (queue, message)  # None: as if nothing had arrived


class _WakeupQoS(QoS):
    def ack(self, delivery_tag: str) -> None:
        """One message may be unacknowledged at a time. If Redis dies before the acknowledgement,
        drop the message here, or the worker would never receive another; Redis redelivers it, which
        is harmless."""
        try:
            super().ack(delivery_tag)
        except (redis.RedisError, OSError) as error:
            log.warning("a wake-up was not acknowledged; it will be redelivered", error=str(error))
            virtual.QoS.ack(self, delivery_tag)


class _WakeupChannel(Channel):
    QoS = _WakeupQoS

    def _get_client(self) -> Any:
        super()._get_client()  # it checks versions
        return _WakeupClient


class WakeupTransport(Transport):
    """redis:// and rediss://"""

    Channel = _WakeupChannel


class _SentinelWakeupChannel(SentinelChannel):
    QoS = _WakeupQoS

    def _get_client(self) -> Any:
        super()._get_client()
        return _WakeupClient


class SentinelWakeupTransport(SentinelTransport):
    """sentinel://"""

    Channel = _SentinelWakeupChannel


# By URL scheme, which selects TLS and fail-over as usual.
TRANSPORT_ALIASES.update(
    redis=f"{__name__}:WakeupTransport",
    rediss=f"{__name__}:WakeupTransport",
    sentinel=f"{__name__}:SentinelWakeupTransport",
)
