"""What is taken from a stage's queue is a bell and nothing else.

Whoever reaches Redis can put anything on its lists. Celery obeys what stands in a message (time limits, when to run,
what to run after), and what is no message at all ends a worker. So the transport rebuilds every message before
Celery sees it: one that names the task rings, with headers of our own; anything else is dropped and logged.
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

TASK = "workers.app.work"

_BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)  # what is no message may raise
_HINT = 64  # characters, at most


def clean(item: bytes, queue: str) -> bytes | None:
    """The bell that lies in `item`, without anything that Celery would obey; None if there is none."""
    try:
        message = json.loads(item)
        if message["headers"]["task"] != TASK:
            log.warning(
                "a message for another task was dropped", queue=queue, task=str(message["headers"]["task"])[:80]
            )
            return None
        hint = json.loads(base64.b64decode(message["body"]))[0][0]
    except _BROKEN as error:
        log.warning("what is no bell was dropped", queue=queue, begin=repr(item[:80]), error=type(error).__name__)
        return None
    return _bell(hint if isinstance(hint, str) else "", queue)


def _bell(hint: str, queue: str) -> bytes:
    number = str(uuid.uuid4())
    nothing_after = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[hint[:_HINT]], {}, nothing_after]).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": TASK, "id": number, "root_id": number, "lang": "py", "ignore_result": True},
        "properties": {
            "delivery_tag": number,
            "correlation_id": number,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
            "priority": 0,
        },
    }
    return json.dumps(message).encode()


class _Client(redis.Redis):
    """What a worker listens with."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        answer: Any = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not answer:
            return answer
        queue, item = answer
        bell = clean(item, queue.decode())
        return None if bell is None else (queue, bell)  # None: as if nothing had come


class _BellQoS(QoS):
    def ack(self, delivery_tag: str) -> None:
        """One bell may be out at a time. One that cannot be acknowledged, for Redis has just died, must not be it for
        ever: the worker would hear no other. It is forgotten here, and comes back to ring in vain."""
        try:
            super().ack(delivery_tag)
        except (redis.RedisError, OSError) as error:
            log.warning("a bell was not acknowledged; it will come back", error=str(error))
            virtual.QoS.ack(self, delivery_tag)


class _BellChannel(Channel):
    QoS = _BellQoS

    def _get_client(self) -> Any:
        super()._get_client()  # it checks versions
        return _Client


class BellTransport(Transport):
    """redis:// and rediss://"""

    Channel = _BellChannel


class _SentinelBellChannel(SentinelChannel):
    QoS = _BellQoS

    def _get_client(self) -> Any:
        super()._get_client()
        return _Client


class SentinelBellTransport(SentinelTransport):
    """sentinel://"""

    Channel = _SentinelBellChannel


# By the scheme of the URL: it decides about TLS and fail-over as before.
TRANSPORT_ALIASES.update(
    redis=f"{__name__}:BellTransport",
    rediss=f"{__name__}:BellTransport",
    sentinel=f"{__name__}:SentinelBellTransport",
)
