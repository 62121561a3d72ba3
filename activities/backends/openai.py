"""Adapter for any server with an OpenAI-compatible /chat/completions; streams, so that a cancel reaches the server."""

from __future__ import annotations

import json
import os
import ssl
import time
from functools import cached_property
from typing import Any

import httpx

from activities.backends.base import Tell, tell_nobody
from activities.backends.failures import error_in_reply, error_of_status
from activities.backends.stream import DONE, Assembler, Chunk, ReplyError, read_chunk, read_events
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
from engine.core.values import Json
from engine.settings import BackendConfig

MAX_REPLY_BYTES = 32 * 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
LIST_TIMEOUT_S = 10.0


class OpenAIBackend:
    """One OpenAI-compatible backend; satisfies `Backend`."""

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
        body = json.dumps(request_body(params), separators=(",", ":"), allow_nan=False).encode()
        headers = {
            **self._headers(),
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Idempotency-Key": header_text(params.context.key),
        }
        assembler = Assembler(tell)
        answered = False
        try:
            with self._pool.client() as client:
                url = f"{self._base_url}/chat/completions"
                async with client.stream("POST", url, content=body, headers=headers) as response:
                    answered = True
                    await self._raise_for_status(response, params.model)
                    if "text/event-stream" in response.headers.get("content-type", ""):
                        await self._read_stream(response, assembler, params.model)
                    else:
                        self._add(assembler, read_chunk(await self._read_whole(response)), params.model)
                        self._require_choice(assembler)
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=answered) from error
        except ReplyError as error:
            raise self._bad_reply(f"sent a reply that cannot be read: {error}") from error
        return assembler.result(backend=self.name, model=params.model, now_s=int(time.time()))

    async def list_models(self) -> list[str]:
        """Return the names of the models that `GET base_url/models` lists.

        Raises:
            BackendError: As for `chat`.
        """
        self._require_port()
        url = f"{self._base_url}/models"
        try:
            with self._pool.client() as client:
                response = await client.get(url, headers=self._headers(), timeout=LIST_TIMEOUT_S)
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=False) from error
        if not response.is_success:
            raise self._status_error(response, response.content[:MAX_ERROR_BYTES], "")
        try:
            return [str(item["id"]) for item in response.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad_reply(f"sent a list of models that cannot be read: {clip(str(error), 200)}") from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _read_stream(self, response: httpx.Response, assembler: Assembler, model: str) -> None:
        done = False
        async for data in read_events(response.aiter_bytes(), max_bytes=MAX_REPLY_BYTES):
            if data == DONE:
                done = True
                continue
            self._add(assembler, read_chunk(data), model)
        if not done and not assembler.finish_reason:
            raise BackendError(
                f"backend '{self.name}' broke the reply off in the middle",
                code="backend.cut_off",
                retryable=True,
                details={"backend": self.name},
            )
        self._require_choice(assembler)

    async def _read_whole(self, response: httpx.Response) -> bytes:
        parts, total = [], 0
        async for part in response.aiter_bytes():
            total += len(part)
            if total > MAX_REPLY_BYTES:
                raise ReplyError(f"more than {MAX_REPLY_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def _add(self, assembler: Assembler, chunk: Chunk, model: str) -> None:
        if chunk.error:
            raise error_in_reply(chunk.error, backend=self.name, base_url=self._base_url, model=model)
        assembler.add(chunk)

    def _require_choice(self, assembler: Assembler) -> None:
        if not assembler.started:
            raise self._bad_reply("sent a reply without choices")

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
        return {"Authorization": f"Bearer {key}"}


def _has_port(url: str) -> bool:
    try:
        return 0 < (httpx.URL(url).port or 1) <= MAX_PORT
    except httpx.InvalidURL:
        return True  # the client says it better


def request_body(params: ChatParams) -> dict[str, Any]:
    """Return the JSON body of a chat completion request.

    Settings come first, so that none of them can replace what the engine decides.
    """
    body: dict[str, Any] = {}
    if params.output_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": "reply",
                "schema": params.output_schema,
                "strict": fits_strict_mode(params.output_schema),
            },
        }
    body.update(params.settings)
    body.update(model=params.model, messages=params.messages, stream=True, stream_options={"include_usage": True})
    if params.tools:
        body["tools"] = params.tools
        if params.tool_choice is not None:
            body["tool_choice"] = params.tool_choice
    return body


def fits_strict_mode(schema: Json) -> bool:
    """Say whether a schema closes all its objects and requires all their members.

    OpenAI refuses `strict` for other schemas; servers without such a rule take both.
    """
    if isinstance(schema, list):
        return all(fits_strict_mode(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    members = schema.get("properties")
    if schema.get("type") == "object" or isinstance(members, dict):
        names = set(members) if isinstance(members, dict) else set()
        if schema.get("additionalProperties") is not False or set(schema.get("required", [])) != names:
            return False
        parts = [*members.values()] if isinstance(members, dict) else []
    else:
        parts = []
    parts += [value for key, value in schema.items() if key in ("items", "anyOf", "prefixItems")]
    parts += [item for key in ("$defs", "definitions") for item in (schema.get(key) or {}).values()]
    return all(fits_strict_mode(part) for part in parts)
