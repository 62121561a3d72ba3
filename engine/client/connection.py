"""How the client reaches the API: addresses, keys, and when a request is sent again."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from engine.client.requests import Request
from engine.client.wire import GATEWAY_STATUS, error_of, is_ours
from engine.core.errors import DefinitionError, EngineError, InvalidInput, Unavailable

DEFAULT_ADDRESS = "http://127.0.0.1:8700"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
STREAM_SILENCE_S = 60.0
"""The API says at least something every 15 s."""
LISTEN_S = 10.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
_LOCAL = ("http://127.", "http://localhost", "http://[::1]")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the API is and how to talk to it.

    Attributes:
        address: Its address, such as `http://127.0.0.1:8700`.
        api_key: Key that is sent; None = none.
        timeout_s: Longest wait for an answer in seconds.
        tries: How often a request is sent at most when the API cannot be reached.
    """

    address: str
    api_key: str | None
    timeout_s: float
    tries: int

    @classmethod
    def of(cls, address: str | None, api_key: str | None, timeout_s: float, tries: int) -> Connection:
        """Fill in what the caller left out from EVERSTEP_ADDRESS and EVERSTEP_API_KEY."""
        found = address or os.environ.get("EVERSTEP_ADDRESS") or DEFAULT_ADDRESS
        if not found.startswith(("http://", "https://")):
            raise InvalidInput(f"'{found}' is not an address", code="usage", hint="such as http://127.0.0.1:8700")
        return cls(found.rstrip("/"), api_key or os.environ.get("EVERSTEP_API_KEY") or None, timeout_s, max(tries, 1))

    def options(self) -> dict[str, Any]:
        """Return the arguments of the httpx client."""
        return {
            "base_url": f"{self.address}/api",
            "headers": {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {},
            "timeout": httpx.Timeout(self.timeout_s, connect=CONNECT_TIMEOUT_S),
            # loading certificates takes 35 ms that a plain address need not pay
            "verify": self.address.startswith("https:"),
            # a proxy of the environment has no business between us and a local server
            "trust_env": not self.address.startswith(_LOCAL),
        }

    def arguments(self, request: Request[Any]) -> dict[str, Any]:
        """Return the arguments with which httpx sends a request."""
        headers: dict[str, str] = {}
        if request.key:
            headers["Idempotency-Key"] = request.key
        options: dict[str, Any] = {"params": dict(request.params), "headers": headers}
        if request.text is not None:
            headers["Content-Type"] = request.content_type
            options["content"] = request.text.encode()
        elif request.body is not None:
            options["json"] = request.body
        if request.timeout_s is not None:
            options["timeout"] = httpx.Timeout(request.timeout_s, connect=CONNECT_TIMEOUT_S)
        return options

    def stream_arguments(self, last_id: str, deadline: float | None = None) -> dict[str, Any]:
        """Return the arguments with which httpx opens a stream.

        Args:
            last_id: Id of the last event that is known already.
            deadline: Until when the caller listens (time.monotonic); None = without limit.
        """
        silence_s = STREAM_SILENCE_S
        if deadline is not None:
            # shorter than the pause between two signs of life, which would begin the time anew
            silence_s = min(max(deadline - time.monotonic(), 0.01), LISTEN_S)
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        return {"headers": headers, "timeout": httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S)}

    def check(self, response: httpx.Response, request: Request[Any] | None = None) -> None:
        """Raise what an error answer means.

        Raises:
            EngineError: The API refused; or `api.foreign`, if it is not Everstep that answers.
        """
        if not is_ours(response):
            raise Unavailable(
                f"what answers at {self.address} is not Everstep (it answered {response.status_code} to "
                f"{response.request.method} {response.request.url.path})",
                code="api.foreign",
                hint="give the address of an Everstep API, or set EVERSTEP_ADDRESS",
            )
        if response.is_error:
            error = error_of(response)
            if isinstance(error, DefinitionError) and request is not None and request.explain is not None:
                error = request.explain(error)
            raise error

    def unreachable(self, error: Exception) -> EngineError:
        """Return what it means that the API could not be reached."""
        if isinstance(error, EngineError):
            return error
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
        hint = "start one with `everstep dev`, or give another address (EVERSTEP_ADDRESS)"
        return Unavailable(f"the API at {self.address} {what}", hint=hint, retryable=True)

    def pauses(self, request: Request[Any]) -> Iterator[float]:
        """Yield the pauses after which a request is sent once more."""
        if not request.repeatable or (request.method == "POST" and not request.key and request.text is None):
            return
        for number in range(self.tries - 1):
            # spread, so that many clients of a restarted API do not come back as one
            yield min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 no secret


def is_worth_another(response: httpx.Response) -> bool:
    """Whether an answer says that the same request may succeed in a moment: a gateway without its server."""
    if response.status_code not in GATEWAY_STATUS:
        return False
    # Everstep's own 503 and 504 say what is the matter, and the caller decides
    return "x-everstep" not in response.headers
