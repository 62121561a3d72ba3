"""What goes over the wire between a client and the API: errors as typed exceptions, and server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from engine.core.diagnostics import Diagnostic, Position, Severity
from engine.core.errors import (
    Conflict,
    DefinitionError,
    EngineError,
    InvalidInput,
    NotAllowed,
    NotFound,
    RequestError,
    Unavailable,
)

MARK = "x-everstep"
"""Header by which answers of Everstep are known; engine.edge.http.access sets it, but importing that takes 0.1 s."""
GATEWAY_STATUS = (502, 503, 504)
"""What a gateway answers when the server behind it does not."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a server-sent stream.

    Attributes:
        id: Its id, which `Last-Event-ID` takes up again; that of the event before if it has none.
        data: Its JSON value.
        event: Its type; `message` if the stream names none.
    """

    id: str
    data: Any
    event: str = "message"


@dataclass(slots=True)
class SseParser:
    """Reads the lines of a server-sent stream; the data of each event must be JSON.

    Attributes:
        last_id: Id of the last event.
    """

    last_id: str = ""
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> StreamEvent | None:
        """Take one line without its end; return the event that it completes, if it does."""
        if not line:
            made = None
            if self._data:
                made = StreamEvent(self.last_id, json.loads("\n".join(self._data)), self._event or "message")
            self._event, self._data = "", []
            return made
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None


def parse_stream(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Yield the events of a server-sent stream."""
    parser = SseParser()
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            yield event


def is_ours(response: httpx.Response) -> bool:
    """Whether an answer comes from Everstep, or from a gateway in front of it that speaks for it."""
    return MARK in response.headers or response.status_code in GATEWAY_STATUS or _is_problem(response)


def _is_problem(response: httpx.Response) -> bool:
    """Whether an answer is an error as Everstep writes it: {…, error: {code, …}}."""
    if not response.is_error:
        return False
    try:
        body = response.json()
    except ValueError:
        return False
    inner = body.get("error") if isinstance(body, dict) else None
    return isinstance(inner, dict) and "code" in inner


def error_of(response: httpx.Response) -> EngineError:
    """Turn an error response into a typed error.

    Args:
        response: A response of 400 or above, body read.

    Returns:
        An error of the class that its status means, with the API's code, message, hint and diagnostics.
    """
    try:
        body = response.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    inner = body.get("error")
    facts: dict[str, Any] = {**body, **inner} if isinstance(inner, dict) else dict(body)
    status = response.status_code
    message = str(facts.get("message") or facts.get("detail") or facts.get("title") or f"the API answered {status}")
    hint = str(facts.get("hint") or facts.get("fix") or "")
    code = str(facts.get("code") or "")
    told = facts.get("details")
    details: dict[str, Any] = told if isinstance(told, dict) else {}
    diagnostics = facts.get("diagnostics") or details.get("diagnostics")
    if diagnostics:
        return DefinitionError(
            message,
            code=code or None,
            hint=hint,
            diagnostics=[diagnostic_of(item) for item in diagnostics],
            file=str(diagnostics[0].get("file") or "task"),
        )
    return _class_of(status)(message, code=code or None, hint=hint or _hint_of(status), details=details)


def _class_of(status: int) -> type[RequestError]:
    if status == 404:
        return NotFound
    if status in (401, 403):
        return NotAllowed
    if status == 409:
        return Conflict
    if status in (400, 413, 415, 422):
        return InvalidInput
    return Unavailable if status in GATEWAY_STATUS else RequestError


def _hint_of(status: int) -> str:
    return "give the key with --api-key or EVERSTEP_API_KEY" if status in (401, 403) else ""


def diagnostic_of(body: dict[str, Any]) -> Diagnostic:
    """Rebuild a diagnostic from its JSON."""
    return Diagnostic(
        code=str(body.get("code", "")),
        message=str(body.get("message", "")),
        position=Position(int(body.get("line") or 1), int(body.get("column") or 1)),
        hint=str(body.get("hint") or ""),
        severity=Severity(body.get("severity") or Severity.ERROR),
        path=str(body.get("path") or ""),
    )
