"""Telemetry by OpenTelemetry's SDK: spans and metrics by OTLP over HTTP, metrics as Prometheus' text."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from engine.core.run.tracing import Traceparent, read_traceparent
from engine.obs.metrics import INSTRUMENTS
from engine.obs.telemetry import Kind, Observed, Service, Span, SpanData, Telemetry, current_traceparent, inside

SCOPE = "everstep"
QUEUED_SPANS = 50_000
"""A map over a thousand items ends thousands of steps at once; the SDK's own 2,048 would drop most of them."""
SEND_EVERY_MS = 1_000
"""A process that is killed loses what it has not sent: one second instead of the SDK's five."""
CLOSE_S = 5.0
MESSAGE_CHARS = 1_000

_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}


class SdkSpan(Span):
    """A span of the SDK."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = str(
            Traceparent(
                trace.format_trace_id(context.trace_id),
                trace.format_span_id(context.span_id),
                context.trace_flags.sampled,
            )
        )

    def name(self, name: str) -> None:
        """See `Span.name`."""
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """See `Span.set`."""
        self._span.set_attributes({key: value for key, value in attributes.items() if value is not None})

    def fail(self, code: str, message: str) -> None:
        """See `Span.fail`."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR, message[:MESSAGE_CHARS]))

    def end(self) -> None:
        """See `Span.end`."""
        if self._span.is_recording():
            self._span.end()


