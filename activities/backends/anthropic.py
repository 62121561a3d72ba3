"""Adapter for Anthropic's Messages API, /v1/messages; streams, so that a cancel reaches the server."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError, model_validator

from activities.backends.anthropic_messages import THINKING, NoWord
from activities.backends.anthropic_request import beta_features, request_body
from activities.backends.base import ReadSecret, Tell
from activities.backends.reply import ErrorInReply, ReplyError, ReplyParts, count_in, usage_of
from activities.backends.transport import HttpBackend, Outgoing
from activities.net import header_text
from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.errors import BackendError
from engine.core.values import compact_json
from engine.settings import BackendConfig

VERSION = "2023-06-01"
"""The version of the API that is spoken here."""

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    # the service broke off between calls of its own tools: what came is not all
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error has outside of a stream."""


class AnthropicBackend(HttpBackend):
    """One server of the Messages API; its base URL is `https://api.anthropic.com`, with or without `/v1`."""

    chat_path: ClassVar[str] = "/v1/messages"
    models_path: ClassVar[str] = "/v1/models?limit=1000"  # a page has twenty otherwise

    def __init__(self, name: str, config: BackendConfig, read_secret: ReadSecret | None = None) -> None:
        """See `HttpBackend`."""
        super().__init__(name, config, read_secret)
        self._base_url = self._base_url.removesuffix("/v1")

    def outgoing(self, params: ChatParams) -> Outgoing:
        """See `HttpBackend`."""
        try:
            body = request_body(params)
        except NoWord as missing:
            raise BackendError(
                f"backend '{self.name}' has no word for {missing}",
                code="backend.refused",
                hint=missing.hint,
                details={"backend": self.name},
            ) from missing
        betas = beta_features(params.settings)
        return Outgoing(self.chat_path, body, {"anthropic-beta": header_text(betas)} if betas else {})

    def reader(self, tell: Tell) -> AnthropicReader:
        """See `HttpBackend`."""
        return AnthropicReader(tell)

    def key_headers(self, key: str) -> dict[str, str]:
        """See `HttpBackend`."""
        return {"x-api-key": key}

    def models_in(self, body: Any) -> list[str]:
        """See `HttpBackend`; models that are no longer served are left out."""
        return [str(item["id"]) for item in body["data"] if _is_served(item)]

    async def has_model(self, name: str) -> bool:
        """See `HttpBackend`; a model goes by shorter names as well, and answers with its full one."""
        response = await self._fetch("GET", f"/v1/models/{quote(name, safe='')}")
        try:
            body = response.json()
            return response.is_success and str(body["type"]) == "model" and _is_served(body)
        except (ValueError, KeyError, TypeError):
            return False

    async def _headers(self) -> dict[str, str]:
        return {**(await super()._headers()), "anthropic-version": VERSION}


def _is_served(model: Any) -> bool:
    return not ("lifecycle" in model and model["lifecycle"] == "retired")


# --- the reply -------------------------------------------------------------------------------------------------------


