"""What all backend adapters do alike: send one call, read its reply as it comes, say in our words what went wrong."""

from __future__ import annotations

import json
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from activities.backends.base import Embeddings, ReadSecret, Tell, tell_nobody
from activities.backends.failures import error_in_reply, error_of_status
from activities.backends.framing import json_lines, sse_events
from activities.backends.keys import BackendKey
from activities.backends.reply import ErrorInReply, ReplyError, ReplyReader
from activities.backends.vectors import batches, no_embeddings
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
        embed_texts: Most texts of one call for vectors; 0 = the provider makes none.
    """

    models_path: ClassVar[str] = "/models"
    chat_path: ClassVar[str]
    embed_texts: ClassVar[int] = 0

    def __init__(self, name: str, config: BackendConfig, read_secret: ReadSecret | None = None) -> None:
        """Prepare the adapter; no connection is made yet.

        Args:
            name: Name of the backend.
            config: What the operator says of it.
            read_secret: Reads a secret of the operator's tenant; None = keys are in variables only.
        """
        self.name = name
        self.config = config
        self._key = BackendKey(name, config, read_secret)
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

    def embed_call(self, model: str, texts: Sequence[str], settings: Mapping[str, Any]) -> Outgoing:
        """Say a call for vectors in the backend's words.

        Raises:
            BackendError: `backend.no_embeddings` if the provider has none.
        """
        raise no_embeddings(self.name, type(self).__name__.removesuffix("Backend"))

    def embedded_in(self, body: Any) -> Embeddings:
        """Return the vectors in a reply; its model may be left empty.

        Raises:
            ValueError, KeyError, TypeError: It has another shape.
        """
        raise TypeError("there are none")

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
            **(await self._headers()),
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
            problem = self._key.mask.json(error.problem)
            raise error_in_reply(
                problem, backend=self.name, base_url=self._base_url, model=params.model, path=self.chat_path
            ) from error
        if not reader.parts.started:
            raise self._bad_reply("sent a reply without choices")
        return reader.parts.result(backend=self.name, model=params.model, now_s=int(time.time()))

    async def embed(
        self, model: str, texts: Sequence[str], *, settings: Mapping[str, Any] | None = None, key: str = ""
    ) -> Embeddings:
        """Turn texts into vectors, in as many calls as their number needs; the caller bounds the time.

        Args:
            model: The model.
            texts: The texts; none of them is cut to fit.
            settings: Further members of the request.
            key: Idempotency key.

        Returns:
            The vectors in the order of the texts.

        Raises:
            BackendError: `backend.no_embeddings`, `backend.context_too_long` if a text is too long for the model, or
                another one as for `chat`.
        """
        if not texts:
            return Embeddings(model, [], 0)
        done = [
            await self._embed(model, part, settings or {}, f"{key}/{number}" if key else "")
            for number, part in enumerate(batches(texts, self.embed_texts))
        ]
        if len({len(vector) for item in done for vector in item.vectors}) > 1:
            raise self._bad_reply("sent vectors of several lengths")
        counts = [item.prompt_tokens for item in done if item.prompt_tokens is not None]
        return Embeddings(
            next((item.model for item in done if item.model), model),
            [vector for item in done for vector in item.vectors],
            sum(counts) if len(counts) == len(done) else None,
        )

    async def _embed(self, model: str, texts: Sequence[str], settings: Mapping[str, Any], key: str) -> Embeddings:
        self._require_port()
        outgoing = self.embed_call(model, texts, settings)
        # escaped, so that half a character of some text does not stop it
        body = json.dumps(outgoing.body, separators=(",", ":"), allow_nan=False).encode()
        known = {"Idempotency-Key": header_text(key)} if key else {}
        headers = {**(await self._headers()), **outgoing.headers, "Content-Type": "application/json", **known}
        answered = False
        try:
            with self._pool.client() as client:
                url = f"{self._base_url}{outgoing.path}"
                async with client.stream("POST", url, content=body, headers=headers) as response:
                    answered = True
                    await self._raise_for_status(response, model, path=outgoing.path)
                    raw = await _read_whole(response)
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=answered) from error
        except ReplyError as error:
            raise self._bad_reply(f"sent a reply that cannot be read: {error}") from error
        try:
            found = self.embedded_in(json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._bad_reply(f"sent vectors that cannot be read: {clip(str(error), 200)}") from error
        if len(found.vectors) != len(texts):
            raise self._bad_reply(f"sent {len(found.vectors)} vectors for {len(texts)} texts")
        if not all(found.vectors):
            raise self._bad_reply("sent a vector without numbers")
        return found

    async def list_models(self) -> list[str]:
        """Return the names of the models that the server says it has.

        Raises:
            BackendError: As for `chat`.
        """
        return (await self.listed())[0]

    async def listed(self) -> tuple[list[str], Any]:
        """Return the names of the models that the server says it has, and all that it says.

        Raises:
            BackendError: As for `chat`.
        """
        response = await self._fetch("GET", self.models_path)
        if not response.is_success:
            raise self._status_error(response, response.content[:MAX_ERROR_BYTES], "")
        try:
            body = response.json()
            return self.models_in(body), body
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
        headers = await self._headers()
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
            reader.take(self._key.mask.bytes(await _read_whole(response)))
            return
        async for data in STREAMS[media](response.aiter_bytes(), max_bytes=MAX_REPLY_BYTES):
            reader.take(self._key.mask.bytes(data))
        if not reader.is_whole:
            raise BackendError(
                f"backend '{self.name}' broke the reply off in the middle",
                code="backend.cut_off",
                retryable=True,
                details={"backend": self.name},
            )

    # --- what went wrong ---------------------------------------------------------------------------------------------

    async def _raise_for_status(self, response: httpx.Response, model: str, *, path: str = "") -> None:
        if response.is_success:
            return
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) >= MAX_ERROR_BYTES:
                break
        raise self._status_error(response, body[:MAX_ERROR_BYTES], model, path=path)

    def _status_error(self, response: httpx.Response, body: bytes, model: str, *, path: str = "") -> BackendError:
        return error_of_status(
            response.status_code,
            self._key.mask.bytes(body),
            backend=self.name,
            base_url=self._base_url,
            model=model,
            path=path or self.chat_path,
            what="embeddings" if path else "chat completions",
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
            self._key.mask.text(f"backend '{self.name}': {describe_fault(error, where=self._base_url)}"),
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
            self._key.mask.text(f"backend '{self.name}' {text}"),
            code="backend.bad_reply",
            retryable=True,
            details={"backend": self.name},
        )

    async def _headers(self) -> dict[str, str]:
        key = await self._key.read()
        return self.key_headers(key) if key else {}


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
