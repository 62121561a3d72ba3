"""What all backend adapters do alike: send one call, read its reply as it comes, say in our words what went wrong."""

from __future__ import annotations

import json
import os
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from activities.backends.base import Tell, tell_nobody
from activities.backends.failures import error_in_reply, error_of_status
from activities.backends.framing import json_lines, sse_events
from activities.backends.reply import ErrorInReply, ReplyError, ReplyReader
from activities.net import (
    CONNECT_TIMEOUT_S,
    HTTP_EXCEPTIONS,
    MAX_PORT,
    NetFault,
    ShardedPool,
    describe_fault,
    fault_of,
    header_text,
    make_ssl_context,
    retry_after_s,
)
from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.contracts.failures import clip
from engine.core.errors import BackendError
from engine.settings import BackendConfig

MAX_REPLY_BYTES = 32 * 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
LIST_TIMEOUT_S = 10.0

STREAMS: dict[str, Callable[..., AsyncIterator[bytes]]] = {
    "text/event-stream": sse_events,
    "application/x-ndjson": json_lines,
}
"""How the events of a streamed reply are told apart, by its media type; any other type is one whole reply."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A call in a backend's words.

    Attributes:
        path: Where it is sent, below the base URL; begins with a slash.
        body: JSON body.
        headers: Further headers.
    """

    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class HttpBackend(ABC):
    """One backend that is asked over HTTP; satisfies `Backend`. Its dialect is what a subclass adds.

    Attributes:
        models_path: Where the models are listed, below the base URL.
        chat_path: What the address of a chat call ends in, for hints.
    """

    models_path: ClassVar[str] = "/models"
    chat_path: ClassVar[str]

    def __init__(self, name: str, config: BackendConfig) -> None:
        """Prepare the adapter; no connection is made yet.

        Args:
            name: Name of the backend in everstep.toml.
            config: Its entry there.
        """
        self.name = name
        self.config = config
        self._base_url = config.base_url.rstrip("/")
        self._has_port = _has_port(self._base_url)
        self._pool = ShardedPool(self._make_client, config.max_connections)

    # --- the dialect -------------------------------------------------------------------------------------------------

    @abstractmethod
    def outgoing(self, params: ChatParams) -> Outgoing:
        """Say a call in the backend's words.

        Raises:
            BackendError: `backend.refused` if the backend has no words for it.
        """

    @abstractmethod
    def reader(self, tell: Tell) -> ReplyReader:
        """Return what reads the reply of one call."""

    @abstractmethod
    def key_headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""

    @abstractmethod
    def models_in(self, body: Any) -> list[str]:
        """Return the names in a list of models.

        Raises:
            ValueError, KeyError, TypeError: It has another shape.
        """

    def model_in(self, body: Any) -> str:
        """Return the name in what is told of one model.

        Raises:
            ValueError, KeyError, TypeError: It has another shape.
        """
        return str(body["id"])

    # --- calls -------------------------------------------------------------------------------------------------------

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        return make_ssl_context()

    def _make_client(self, limits: httpx.Limits) -> httpx.AsyncClient:
        # the activity's own limit bounds the whole call, waiting for a connection included
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        return httpx.AsyncClient(verify=self._ssl, limits=limits, timeout=timeout, follow_redirects=False)

    async def chat(self, params: ChatParams, tell: Tell = tell_nobody) -> ChatResult:
        """Ask for one chat completion and wait for its end.

        Args:
            params: The call; `model` is never empty.
            tell: Takes what the model writes, as it comes.

        Returns:
            The reply. A reply to `output_schema` is not checked here.

        Raises:
            BackendError: backend.unreachable, .rate_limited, .overloaded, .auth, .unknown_model, .not_found,
                .context_too_long, .refused, .bad_reply, .cut_off or .timeout.
        """
        self._require_port()
        outgoing = self.outgoing(params)
        body = json.dumps(outgoing.body, separators=(",", ":"), allow_nan=False).encode()
        headers = {
            **self._headers(),
            **outgoing.headers,
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Idempotency-Key": header_text(params.context.key),
        }
        reader = self.reader(tell)
        answered = False
        try:
            with self._pool.client() as client:
                url = f"{self._base_url}{outgoing.path}"
                async with client.stream("POST", url, content=body, headers=headers) as response:
                    answered = True
                    await self._raise_for_status(response, params.model)
                    await self._read(response, reader)
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=answered) from error
        except ReplyError as error:
            raise self._bad_reply(f"sent a reply that cannot be read: {error}") from error
        except ErrorInReply as error:
            raise error_in_reply(
                error.problem, backend=self.name, base_url=self._base_url, model=params.model, path=self.chat_path
            ) from error
        if not reader.parts.started:
            raise self._bad_reply("sent a reply without choices")
        return reader.parts.result(backend=self.name, model=params.model, now_s=int(time.time()))

    async def list_models(self) -> list[str]:
        """Return the names of the models that the server says it has.

        Raises:
            BackendError: As for `chat`.
        """
        response = await self._fetch("GET", self.models_path)
        if not response.is_success:
            raise self._status_error(response, response.content[:MAX_ERROR_BYTES], "")
        try:
            return self.models_in(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad_reply(f"sent a list of models that cannot be read: {clip(str(error), 200)}") from error

    async def has_model(self, name: str) -> bool:
        """Ask for one model, since some servers have more than they list.

        Raises:
            BackendError: As for `chat`.
        """
        place = self.models_path.partition("?")[0]
        response = await self._fetch("GET", f"{place}/{quote(name, safe='')}")
        try:
            # servers that know no such route may answer anything
            return response.is_success and self.model_in(response.json()) == name
        except (ValueError, KeyError, TypeError):
            return False

    async def _fetch(self, method: str, path: str, body: Any = None) -> httpx.Response:
        self._require_port()
        headers = self._headers()
        try:
            with self._pool.client() as client:
                return await client.request(
                    method, f"{self._base_url}{path}", headers=headers, json=body, timeout=LIST_TIMEOUT_S
                )
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=False) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _read(self, response: httpx.Response, reader: ReplyReader) -> None:
        media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in STREAMS:
            reader.take(await _read_whole(response))
            return
        async for data in STREAMS[media](response.aiter_bytes(), max_bytes=MAX_REPLY_BYTES):
            reader.take(data)
        if not reader.is_whole:
            raise BackendError(
                f"backend '{self.name}' broke the reply off in the middle",
                code="backend.cut_off",
                retryable=True,
                details={"backend": self.name},
            )

    # --- what went wrong ---------------------------------------------------------------------------------------------

    async def _raise_for_status(self, response: httpx.Response, model: str) -> None:
        if response.is_success:
            return
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) >= MAX_ERROR_BYTES:
                break
        raise self._status_error(response, body[:MAX_ERROR_BYTES], model)

    def _status_error(self, response: httpx.Response, body: bytes, model: str) -> BackendError:
        return error_of_status(
            response.status_code,
            body,
            backend=self.name,
            base_url=self._base_url,
            model=model,
            path=self.chat_path,
            retry_after_s=retry_after_s(response.headers),
        )

    def _net_error(self, error: Exception, *, answered: bool) -> BackendError:
        fault = fault_of(error)
        if fault is NetFault.BAD_REPLY:
            return self._bad_reply(describe_fault(error, where=self._base_url))
        if answered and fault in (NetFault.BROKEN, NetFault.TIMED_OUT):
            code, retryable = "backend.cut_off", True
        else:
            code, retryable = "backend.unreachable", fault is not NetFault.BAD_REQUEST
        return BackendError(
            f"backend '{self.name}': {describe_fault(error, where=self._base_url)}",
            code=code,
            hint="" if answered else f"is a server running at {self._base_url}?",
            retryable=retryable,
            details={"backend": self.name},
        )

    def _require_port(self) -> None:
        if not self._has_port:  # the event loop would raise an OverflowError deep inside
            raise self._net_error(httpx.InvalidURL("there is no such port"), answered=False)

    def _bad_reply(self, text: str) -> BackendError:
        return BackendError(
            f"backend '{self.name}' {text}", code="backend.bad_reply", retryable=True, details={"backend": self.name}
        )

    def _headers(self) -> dict[str, str]:
        variable = self.config.api_key_env
        if not variable:
            return {}
        # looked up per call, so that a key never stands in a value that could be printed
        key = os.environ.get(variable, "").strip()
        if not key or not key.isascii():
            state = "is not set" if not key else "holds something that is not ASCII"
            raise BackendError(
                f"backend '{self.name}' needs a key, but the environment variable {variable} {state}",
                code="backend.auth",
                hint=f"set {variable} where the worker is started",
                details={"backend": self.name},
            )
        return self.key_headers(key)


async def _read_whole(response: httpx.Response) -> bytes:
    parts, total = [], 0
    async for part in response.aiter_bytes():
        total += len(part)
        if total > MAX_REPLY_BYTES:
            raise ReplyError(f"more than {MAX_REPLY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _has_port(url: str) -> bool:
    try:
        return 0 < (httpx.URL(url).port or 1) <= MAX_PORT
    except httpx.InvalidURL:
        return True  # the client says it better