class _Shape(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        # servers that only resemble the original send null for what they do not have
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


_S = TypeVar("_S", bound=_Shape)


class _Usage(_Shape):
    """Token counts so far; those that an event leaves out are as before."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: Any = None


class _Block(_Shape):
    """A block of content, or more of one."""

    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""


class _StopDetails(_Shape):
    explanation: str = ""


class _End(_Shape):
    stop_reason: str = ""
    stop_details: _StopDetails | None = None


class _Message(_End):
    id: str = ""
    model: str = ""
    content: list[_Block] = Field(default_factory=list)
    usage: _Usage | None = None


class _Event(_Shape):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: dict[str, Any] = Field(default_factory=dict)
    usage: _Usage | None = None
    error: Any = None


class _Parts(ReplyParts):
    """A reply whose thoughts are kept where the model wants to see them again: before its tool calls."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(tell)
        self.thoughts: dict[int, dict[str, Any]] = {}

    def result(self, *, backend: str, model: str, now_s: int) -> ChatResult:
        """See `ReplyParts`."""
        result = super().result(backend=backend, model=model, now_s=now_s)
        # without its signature a thought is refused
        thoughts = [thought for _, thought in sorted(self.thoughts.items()) if thought.get("signature", "-")]
        if not thoughts or not self.calls:
            return result
        return dataclasses.replace(result, message={**result.message, THINKING: thoughts})


class AnthropicReader:
    """Reads a message, streamed or whole; events and blocks of unknown types are left out. See `ReplyReader`."""

    def __init__(self, tell: Tell) -> None:
        self._parts = _Parts(tell)
        self.parts: ReplyParts = self._parts
        self.is_whole = False
        self._usage = _Usage()
        self._calls: dict[int, int] = {}
        self._whole_inputs: dict[int, dict[str, Any]] = {}

    def take(self, data: bytes) -> None:
        """See `ReplyReader`."""
        event = _read(_Event, data)
        if event.type == "message":
            self._take_message(_read(_Message, data))
        elif event.type == "message_start" and event.message is not None:
            self._take_message(event.message)
        elif event.type == "content_block_start" and event.content_block is not None:
            self._start_block(event.index, event.content_block)
        elif event.type == "content_block_delta":
            self._take_more(event.index, _read(_Block, event.delta))
        elif event.type == "content_block_stop":
            self._end_block(event.index)
        elif event.type == "message_delta":
            self._take_end(_read(_End, event.delta))
            self._count(event.usage)
        elif event.type == "message_stop":
            self.is_whole = True
        elif event.type == "error":
            raise ErrorInReply(_with_status(event.error))

    def _take_message(self, message: _Message) -> None:
        parts = self.parts
        parts.id, parts.model, parts.started = message.id, message.model, True
        for index, block in enumerate(message.content):
            self._start_block(index, block)
            self._end_block(index)
        self._take_end(message)
        self._count(message.usage)

    def _start_block(self, index: int, block: _Block) -> None:
        if block.type == "tool_use":
            self._calls[index] = self.parts.calls
            self._whole_inputs[index] = block.input
            self.parts.add_call(self._calls[index], call_id=block.id, name=block.name)
        elif block.type == "thinking":
            self._parts.thoughts[index] = {"type": "thinking", "thinking": "", "signature": ""}
            self._take_more(index, block)
        elif block.type == "redacted_thinking":
            self._parts.thoughts[index] = {"type": "redacted_thinking", "data": block.data}
        elif block.type == "text":
            self.parts.add_text(block.text)

    def _take_more(self, index: int, more: _Block) -> None:
        if more.type == "text_delta":
            self.parts.add_text(more.text)
        elif more.type == "input_json_delta" and index in self._calls:
            if more.partial_json:
                self._whole_inputs.pop(index, None)
            self.parts.add_call(self._calls[index], arguments=more.partial_json)
        elif more.type in ("thinking", "thinking_delta", "signature_delta"):
            thought = self._parts.thoughts.get(index)
            if thought is not None:
                thought["thinking"] += more.thinking
                thought["signature"] += more.signature
            self.parts.add_reasoning(more.thinking)

    def _end_block(self, index: int) -> None:
        # whole messages, and servers that do not cut arguments, bring them with the block itself
        given = self._whole_inputs.pop(index, None)
        if given:
            self.parts.add_call(self._calls[index], arguments=compact_json(given))

    def _take_end(self, end: _End) -> None:
        self.parts.finish_reason = FINISH.get(end.stop_reason, self.parts.finish_reason)
        if end.stop_reason == "refusal" and end.stop_details is not None:
            self.parts.add_refusal(end.stop_details.explanation)

    def _count(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        self._usage = now = self._usage.model_copy(update=usage.model_dump(exclude_none=True))
        # what was read from the cache, or written to it, is not among the input tokens
        written, read = now.cache_creation_input_tokens or 0, now.cache_read_input_tokens or 0
        self.parts.usage = usage_of(
            (now.input_tokens or 0) + written + read,
            now.output_tokens or 0,
            cached=read,
            cache_write=written,
            reasoning=count_in(now.output_tokens_details, "thinking_tokens"),
        )


def _with_status(error: Any) -> Any:
    """Return an error of a stream with the status it would have outside of one."""
    status = STATUS.get(str(error.get("type"))) if isinstance(error, dict) else None
    return error if status is None else {**error, "status": status}


def _read(shape: type[_S], told: bytes | dict[str, Any]) -> _S:
    try:
        return shape.model_validate_json(told) if isinstance(told, bytes) else shape.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{place + ': ' if place else ''}{first['msg']}") from None
