"""A collector of OpenTelemetry traces, as an operator would have one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived; `parent` is empty for the first of its trace."""

    name: str
    trace: str
    id: str
    parent: str
    seconds: float
    attributes: dict[str, Any]
    is_error: bool


@dataclass
class TraceCollector:
    """What has arrived, and where to send more."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)

    def list_names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def add(self, body: bytes) -> None:
        """Read one request of the OTLP protocol."""
        request = ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            for of_scope in of_resource.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        {
                            one.key: getattr(one.value, str(one.value.WhichOneof("value")))
                            for one in span.attributes
                        },
                        span.status.code == 2,
                    )
                    for span in of_scope.spans
                ]


@contextlib.contextmanager
def run_collector() -> Iterator[TraceCollector]:
    """A collector that listens as long as the context lasts."""
    collector = TraceCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
