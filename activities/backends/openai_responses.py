"""Adapter for OpenAI's Responses API, which is another way to talk to the models of an OpenAI-compatible server."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from activities.backends.base import Tell
from activities.backends.openai import DONE, OpenAIBackend
from activities.backends.openai_responses_request import REASONING, NoWord, request_body
from activities.backends.reply import ErrorInReply, ReplyError, ReplyParts, count_in, logprobs_in, usage_of
from activities.backends.transport import Outgoing
from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.errors import BackendError

_STATUS = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
}
"""What an error inside a stream would have as its status outside of one."""
_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
_OVER = ("response.completed", "response.incomplete", "response.failed")


class ResponsesBackend(OpenAIBackend):
    """One OpenAI-compatible backend that is asked for responses instead of chat completions."""

    chat_path: ClassVar[str] = "/responses"

    def outgoing(self, params: ChatParams) -> Outgoing:
        """See `HttpBackend`."""
        try:
            return Outgoing(self.chat_path, request_body(params))
        except NoWord as missing:
            raise BackendError(
                f"backend '{self.name}' has no word for {missing}",
                code="backend.refused",
                hint=missing.hint,
                details={"backend": self.name},
            ) from missing

    def reader(self, tell: Tell) -> ResponsesReader:  # type: ignore[override]
        """See `HttpBackend`."""
        return ResponsesReader(tell)


# --- the reply -------------------------------------------------------------------------------------------------------


class _Shape(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


_S = TypeVar("_S", bound=_Shape)


class _Part(_Shape):
    type: str = ""
    text: str = ""
    refusal: str = ""
    logprobs: list[Any] = Field(default_factory=list)


class _Item(_Shape):
    """An item of the output: a message, a call of a function, thoughts, or another one, which is left out."""

    type: str = ""
    id: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    encrypted_content: str = ""
    content: list[_Part] = Field(default_factory=list)
    summary: list[_Part] = Field(default_factory=list)


class _Usage(_Shape):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: Any = None
    output_tokens_details: Any = None


class _Response(_Shape):
    id: str = ""
    model: str = ""
    created_at: float = 0
    status: str = ""
    output: list[_Item] = Field(default_factory=list)
    usage: _Usage | None = None
    incomplete_details: dict[str, Any] = Field(default_factory=dict)
    error: Any = None


class _Event(_Shape):
    type: str = ""
    object: str = ""
    output_index: int = 0
    delta: Any = ""
    logprobs: list[Any] = Field(default_factory=list)
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: str = ""


class _Parts(ReplyParts):
    """A reply whose sealed thoughts are kept where the model wants to see them again: before its tool calls."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(tell)
        self.thoughts: list[dict[str, Any]] = []

    def result(self, *, backend: str, model: str, now_s: int) -> ChatResult:
        """See `ReplyParts`."""
        result = super().result(backend=backend, model=model, now_s=now_s)
        if not self.thoughts or not self.calls:
            return result
        return dataclasses.replace(result, message={**result.message, REASONING: self.thoughts})


