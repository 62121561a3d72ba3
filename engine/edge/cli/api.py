"""The command line's HTTP client: calls the API, follows its streams, and turns every failure into a typed error."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

# the promise is an answer within five seconds, dead server or not
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 4.5
ANSWER_TIMEOUT_S = 30.0
STREAM_SILENCE_S = 60.0
RECONNECT_S = 0.3
START_HINT = "start one with `everstep dev`, or name another with --address or EVERSTEP_ADDRESS"
GATEWAY_STATUS = (502, 503, 504)
"""What a gateway answers when the server behind it does not."""
MARK = "x-everstep"
"""Header by which answers of Everstep are known; engine.edge.http.access sets it, but importing that takes 0.1 s."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a server-sent stream."""

    id: str
    data: Any


class Api:
    """A connection to one API server.

    Args:
        address: Its address, such as `http://127.0.0.1:8700`.
        api_key: Key to send; None = none.
    """

    def __init__(self, address: str, api_key: str | None = None) -> None:
        self.address = address.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(
                base_url=f"{self.address}/api",
                headers=headers,
                timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                # loading certificates takes 35 ms that a plain address need not pay
                verify=self.address.startswith("https:"),
                # a proxy of the environment has no business between us and a local server
                trust_env=not self.address.startswith(("http://127.", "http://localhost", "http://[::1]")),
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidInput(f"'{address}' is not an address: {error}", code="usage") from error
        # commands end with the process and close nothing, but one that is called as a function must not leave sockets
        weakref.finalize(self, self._http.close)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON body of a GET; parameters that are None or empty are left out."""
        return self._call("GET", path, params={key: value for key, value in params.items() if value not in (None, "")})

    def post(self, path: str, body: Any, *, timeout_s: float = READ_TIMEOUT_S) -> Any:
        """Return the JSON body of a POST."""
        return self._call("POST", path, json=body, timeout_s=timeout_s)

    def post_text(self, path: str, text: str, *, content_type: str, params: dict[str, str] | None = None) -> Any:
        """Return the JSON body of a POST whose body is a text."""
        return self._call(
            "POST", path, content=text.encode(), headers={"Content-Type": content_type}, params=params or {}
        )

    def put(self, path: str, body: Any, *, timeout_s: float = READ_TIMEOUT_S) -> Any:
        """Return the JSON body of a PUT."""
        return self._call("PUT", path, json=body, timeout_s=timeout_s)

    def delete(self, path: str) -> Any:
        """Return the JSON body of a DELETE; None if it has none."""
        return self._call("DELETE", path)

    def follow(self, path: str, *, last_id: str = "") -> Iterator[StreamEvent]:
        """Yield the events of a stream until the server ends it; a broken connection is taken up where it broke.

        Args:
            path: Path of the stream.
            last_id: Id of the last event that is known already.

        Yields:
            Events with their ids.

        Raises:
            EngineError: The server refused, or could not be reached for five seconds.
        """
        deadline = time.monotonic() + CONNECT_TIMEOUT_S + READ_TIMEOUT_S
        while True:
            try:
                for event in self._stream(path, last_id):
                    last_id = event.id or last_id
                    deadline = time.monotonic() + CONNECT_TIMEOUT_S + READ_TIMEOUT_S
                    yield event
            except (httpx.TransportError, Unavailable) as error:
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from error
                time.sleep(RECONNECT_S)
            else:
                return

    def _stream(self, path: str, last_id: str) -> Iterator[StreamEvent]:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
                self._check_ours(response)
                raise error_of(response)
            yield from parse_stream(response.iter_lines())

    def _call(self, method: str, path: str, *, timeout_s: float = READ_TIMEOUT_S, **options: Any) -> Any:
        with self._translated():
            timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
            response = self._http.request(method, path, timeout=timeout, **options)
        self._check_ours(response)
        if response.is_error:
            raise error_of(response)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise self._foreign(response) from error

    def _check_ours(self, response: httpx.Response) -> None:
        """Refuse the answer of a program that is not Everstep; a gateway in front of it may speak for it.

        Raises:
            Unavailable: `api.foreign`.
        """
        if MARK not in response.headers and response.status_code not in GATEWAY_STATUS and not _is_problem(response):
            raise self._foreign(response)

    def _foreign(self, response: httpx.Response) -> Unavailable:
        return Unavailable(
            f"what answers at {self.address} is not Everstep (it answered {response.status_code} to "
            f"{response.request.method} {response.request.url.path})",
            code="api.foreign",
            hint=START_HINT,
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        except httpx.InvalidURL as error:
            raise InvalidInput(f"'{self.address}' is not an address: {error}", code="usage") from error

    def _unreachable(self, error: Exception) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
        return Unavailable(f"the API at {self.address} {what}", hint=START_HINT)


def parse_stream(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Read the lines of a server-sent stream; the data of each event must be JSON."""
    event_id = ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield StreamEvent(event_id, json.loads("\n".join(data)))
            data = []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            event_id = value
        elif name == "data":
            data.append(value)


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
    return Unavailable if status in (502, 503, 504) else RequestError


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
