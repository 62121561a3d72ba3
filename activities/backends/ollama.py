"""Adapter for Ollama's own API, /api/chat; its OpenAI-compatible side is served by the sibling `openai`."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError

from activities.backends.base import Embeddings, Tell, tell_nobody
from activities.backends.ollama_request import NoWordForIt, request_body
from activities.backends.reply import ErrorInReply, ReplyError, ReplyParts, logprobs_in, usage_of
from activities.backends.transport import MAX_ERROR_BYTES, HttpBackend, Outgoing
from activities.backends.vectors import numbers_of
from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.errors import BackendError

Shape = TypeVar("Shape", bound=BaseModel)

_HINTS = {
    "backend.context_too_long": "raise num_ctx in the settings of the step, as far as the model and the memory allow",
    "backend.unknown_model": "fetch it with `ollama pull`, or name one that `ollama list` shows",
}


class OllamaBackend(HttpBackend):
    """One Ollama server, local or hosted; the base URL has no path."""

    chat_path: ClassVar[str] = "/api/chat"
    models_path: ClassVar[str] = "/api/tags"
    embed_texts: ClassVar[int] = 128

    async def chat(self, params: ChatParams, tell: Tell = tell_nobody) -> ChatResult:
        """See `HttpBackend`."""
        try:
            return await super().chat(params, tell)
        except BackendError as error:
            error.hint = error.hint or _HINTS.get(error.code, "")
            raise

    def outgoing(self, params: ChatParams) -> Outgoing:
        """See `HttpBackend`."""
        try:
            return Outgoing(self.chat_path, request_body(params))
        except NoWordForIt as error:
            raise BackendError(
                f"backend '{self.name}' cannot be asked this: {error}",
                code="backend.refused",
                hint=error.hint,
                details={"backend": self.name},
            ) from None

    def reader(self, tell: Tell) -> OllamaReader:
        """See `HttpBackend`."""
        return OllamaReader(tell)

    def key_headers(self, key: str) -> dict[str, str]:
        """See `HttpBackend`."""
        return {"Authorization": f"Bearer {key}"}

    def models_in(self, body: Any) -> list[str]:
        """See `HttpBackend`; the tag `latest` is left out, as it is what a name without a tag means."""
        return [str(item["name"]).removesuffix(":latest") for item in body["models"]]

    def embed_call(self, model: str, texts: Sequence[str], settings: Mapping[str, Any]) -> Outgoing:
        """See `HttpBackend`."""
        return Outgoing("/api/embed", {"truncate": False, **settings, "model": model, "input": list(texts)})

    def embedded_in(self, body: Any) -> Embeddings:
        """See `HttpBackend`."""
        tokens = body.get("prompt_eval_count")
        vectors = [numbers_of(vector) for vector in body["embeddings"]]
        return Embeddings(str(body.get("model") or ""), vectors, None if tokens is None else int(tokens))

    async def has_model(self, name: str) -> bool:
        """Ask for one model, since there are several ways to write its name.

        Raises:
            BackendError: As for `chat`.
        """
        response = await self._fetch("POST", "/api/show", {"model": name})
        if response.is_success:
            return True
        error = self._status_error(response, response.content[:MAX_ERROR_BYTES], name)
        if error.code != "backend.unknown_model":
            raise error
        return False


# --- the reply -------------------------------------------------------------------------------------------------------

_REASONS = {"length": "length", "content_filter": "content_filter", "tool_calls": "tool_calls"}
"""Of `done_reason`; the last two come from servers in front of Ollama. All others (stop, load, unload) are a stop."""


class _Function(BaseModel):
    name: str
    arguments: dict[str, Any] | str | None = None


class _ToolCall(BaseModel):
    id: str | None = None
    function: _Function


class _Message(BaseModel):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(BaseModel):
    """A line of a streamed reply, or a whole reply."""

    model: str | None = None
    created_at: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: Any = None
    error: Any = None


class OllamaReader:
    """Reads a reply, streamed or whole. See `ReplyReader`."""

    def __init__(self, tell: Tell) -> None:
        self.parts = ReplyParts(tell)
        self._is_done = False

    @property
    def is_whole(self) -> bool:
        """See `ReplyReader`."""
        return self._is_done

    def take(self, data: bytes) -> None:
        """See `ReplyReader`."""
        line = read_as(_Line, data)
        if line.error:
            raise ErrorInReply(line.error)
        parts = self.parts
        parts.model = parts.model or line.model or ""
        parts.created = parts.created or _unix_seconds(line.created_at or "")
        if line.message is not None:
            parts.started = True
            self._take_message(line.message)
        parts.logprobs += logprobs_in(line.logprobs)
        if line.done:
            self._take_end(line)

    def _take_message(self, message: _Message) -> None:
        parts = self.parts
        if message.thinking:
            parts.add_reasoning(message.thinking)
        if message.content:
            parts.add_text(message.content)
        for call in message.tool_calls or ():
            given = call.function.arguments
            arguments = given if isinstance(given, str) else json.dumps(given or {})
            # calls come whole, and not all versions number them rightly
            parts.add_call(parts.calls, call_id=call.id or "", name=call.function.name, arguments=arguments)

    def _take_end(self, line: _Line) -> None:
        parts = self.parts
        reason = _REASONS.get(line.done_reason or "", "stop")
        parts.finish_reason = "tool_calls" if reason == "stop" and parts.calls else reason
        if line.prompt_eval_count is not None or line.eval_count is not None:
            prompt, answer = line.prompt_eval_count or 0, line.eval_count or 0
            parts.usage = usage_of(prompt, answer)
        self._is_done = True


def read_as(shape: type[Shape], data: bytes) -> Shape:
    """Return what the server sent.

    Raises:
        ReplyError: It has another shape.
    """
    try:
        return shape.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{place + ': ' if place else ''}{first['msg']}") from None


def _unix_seconds(text: str) -> int:
    try:
        return max(0, int(dt.datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return 0
