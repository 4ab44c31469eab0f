"""The way from our spans to a collector: providers made as the settings and the environment's OTEL_* variables say.

It owns when telemetry is on and the threads that send it; it refuses to know what is sent. A collector that is down disturbs
nobody: what it does not take is dropped, and told once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio.to_thread

from patter.observe.series import Number
from patter.observe.telemetry import TelemetryReader
from patter.settings import Telemetry

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

log = logging.getLogger(__name__)

FLUSH_S = 2.0  # what was not taken by then is dropped: the process wants to end
PACKAGE = 'pip install "patter[telemetry]"'
SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
CHATTY = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
)


@dataclass(slots=True)
class Telling:
    """A reader that is ready for the bus, and what has to be done when no more facts come: flush, and give up on it."""

    reader: TelemetryReader
    _flush: tuple[Callable[[], Any], ...] = ()
    _give_up: tuple[Callable[[], Any], ...] = ()

    async def aclose(self) -> None:
        """Send what is left, for at most `FLUSH_S`."""
        self.reader.close()
        await anyio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        threads = [threading.Thread(target=flush, name="telemetry's end", daemon=True) for flush in self._flush]
        until = time.monotonic() + FLUSH_S
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            for give_up in self._give_up:
                give_up()


def open_telemetry(
    settings: Telemetry, numbers: Iterable[Number] = (), environment: Mapping[str, str] = os.environ
) -> Telling | None:
    """What the settings and the environment ask for; None when they ask for nothing (blocking: imports much).

    A program that has set OpenTelemetry's global provider itself gets the spans there, and sends them itself."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if (own := _own_providers()) is not None:
        return Telling(TelemetryReader(*own, numbers, texts=settings.texts))
    if not settings.endpoint and not any(environment.get(name) for name in SWITCHES):
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        log.warning("telemetry is asked for, but not installed", extra={"fix": PACKAGE})
        return None
    made = _providers(settings.endpoint.rstrip("/"), environment)
    reader = TelemetryReader(made.tracers, made.meters, numbers, texts=settings.texts)
    return Telling(reader, (made.tracers.shutdown, made.meters.shutdown), tuple(one.shutdown for one in made.exporters))


def _own_providers() -> tuple[TracerProvider, MeterProvider] | None:
    """The providers that this program has set itself, if it has set one for spans."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or isinstance(tracers := api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    from opentelemetry.metrics import get_meter_provider  # it is loaded already

    return tracers, get_meter_provider()


class _Made(NamedTuple):
    """Providers of our own, and their exporters."""

    tracers: Any
    meters: Any
    exporters: list[Any]


def _providers(endpoint: str, environment: Mapping[str, str]) -> _Made:
    """Providers of our own, which send to this address (or where the environment says)."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    quiet, exporters = _Quiet(), []
    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "patter"}))
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "none":
        exporters.append(_span_exporter(endpoint, quiet))
        tracers.add_span_processor(_span_processor(exporters[-1], quiet))
    readers = []
    if environment.get("OTEL_METRICS_EXPORTER", "otlp") != "none":
        exporters.append(_metric_exporter(endpoint, quiet))
        readers.append(PeriodicExportingMetricReader(exporters[-1]))
    return _Made(tracers, MeterProvider(readers, resource, shutdown_on_exit=False), exporters)


def _span_exporter(endpoint: str, quiet: _Quiet) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class Exporter(OTLPSpanExporter):
        """As its parent, but a collector that is down is told once."""

        def export(self, spans: Any) -> SpanExportResult:
            with quiet.hushed():
                result = super().export(spans)
            quiet.told("spans", result is SpanExportResult.SUCCESS)
            return result

        def shutdown(self) -> None:
            with quiet.hushed():  # it may be the second time
                super().shutdown()  # type: ignore[no-untyped-call]

    return Exporter(endpoint=f"{endpoint}/v1/traces" if endpoint else None)


def _span_processor(exporter: Any, quiet: _Quiet) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class Processor(BatchSpanProcessor):
        """As its parent, but a full queue is no news."""

        def on_end(self, span: Any) -> None:
            with quiet.hushed():
                super().on_end(span)

    return Processor(exporter)


def _metric_exporter(endpoint: str, quiet: _Quiet) -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricExportResult

    class Exporter(OTLPMetricExporter):
        """As its parent, but a collector that is down is told once."""

        def export(self, *arguments: Any, **named: Any) -> MetricExportResult:
            with quiet.hushed():
                result = super().export(*arguments, **named)
            quiet.told("metrics", result is MetricExportResult.SUCCESS)
            return result

        def shutdown(self, *arguments: Any, **named: Any) -> None:
            with quiet.hushed():
                super().shutdown(*arguments, **named)

    return Exporter(endpoint=f"{endpoint}/v1/metrics" if endpoint else None)


class _Quiet:
    """Keeps the exporters' own loggers silent while we are exporting, and tells what there is to tell, once."""

    def __init__(self) -> None:
        self._down: set[str] = set()
        for name in CHATTY:
            logging.getLogger(name).addFilter(_passes)

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Nothing that this thread makes them log is logged."""
        _here.hushed = True
        try:
            yield
        finally:
            _here.hushed = False

    def told(self, what: str, taken: bool) -> None:
        """Whether the collector took something of this kind."""
        if taken and what in self._down:
            self._down.discard(what)
            log.info("the telemetry collector is back", extra={"kind": what})
        elif not taken and what not in self._down:
            self._down.add(what)
            log.warning("the telemetry collector takes nothing, calls go on without it", extra={"kind": what})


_here = threading.local()


def _passes(_: logging.LogRecord) -> bool:
    return not getattr(_here, "hushed", False)
