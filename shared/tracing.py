"""Traces for OpenTelemetry, if the operator asks for them: one trace per audit, or per job that was
posted by hand. It begins with the submission; waits and attempts of all processes are parts of it.

Nothing has to be handed from process to process: the ids of a trace and of its first span follow
from the id of the audit or job, which everyone knows. The variables are OpenTelemetry's own
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`, ...); without an
endpoint, or without the packages of the extra `otel`, nothing is recorded. A collector that is away
costs spans and nothing else; so does a process that is killed, of its last seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import structlog

from shared import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

log = structlog.get_logger()

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
Attributes = Mapping[str, str | int | float | bool]


def record_span(
    name: str,
    subject: str,
    started_at: float,
    ended_at: float,
    attributes: Attributes,
    *,
    is_first: bool = False,
    error: str | None = None,
) -> None:
    """Record a span that has ended, if there is somewhere to send it. It is sent in the background.

    Args:
        subject: the audit or job whose trace it belongs to.
        started_at, ended_at: seconds since 1970.
        is_first: it is the submission, to which all others belong.
        error: why it failed; None if it did not.
    """
    processor = _find_processor()
    if processor is None:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    trace_id, first_id = derive_ids(subject)
    flags = TraceFlags(TraceFlags.SAMPLED)
    first = SpanContext(trace_id, first_id, is_remote=not is_first, trace_flags=flags)
    own_id = int.from_bytes(os.urandom(8)) or 1
    processor.on_end(
        ReadableSpan(
            name,
            context=first if is_first else SpanContext(trace_id, own_id, False, flags),
            parent=None if is_first else first,
            resource=Resource.create({"service.name": "palimpsest", "service.version": VERSION}),
            attributes={f"palimpsest.{key}": value for key, value in attributes.items()},
            status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error),
            start_time=round(started_at * 1e9),
            end_time=round(max(started_at, ended_at) * 1e9),
        )
    )


def derive_ids(subject: str) -> tuple[int, int]:
    """The ids of the trace of an audit or job, and of its first span."""
    digest = hashlib.sha256(f"palimpsest trace of {subject}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


@cache
def _find_processor() -> SpanProcessor | None:
    if not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        log.warning(
            "no traces are recorded: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not "
            "installed; install the extra `otel`"
        )
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter())
