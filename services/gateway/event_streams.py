"""Streams of server-sent events.

A route responds with the beginning and leaves a `StreamContinuation` in the WSGI environ;
`bridge.py` continues the stream from there on the event loop. Under a server without that bridge
the stream ends after its beginning, and the client resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from flask import Response, request

from services.gateway.deps import StreamTiming, current_gateway, current_store
from services.gateway.stream_poller import StreamPoller, Subscription
from services.gateway.stream_slots import StreamSlot

MEDIA_TYPE = "text/event-stream"
RETRY_FIELD = b"retry: 2000\n\n"  # a client whose stream ended reconnects after 2 s
HEARTBEAT_COMMENT = b": nothing new\n\n"
STREAMING_KEY = "palimpsest.streams"  # in the WSGI environ: this server can continue a stream
CONTINUATION_KEY = "palimpsest.continuation"  # the `StreamContinuation` from which it continues


@dataclass(frozen=True)
class StreamContinuation:
    """From where a stream continues, in this slot."""

    subscription: Subscription
    slot: StreamSlot


def respond_stream(beginning: bytes, subscription: Subscription | None) -> Response:
    """The response with this beginning; `subscription` is what continues it, if anything does.

    Raises:
        QuotaReached: the tenant has as many streams as it may.
        TransientError: the process has as many as it may.
    """
    is_followed = request.method != "HEAD" and STREAMING_KEY in request.environ
    if subscription is not None and is_followed:
        gateway, tenant = current_gateway(), current_store().tenant
        slot = gateway.stream_slots.take(tenant, gateway.quotas.find(tenant).max_event_streams)
        request.environ[CONTINUATION_KEY] = StreamContinuation(subscription, slot)
    response = Response(iter([RETRY_FIELD + beginning]), content_type=MEDIA_TYPE)
    response.headers["X-Accel-Buffering"] = "no"
    response.headers["Cache-Control"] = "no-store"
    return response


async def continue_stream(
    poller: StreamPoller, subscription: Subscription, timing: StreamTiming
) -> AsyncGenerator[bytes, None]:
    """Yield what follows as it comes, until nothing can, the key is no longer valid, the stream's
    time is up or the server stops."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + timing.max_duration_s
    next_heartbeat = clock() + timing.heartbeat_s
    poller.subscribe(subscription)
    try:
        while not subscription.is_over and (now := clock()) < deadline:
            chunk = await subscription.read(min(next_heartbeat, deadline) - now)
            if chunk:
                yield chunk
            elif clock() >= next_heartbeat:
                yield HEARTBEAT_COMMENT
            else:
                continue
            next_heartbeat = clock() + timing.heartbeat_s
            if subscription.has_more:
                poller.poll_now()
    finally:
        poller.unsubscribe(subscription)
