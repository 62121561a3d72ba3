"""The command line's HTTP client: calls the API, follows its streams, and turns every failure into a typed error."""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from engine.client.wire import StreamEvent, error_of, is_ours, parse_stream
from engine.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from engine.edge.cli.output import note
from engine.edge.cli.values import duration, segment

# the promise is an answer within five seconds, dead server or not
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 4.5
ANSWER_TIMEOUT_S = 30.0
PATIENCE_S = CONNECT_TIMEOUT_S + READ_TIMEOUT_S
STREAM_SILENCE_S = 60.0
RECONNECT_S = 0.3
START_HINT = "start one with `everstep dev`, or name another with --address or EVERSTEP_ADDRESS"


# engine.edge.http.freshness sets them, but importing that takes long
AGE_HEADER = "everstep-data-age"
WHY_HEADER = "everstep-data-age-reason"
WHY_OLD = {
    "temporal": "Temporal does not answer",
    "slow": "Temporal takes long to answer",
    "keepers": "no worker and no repair process is alive",
    "repair": "the repair process has not looked over all for a while",
}

_SHORT_ID = re.compile(r"[0-9a-fA-F-]{6,35}")
"""The beginning of an id; whole ones have 36 characters."""
_SHORT_PATH = re.compile(rf"/executions/({_SHORT_ID.pattern})(?=/|$)")
"""Path of an execution whose id is not written out."""
MOST_CANDIDATES = 10
"""So many of the things whose ids begin alike are told."""


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
        self._age_told = False
        self._ids: dict[str, str] = {}
        # commands end with the process and close nothing, but one that is called as a function must not leave sockets
        weakref.finalize(self, self._http.close)

    def get(self, path: str, /, **params: Any) -> Any:
        """Return the JSON body of a GET; parameters that are None or empty are left out."""
        return self._call("GET", path, params={key: value for key, value in params.items() if value not in (None, "")})

    def post(self, path: str, body: Any, *, timeout_s: float = READ_TIMEOUT_S, key: str = "") -> Any:
        """Return the JSON body of a POST; with an idempotency key it happens once, however often it is sent."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._call("POST", path, json=body, timeout_s=timeout_s, headers=headers)

    def post_text(self, path: str, text: str, *, content_type: str, params: dict[str, str] | None = None) -> Any:
        """Return the JSON body of a POST whose body is a text."""
        return self._call(
            "POST", path, content=text.encode(), headers={"Content-Type": content_type}, params=params or {}
        )

    def put(self, path: str, body: Any, *, timeout_s: float = READ_TIMEOUT_S) -> Any:
        """Return the JSON body of a PUT."""
        return self._call("PUT", path, json=body, timeout_s=timeout_s)

    def patch(self, path: str, body: Any, *, timeout_s: float = READ_TIMEOUT_S, key: str = "") -> Any:
        """Return the JSON body of a PATCH; with an idempotency key it happens once, however often it is sent."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._call("PATCH", path, json=body, timeout_s=timeout_s, headers=headers)

    def delete(self, path: str) -> Any:
        """Return the JSON body of a DELETE; None if it has none."""
        return self._call("DELETE", path)

    def follow(self, path: str, *, last_id: str = "", patience_s: float = PATIENCE_S) -> Iterator[StreamEvent]:
        """Yield the events of a stream until the server ends it; a broken connection is taken up where it broke.

        Args:
            path: Path of the stream.
            last_id: Id of the last event that is known already.
            patience_s: How long the server may be away, in seconds.

        Yields:
            Events with their ids.

        Raises:
            EngineError: The server refused, or could not be reached for so long.
        """
        lost_at: list[float] = []
        while True:
            try:
                # however long nothing happened before: what counts is how long the server has been away
                for event in self._stream(self._full(path), last_id, lost_at.clear):
                    last_id = event.id or last_id
                    yield event
            except (httpx.TransportError, Unavailable) as error:
                lost_at.append(time.monotonic())
                if lost_at[-1] - lost_at[0] > patience_s:
                    raise self._unreachable(error) from error
                time.sleep(RECONNECT_S)
            else:
                return

    def _stream(self, path: str, last_id: str, opened: Callable[[], None]) -> Iterator[StreamEvent]:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
                self._check_ours(response)
                raise error_of(response)
            self._tell_age(response)
            yield from parse_stream(response.iter_lines())

    def _full(self, path: str) -> str:
        """Return a path with the whole id of its execution, of which a user may have typed the beginning only.

        Raises:
            Conflict: `execution.ambiguous` if several executions begin like that.
        """
        short = _SHORT_PATH.match(path)
        if short is None:
            return path
        text = short[1]
        if text not in self._ids:
            found = self.get("/executions/find", id_prefix=text)["items"]
            if len(found) > 1:
                raise _ambiguous(text, found)
            # of none the server says so itself
            self._ids[text] = str(found[0]["id"]) if found else text
        return f"/executions/{self._ids[text]}{path[short.end() :]}"

    def whole_id(self, kind: str, reference: str) -> str:
        """Return the whole id of an agent, a user or a session, of which a user may have typed the beginning only.

        Args:
            kind: `agents`, `users` or `sessions`.
            reference: The id or its beginning, or the canonical name of an agent.

        Returns:
            The id; the reference itself if nothing has an id that begins so, or something has it as its name.

        Raises:
            Conflict: `id.ambiguous` if several ids begin like that.
        """
        if _SHORT_ID.fullmatch(reference) is None:
            return reference
        try:
            return str(self.get(f"/{kind}/{segment(reference)}")["id"])
        except NotFound:
            pass
        found = self.get(f"/{kind}", id_prefix=reference.lower(), limit=MOST_CANDIDATES)["items"]
        if len(found) > 1:
            told = [f"{item['id']} ({item['name']})" if item.get("name") else str(item["id"]) for item in found]
            raise Conflict(
                f"several {kind} have ids that begin with {reference}",
                code="id.ambiguous",
                hint=f"write more of the id: {', '.join(told)}",
                details={"ids": [item["id"] for item in found]},
            )
        return str(found[0]["id"]) if found else reference

    def _call(self, method: str, path: str, *, timeout_s: float = READ_TIMEOUT_S, **options: Any) -> Any:
        path = self._full(path)
        with self._translated():
            timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
            response = self._http.request(method, path, timeout=timeout, **options)
        self._check_ours(response)
        if response.is_error:
            raise error_of(response)
        self._tell_age(response)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise self._foreign(response) from error

    def _tell_age(self, response: httpx.Response) -> None:
        """Say on standard error, once a command, that what is shown may be old."""
        age = response.headers.get(AGE_HEADER)
        if age is None or self._age_told:
            return
        self._age_told = True
        why = WHY_OLD.get(response.headers.get(WHY_HEADER, ""), WHY_OLD["temporal"])
        note(f"as of {duration(float(age))} ago; {why}")

    def _check_ours(self, response: httpx.Response) -> None:
        """Refuse the answer of a program that is not Everstep; a gateway in front of it may speak for it.

        Raises:
            Unavailable: `api.foreign`.
        """
        if not is_ours(response):
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


def _ambiguous(text: str, found: Sequence[Mapping[str, Any]]) -> Conflict:
    candidates = ", ".join(f"{item['id']} ({item['task_name']}, {item['status']})" for item in found)
    return Conflict(
        f"several executions have ids that begin with {text}",
        code="execution.ambiguous",
        hint=f"write more of the id: {candidates}",
        details={"ids": [item["id"] for item in found]},
    )
