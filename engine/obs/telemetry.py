"""Traces and metrics as the rest of the engine sees them; without telemetry every call here does nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.run.tracing import Traceparent, span_id

Service = Literal["api", "worker", "repair"]
Kind = Literal["internal", "server", "client"]
Observed = Iterable[tuple[float, Mapping[str, str]]]
"""Values of a gauge with their attributes."""

_HERE: ContextVar[str] = ContextVar("everstep_traceparent", default="")
"""Traceparent of the innermost span of the present task; of a request also without telemetry, as its caller sent it."""


def current_traceparent() -> str:
    """Return the traceparent of the span that the caller runs in; empty if there is none."""
    return _HERE.get()


def trace_for(execution_id: str) -> str:
    """Return the traceparent with which an execution starts: that of the request, else of a trace of its own.

    Args:
        execution_id: The execution; a trace of its own names the execution's span, as nothing stands above that.
    """
    return current_traceparent() or str(Traceparent(secrets.token_hex(16), span_id(execution_id, ""), True))


@contextmanager
def inside(traceparent: str) -> Iterator[None]:
    """Run a block inside a span."""
    token = _HERE.set(traceparent)
    try:
        yield
    finally:
        _HERE.reset(token)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    at_us: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanData:
    """A span that is over, with ids of our own making.

    Attributes:
        name: Its name.
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: The same of the span around it; empty = there is none.
        start_us: When it began, Unix microseconds.
        end_us: When it ended.
        attributes: Its attributes.
        events: What happened inside it.
        error: Code and message if it failed.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_us: int
    end_us: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    error: tuple[str, str] | None = None


class Span:
    """A span under way; this one does nothing.

    Attributes:
        traceparent: W3C traceparent for what happens inside; empty = there is no trace.
    """

    traceparent = ""

    def name(self, name: str) -> None:
        """Give it another name."""

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes; those that are None are left out."""

    def fail(self, code: str, message: str) -> None:
        """Say that what it stands for failed."""

    def end(self) -> None:
        """End it now; the end of its block does nothing more."""


class Telemetry:
    """Traces and metrics of one process; this one keeps and sends nothing.

    Attributes:
        traces: Whether spans are sent.
        metrics: Whether metrics are kept.
        sends_metrics: Whether they are also sent.
        content: Whether spans may carry messages, arguments and outputs.
    """

    traces = False
    metrics = False
    sends_metrics = False
    content = False

    @contextmanager
    def span(
        self, name: str, *, parent: str = "", kind: Kind = "internal", attributes: Mapping[str, Any] | None = None
    ) -> Iterator[Span]:
        """Run a block as a span; an error that leaves the block is its error.

        Args:
            name: Its name.
            parent: W3C traceparent of the span around it; empty = the present one. Without either there is no span,
                unless it is that of a request.
            kind: Its role between two services.
            attributes: Its attributes.
        """
        del name, parent, kind, attributes
        yield Span()

    def emit(self, spans: Iterable[SpanData]) -> None:
        """Send spans that are over."""

    def count(self, name: str, amount: int = 1, attributes: Mapping[str, str] | None = None) -> None:
        """Add to a counter of `engine.obs.metrics`."""

    def record(self, name: str, value: float, attributes: Mapping[str, str | int] | None = None) -> None:
        """Add a value to a histogram."""

    def observe(self, name: str, read: Callable[[], Observed]) -> None:
        """Let a gauge be read by a function, which may be called from another thread."""

    def scrape(self) -> tuple[bytes, str] | None:
        """Return all metrics in Prometheus' text format and its media type; None if none are kept."""
        return None

    def serve(self, host: str, port: int) -> None:
        """Answer `GET /metrics` at an address until the process ends.

        Raises:
            OSError: The address cannot be bound.
        """

    def adopt_tools(self) -> None:
        """Let Python tools that use OpenTelemetry themselves send their spans with ours; for a process's entry."""

    def close(self) -> None:
        """Send what is left, for five seconds at most, and stop."""


OFF = Telemetry()
