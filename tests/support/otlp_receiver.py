"""A real OTLP/HTTP receiver for tests: takes spans and metrics as protobuf and shows them as plain values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.patience import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Received:
    """One span as it came.

    Attributes:
        service: Name of the service that sent it.
        name: Its name.
        kind: internal, server or client.
        trace_id: Hexadecimal digits.
        span_id: Hexadecimal digits.
        parent_id: Hexadecimal digits; empty = none.
        start_ns: When it began.
        end_ns: When it ended.
        attributes: Its attributes.
        events: Names and attributes of what happened inside it.
        error: Text of its error status; None = no error.
    """

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    error: str | None


class OtlpReceiver:
    """ASGI app that takes `POST /v1/traces` and `POST /v1/metrics`.

    Attributes:
        spans: All spans in order of arrival.
        metrics: Names of all metrics that came, with the sum or count of their latest values.
        bodies: Raw bodies, to look for what must not be in them.
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.metrics: dict[str, float] = {}
        self.bodies: list[bytes] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        assert scope["type"] == "http"
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        if scope["path"] == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        elif scope["path"] == "/v1/metrics":
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
        known = scope["path"] in ("/v1/traces", "/v1/metrics")
        headers = [(b"content-type", b"application/x-protobuf")]
        await send({"type": "http.response.start", "status": 200 if known else 404, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = str(_values(resource.resource.attributes).get("service.name"))
            for scope in resource.scope_spans:
                self.spans += [_received(service, span) for span in scope.spans]

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    points = getattr(metric, str(kind)).data_points
                    counts = [point.count if kind == "histogram" else point.as_int for point in points]
                    self.metrics[metric.name] = float(sum(counts))

    async def until(self, wanted: Callable[[list[Received]], bool]) -> list[Received]:
        """Wait until the spans are as wanted and return them.

        Raises:
            AssertionError: They did not become so; with the names of all that came.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(self.spans):
            if time.monotonic() > deadline:
                raise AssertionError(f"of {len(self.spans)} spans: {sorted({span.name for span in self.spans})}")
            await asyncio.sleep(0.05)
        return self.spans


@dataclass(frozen=True, slots=True)
class Tree:
    """The spans of one trace; those that came twice count once.

    Attributes:
        spans: Spans by id.
    """

    spans: dict[str, Received]

    @staticmethod
    def of(spans: list[Received], trace_id: str) -> Tree:
        """Return the tree of a trace."""
        return Tree({span.span_id: span for span in spans if span.trace_id == trace_id})

    def orphans(self) -> list[Received]:
        """Return spans whose parent did not come."""
        return [span for span in self.spans.values() if span.parent_id and span.parent_id not in self.spans]

    def lineage(self, span: Received) -> tuple[str, ...]:
        """Return the names from the root down to a span."""
        above = self.spans.get(span.parent_id)
        return (span.name,) if above is None else (*self.lineage(above), span.name)

    def named(self, *names: str) -> list[Received]:
        """Return the spans whose names, from the root down, are these, in order of their beginning."""
        found = [span for span in self.spans.values() if span.name == names[-1] and self.lineage(span) == names]
        return sorted(found, key=lambda span: span.start_ns)


def _received(service: str, span: Span) -> Received:
    failed = span.status.code == Status.STATUS_CODE_ERROR
    return Received(
        service=service,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        events=[(event.name, _values(event.attributes)) for event in span.events],
        error=span.status.message if failed else None,
    )


def _values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, str(kind)) if kind else None
