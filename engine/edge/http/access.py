"""Gives every request an id, a span and a line in the log at debug level, and answers 500 if all else fails."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterator

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.core.run.tracing import read_traceparent
from engine.edge.http.guard import OPEN_PATHS
from engine.edge.http.problems import problem_of_bug
from engine.obs.metrics import REQUEST_SECONDS, STREAMS
from engine.obs.telemetry import OFF, Span, Telemetry, inside

HEADER = "x-request-id"
MARK = "x-everstep"
"""Header of every answer; the command line tells by it whether what answers is Everstep."""
UNTRACED = OPEN_PATHS | {"/metrics"}
"""Paths that machines ask all the time."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others count as `_OTHER`, as the conventions ask: a name that callers may invent is no name of a metric."""

_GOOD_ID = re.compile(r"[\w.:-]{1,128}")

log = structlog.get_logger("everstep.api")


class AccessLog:
    """Takes the caller's X-Request-Id or makes one, answers with it and binds it to the log lines of the request.

    The caller's `traceparent` is continued: what the request starts belongs to the caller's trace.

    Args:
        app: The app behind it.
        telemetry: Where spans and metrics go.
    """

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry = OFF) -> None:
        self._app = app
        self._telemetry = telemetry
        self._streams = 0
        telemetry.observe(STREAMS, lambda: [(self._streams, {})])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        offered = headers.get(HEADER, "")
        request_id = offered if _GOOD_ID.fullmatch(offered) else uuid.uuid4().hex
        started, status, streams = time.perf_counter(), 0, 0
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"

        async def send_with_id(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer[HEADER], answer[MARK] = request_id, "1"
                if answer.get("content-type", "").startswith("text/event-stream"):
                    # a stream may last for hours: what it took to begin it is what the request took
                    finish()
                    streams = 1
                    self._streams += 1
            await send(message)

        finished = False

        def finish() -> None:
            nonlocal finished
            if not finished:
                finished = True
                self._finish(scope, span, method, status or 500, time.perf_counter() - started)

        with self._span(scope, headers, method, request_id) as span:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                # not raised on: the server would log it again and break the connection, and with it the next request
                log.error("a request failed", path=scope["path"], exc_info=error)
                if not status:
                    await problem_of_bug()(scope, receive, send_with_id)
            finally:
                self._streams -= streams
                finish()
                caller = scope.get("state", {}).get("caller")
                known = {} if caller is None else {"tenant": caller.tenant, "actor": caller.actor}
                log.debug(
                    "request",
                    **known,
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                )

    @contextlib.contextmanager
    def _span(self, scope: Scope, headers: Headers, method: str, request_id: str) -> Iterator[Span]:
        """Run a request as a span; without telemetry the caller's own span stands for it."""
        bound = structlog.contextvars.bound_contextvars
        sent = read_traceparent(headers.get("traceparent", "").strip())
        parent = "" if sent is None else str(sent)
        if not self._telemetry.traces or scope["path"] in UNTRACED:
            with inside(parent), bound(request_id=request_id, **_log_fields(parent)):
                yield Span()
            return
        server = scope.get("server") or (None, None)
        attributes = {
            "http.request.method": method,
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
            "server.address": server[0],
            "server.port": server[1],
            "network.protocol.version": scope.get("http_version"),
            "user_agent.original": headers.get("user-agent"),
            "everstep.request.id": request_id,
        }
        with (
            self._telemetry.span(method, parent=parent, kind="server", attributes=attributes) as span,
            bound(request_id=request_id, **_log_fields(span.traceparent)),
        ):
            yield span

    def _finish(self, scope: Scope, span: Span, method: str, status: int, took_s: float) -> None:
        # which route it was shows only afterwards; its template, since names and labels must not grow with ids
        route = _route_of(scope)
        if route:
            span.name(f"{method} {route}")
        caller = scope.get("state", {}).get("caller")
        span.set(
            {
                "http.route": route or None,
                "http.response.status_code": status,
                "everstep.tenant": None if caller is None else caller.tenant,
            }
        )
        if status >= 500:
            span.fail(str(status), f"answered {status}")
        span.end()
        labels: dict[str, str | int] = {"http.request.method": method, "http.response.status_code": status}
        self._telemetry.record(REQUEST_SECONDS, took_s, labels | ({"http.route": route} if route else {}))


def _route_of(scope: Scope) -> str:
    """Return the template of the route that answered, its prefix included; empty if there was none."""
    # a route knows its path inside its router only; what FastAPI made of both stands in its own corner of the scope
    whole = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return str(getattr(whole, "path", "") or "")


def _log_fields(traceparent: str) -> dict[str, str]:
    place = read_traceparent(traceparent)
    return {} if place is None else {"trace_id": place.trace_id, "span_id": place.span_id}
