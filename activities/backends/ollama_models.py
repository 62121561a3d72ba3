"""Looks after the models of an Ollama server: fetch, delete, describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, Field

from activities.backends.failures import error_in_reply
from activities.backends.framing import json_lines
from activities.backends.ollama import OllamaBackend, Shape, read_as
from activities.backends.reply import ErrorInReply, ReplyError
from activities.backends.transport import LIST_TIMEOUT_S, MAX_ERROR_BYTES
from activities.net import HTTP_EXCEPTIONS
from engine.core.errors import BackendError

MAX_PROGRESS_BYTES = 1024 * 1024 * 1024
"""Of all lines of a fetch; a large model over a slow line takes hours, with many lines a second."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the fetch of a model is.

    Attributes:
        status: What the server does now, in its words.
        digest: The part that it fetches; empty = it fetches none now.
        done_bytes: How much of that part is there.
        total_bytes: Size of that part; 0 = not known.
    """

    status: str
    digest: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a server tells about a model.

    Attributes:
        capabilities: What it can do: completion, tools, thinking, vision, embedding, …
        context_tokens: Longest context that it was made for; None = the server did not say.
        parameter_size: How large it is, e.g. 8.0B.
        quantization: How its weights are kept, e.g. Q4_K_M.
    """

    capabilities: frozenset[str]
    context_tokens: int | None
    parameter_size: str
    quantization: str


class OllamaModels(OllamaBackend):
    """The models of one Ollama server.

    All methods raise the `BackendError`s of `HttpBackend.chat`; a cancel reaches the server.
    """

    async def pull(self, model: str, tell: Callable[[Progress], None] = lambda _: None) -> None:
        """Fetch a model and wait until it is there; the caller bounds the time.

        Args:
            model: Its name, with or without a tag.
            tell: Takes how far it is; never waits and never raises.

        Raises:
            BackendError: `backend.unknown_model` if the library has no such model, or another one.
        """
        self._require_port()
        answered = has_ended = False
        try:
            with self._pool.client() as client:
                url = f"{self._base_url}/api/pull"
                body = {"model": model, "stream": True}
                async with client.stream("POST", url, json=body, headers=await self._headers()) as response:
                    answered = True
                    await self._raise_for_status(response, model)
                    async for line in json_lines(response.aiter_bytes(), max_bytes=MAX_PROGRESS_BYTES):
                        step = read_as(_PullLine, line)
                        if step.error:
                            raise ErrorInReply(_pull_problem(step.error))
                        has_ended = step.status == "success"
                        tell(Progress(step.status, step.digest, step.completed, step.total))
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=answered) from error
        except ReplyError as error:
            raise self._bad_reply(f"sent a reply that cannot be read: {error}") from error
        except ErrorInReply as error:
            problem = self._key.mask.json(error.problem)
            raise error_in_reply(
                problem, backend=self.name, base_url=self._base_url, model=model, path="/api/pull"
            ) from error
        if not has_ended:
            raise BackendError(
                f"backend '{self.name}' stopped fetching the model '{model}' in the middle",
                code="backend.cut_off",
                hint="fetch it again; the server goes on where it stopped",
                retryable=True,
                details={"backend": self.name},
            )

    async def delete(self, model: str) -> None:
        """Delete a model from the server.

        Raises:
            BackendError: `backend.unknown_model` if it is not there, or another one.
        """
        await self._request("DELETE", "/api/delete", {"model": model})

    async def show(self, model: str) -> ModelFacts:
        """Describe a model that is there.

        Raises:
            BackendError: `backend.unknown_model` if it is not there, or another one.
        """
        response = await self._request("POST", "/api/show", {"model": model})
        shown = self._read_whole(_Shown, response)
        length = shown.model_info.get(f"{shown.model_info.get('general.architecture')}.context_length")
        return ModelFacts(
            capabilities=frozenset(shown.capabilities),
            context_tokens=length if isinstance(length, int) else None,
            parameter_size=shown.details.parameter_size,
            quantization=shown.details.quantization_level,
        )

    async def _request(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        self._require_port()
        limits = httpx.Timeout(LIST_TIMEOUT_S)
        try:
            with self._pool.client() as client:
                url = f"{self._base_url}{path}"
                response = await client.request(method, url, json=body, headers=await self._headers(), timeout=limits)
        except HTTP_EXCEPTIONS as error:
            raise self._net_error(error, answered=False) from error
        if not response.is_success:
            raise self._status_error(response, response.content[:MAX_ERROR_BYTES], str(body["model"]))
        return response

    def _read_whole(self, shape: type[Shape], response: httpx.Response) -> Shape:
        try:
            return read_as(shape, response.content)
        except ReplyError as error:
            raise self._bad_reply(f"sent a reply that cannot be read: {error}") from error


# --- what comes back -------------------------------------------------------------------------------------------------


class _PullLine(BaseModel):
    status: str = ""
    digest: str = ""
    completed: int = 0
    total: int = 0
    error: str = ""


class _Details(BaseModel):
    parameter_size: str = ""
    quantization_level: str = ""


class _Shown(BaseModel):
    details: _Details
    capabilities: list[str] = Field(default_factory=list)
    model_info: dict[str, Any] = Field(default_factory=dict)


def _pull_problem(text: str) -> Any:
    # the library says in no other way that it has no such model
    is_missing = "model" in text and ("file does not exist" in text or "not found" in text)
    return {"message": text, "status": 404} if is_missing else text
