"""A collector on this machine that takes OTLP over HTTP and reads it with OpenTelemetry's own message types.

It owns one port and what came to it; a path or body that the protocol does not have is a violation.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

KINDS: dict[str, Any] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


class Collector:
    """What came, as plain values. `status`: what it answers instead of taking it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.violations: list[str] = []
        self.status = 200
        self.url = ""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """One request; None is a refusal."""
        self.headers.append(headers)
        if headers.get("content-type") != "application/x-protobuf" or path not in KINDS:
            self.violations.append(f"{path}: {headers.get('content-type')}")
            return None
        if self.status != 200:
            return None
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        taken, answered = KINDS[path]
        message = taken()
        message.ParseFromString(body)  # raises for what is none
        self.requests.append(message)
        made: bytes = answered().SerializeToString()
        return made

    @property
    def spans(self) -> list[Any]:
        """All spans, in the order of their beginning."""
        found = [
            span
            for request in self.requests
            for resource in getattr(request, "resource_spans", ())
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    @property
    def metrics(self) -> dict[str, Any]:
        """The last told metrics by name."""
        return {
            metric.name: metric
            for request in self.requests
            for resource in getattr(request, "resource_metrics", ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def services(self) -> set[str]:
        """Who sent it."""
        parts = [*self._resources("resource_spans"), *self._resources("resource_metrics")]
        return {str(attributes(part.resource.attributes)["service.name"]) for part in parts}

    def _resources(self, name: str) -> list[Any]:
        return [part for request in self.requests for part in getattr(request, name, ())]


def attributes(pairs: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on a free port."""
    one = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = one.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            status = one.status if answer is None and one.status != 200 else 200 if answer is not None else 404
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield one
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