class ResponsesReader:
    """Reads a response, streamed or whole; events and items of unknown types are left out. See `ReplyReader`."""

    def __init__(self, tell: Tell) -> None:
        self._parts = _Parts(tell)
        self.parts: ReplyParts = self._parts
        self.is_whole = False
        self._calls: dict[int, int] = {}
        self._told: set[int] = set()

    def take(self, data: bytes) -> None:
        """See `ReplyReader`."""
        if data == DONE:
            return
        event = _read(_Event, data)
        if event.type == "" and event.error is not None:
            raise ErrorInReply(_with_status(event.error))
        if event.type == "error":
            raise ErrorInReply(_with_status(event.error or {"code": event.code, "message": event.message}))
        if event.type == "" or event.object == "response":
            self._take_whole(_read(_Response, data))
        elif event.type in _OVER and event.response is not None:
            self._take_end(event.response)
        elif event.response is not None:
            self._take_head(event.response)
        elif event.item is not None:
            self._take_item(event.output_index, event.item, is_whole=event.type == "response.output_item.done")
        elif isinstance(event.delta, str):
            self._take_more(event)

    def _take_more(self, event: _Event) -> None:
        index, parts = event.output_index, self.parts
        match event.type:
            case "response.output_text.delta":
                parts.add_text(str(event.delta))
                parts.logprobs += logprobs_in(event.logprobs)
            case "response.refusal.delta":
                parts.add_refusal(str(event.delta))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                parts.add_reasoning(str(event.delta))
            case "response.function_call_arguments.delta" if index in self._calls:
                parts.add_call(self._calls[index], arguments=str(event.delta))
            case _:
                return
        parts.started = True
        # empty pieces are no reason to leave out what the item itself brings
        self._told |= {index} if event.delta else set()

    def _take_item(self, index: int, item: _Item, *, is_whole: bool) -> None:
        """Take an item that begins, or that is whole; of the latter only what no piece has brought."""
        parts = self.parts
        parts.started = True
        if item.type == "function_call" and index not in self._calls:
            self._calls[index] = parts.calls
            parts.add_call(self._calls[index], call_id=item.call_id or item.id, name=item.name)
        if not is_whole:
            return
        if item.type == "reasoning" and item.encrypted_content:
            summary = [{"type": "summary_text", "text": part.text} for part in item.summary]
            kept = {"type": "reasoning", "id": item.id, "summary": summary, "encrypted_content": item.encrypted_content}
            self._parts.thoughts.append(kept)
        if index in self._told:
            return
        self._told.add(index)
        if item.type == "function_call":
            parts.add_call(self._calls[index], arguments=item.arguments)
        elif item.type == "reasoning":
            for part in (*item.summary, *item.content):
                parts.add_reasoning(part.text)
        elif item.type == "message":
            for part in item.content:
                self._take_part(part)

    def _take_part(self, part: _Part) -> None:
        if part.refusal:
            self.parts.add_refusal(part.refusal)
        self.parts.add_text(part.text)
        self.parts.logprobs += logprobs_in(part.logprobs)

    def _take_head(self, response: _Response) -> None:
        parts = self.parts
        parts.id = parts.id or response.id
        parts.model = response.model or parts.model
        parts.created = parts.created or int(response.created_at)

    def _take_whole(self, response: _Response) -> None:
        for index, item in enumerate(response.output):
            self._take_item(index, item, is_whole=True)
        self._take_end(response)

    def _take_end(self, response: _Response) -> None:
        self._take_head(response)
        if response.error or response.status == "failed":
            raise ErrorInReply(_with_status(response.error or {"code": "server_error", "message": "it failed"}))
        parts = self.parts
        # some servers bring an item in the end only
        for index, item in enumerate(response.output):
            if index not in self._told:
                self._take_item(index, item, is_whole=True)
        if response.status:
            parts.started = True
        if response.status == "incomplete":
            parts.finish_reason = _INCOMPLETE.get(str(response.incomplete_details.get("reason")), "length")
        if response.usage is not None:
            used = response.usage
            parts.usage = usage_of(
                used.input_tokens,
                used.output_tokens,
                total=used.total_tokens,
                cached=count_in(used.input_tokens_details, "cached_tokens"),
                reasoning=count_in(used.output_tokens_details, "reasoning_tokens"),
            )
        self.is_whole = True


def _with_status(error: Any) -> Any:
    """Return an error of a stream with the status it would have outside of one."""
    if not isinstance(error, dict):
        return error
    code = str(error.get("code") or error.get("type") or "")
    status = _STATUS.get(code, 400 if code.startswith("invalid") else 500)
    return {**error, "status": status}


def _read(shape: type[_S], told: bytes) -> _S:
    try:
        return shape.model_validate_json(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{place + ': ' if place else ''}{first['msg']}") from None