class SdkTelemetry(Telemetry):
    """See `Telemetry`.

    Args:
        role: What the process is.
        traces: Whether spans are sent.
        metrics: Whether metrics are sent.
        content: Whether spans may carry content.
        scraped: Whether metrics can be read as text.
    """

    def __init__(self, role: Service, *, traces: bool, metrics: bool, content: bool, scraped: bool) -> None:
        from engine import __version__

        named = os.environ.get("OTEL_SERVICE_NAME", "").strip() or f"everstep-{role}"
        self._resource = Resource.create({SERVICE_NAME: named, SERVICE_VERSION: __version__})
        self._scope = InstrumentationScope(SCOPE, __version__)
        self.traces, self.metrics, self.sends_metrics, self.content = traces, metrics or scraped, metrics, content
        self._spans: BatchSpanProcessor | None = None
        self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        if traces:
            self._spans = BatchSpanProcessor(
                OTLPSpanExporter(),
                max_queue_size=_number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUED_SPANS),
                schedule_delay_millis=_number("OTEL_BSP_SCHEDULE_DELAY", SEND_EVERY_MS),
            )
            self._provider.add_span_processor(self._spans)
        self._tracer = self._provider.get_tracer(SCOPE, __version__)
        self._registry: CollectorRegistry | None = None
        readers: list[MetricReader] = []
        if metrics:
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        if scraped:
            self._registry = CollectorRegistry()
            readers.append(PrometheusMetricReader(registry=self._registry))
        self._meters = MeterProvider(readers, self._resource, shutdown_on_exit=False)
        self._meter = self._meters.get_meter(SCOPE, __version__)
        self._instruments: dict[str, Counter | Histogram] = {}
        for name, instrument in INSTRUMENTS.items():
            if instrument.kind == "counter":
                self._instruments[name] = self._meter.create_counter(name, instrument.unit, instrument.says)  # type: ignore[assignment]
            elif instrument.kind == "histogram":
                self._instruments[name] = self._meter.create_histogram(  # type: ignore[assignment]
                    name, instrument.unit, instrument.says, explicit_bucket_boundaries_advisory=instrument.bounds
                )

    def adopt_tools(self) -> None:
        """See `Telemetry.adopt_tools`."""
        if self.traces:
            trace.set_tracer_provider(self._provider)

    # --- traces ------------------------------------------------------------------------------------------------

    @contextmanager
    def span(
        self, name: str, *, parent: str = "", kind: Kind = "internal", attributes: Mapping[str, Any] | None = None
    ) -> Iterator[Span]:
        """See `Telemetry.span`."""
        remote = read_traceparent(parent)
        # only a request may start a trace: work of an execution that has none would start one for each call
        is_rootless = remote is None and kind != "server" and not current_traceparent()
        if not self.traces or is_rootless:
            yield Span()
            return
        context = None if remote is None else trace.set_span_in_context(NonRecordingSpan(_context_of(remote)))
        given = {key: value for key, value in (attributes or {}).items() if value is not None}
        started = self._tracer.start_span(name, context, _KINDS[kind], given)
        span = SdkSpan(started)
        try:
            current = trace.use_span(started, record_exception=False, set_status_on_exception=False)
            with current, inside(span.traceparent):
                yield span
        except BaseException as error:
            _tell_error(span, error)
            raise
        finally:
            span.end()

    def emit(self, spans: Iterable[SpanData]) -> None:
        """See `Telemetry.emit`."""
        if self._spans is not None:
            for span in spans:
                self._spans.on_end(self._readable(span))

    def _readable(self, span: SpanData) -> ReadableSpan:
        flags = TraceFlags(TraceFlags.SAMPLED)
        trace_id = int(span.trace_id, 16)
        parent = SpanContext(trace_id, int(span.parent_id, 16), True, flags) if span.parent_id else None
        attributes = {key: value for key, value in span.attributes.items() if value is not None}
        status = Status(StatusCode.UNSET)
        if span.error is not None:
            attributes["error.type"] = span.error[0]
            status = Status(StatusCode.ERROR, span.error[1][:MESSAGE_CHARS])
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, flags),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=[Event(event.name, dict(event.attributes), event.at_us * 1_000) for event in span.events],
            status=status,
            start_time=span.start_us * 1_000,
            end_time=span.end_us * 1_000,
            instrumentation_scope=self._scope,
        )

    # --- metrics -----------------------------------------------------------------------------------------------

    def count(self, name: str, amount: int = 1, attributes: Mapping[str, str] | None = None) -> None:
        """See `Telemetry.count`."""
        counter = self._instruments[name]
        assert isinstance(counter, Counter)
        counter.add(amount, dict(attributes or {}))

    def record(self, name: str, value: float, attributes: Mapping[str, str | int] | None = None) -> None:
        """See `Telemetry.record`."""
        histogram = self._instruments[name]
        assert isinstance(histogram, Histogram)
        histogram.record(value, dict(attributes or {}))

    def observe(self, name: str, read: Callable[[], Observed]) -> None:
        """See `Telemetry.observe`."""

        def callback(options: CallbackOptions) -> Iterable[Observation]:
            del options
            return [Observation(value, dict(attributes)) for value, attributes in read()]

        instrument = INSTRUMENTS[name]
        self._meter.create_observable_gauge(name, [callback], instrument.unit, instrument.says)

    def scrape(self) -> tuple[bytes, str] | None:
        """See `Telemetry.scrape`."""
        if self._registry is None:
            return None
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def serve(self, host: str, port: int) -> None:
        """See `Telemetry.serve`."""
        if self._registry is not None:
            start_http_server(port, host, self._registry)

    def close(self) -> None:
        """See `Telemetry.close`."""
        # a collector that does not answer must not keep the process: its exporter would try for half a minute
        thread = threading.Thread(target=self._shut_down, name="everstep-telemetry", daemon=True)
        thread.start()
        thread.join(CLOSE_S)

    def _shut_down(self) -> None:
        self._provider.shutdown()
        self._meters.shutdown(timeout_millis=CLOSE_S * 1_000)


def _context_of(place: Traceparent) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), True, flags)


def _tell_error(span: Span, error: BaseException) -> None:
    code = getattr(error, "code", None) or getattr(error, "type", None)
    if isinstance(error, Exception):
        span.fail(code if isinstance(code, str) else type(error).__name__, str(error))
    else:
        # a cancel is no failure of what was cancelled
        span.set({"everstep.outcome": "cancelled"})


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    return int(text) if text.isdigit() and int(text) > 0 else default
