"""Adapter for any server with an OpenAI-compatible /chat/completions; streams, so that a cancel reaches the server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from activities.backends.base import Embeddings, Tell
from activities.backends.reply import ErrorInReply, ReplyError, ReplyParts, count_in, logprobs_in, usage_of
from activities.backends.transport import HttpBackend, Outgoing
from activities.backends.vectors import numbers_of
from engine.core.contracts.activities import ChatParams, Usage
from engine.core.values import Json

DONE = b"[DONE]"
FOREIGN = ("thinking_blocks", "extra_content", "reasoning_items")
"""Members of assistant messages and of their tool calls that only other adapters understand."""
_CACHED = ("prompt_cache_hit_tokens", "cached_tokens")
"""What servers call prompt tokens of their cache that do not name them in `prompt_tokens_details`."""


class OpenAIBackend(HttpBackend):
    """One OpenAI-compatible backend."""

    chat_path: ClassVar[str] = "/chat/completions"
    embed_texts: ClassVar[int] = 256

    def outgoing(self, params: ChatParams) -> Outgoing:
        """See `HttpBackend`."""
        return Outgoing(self.chat_path, request_body(params))

    def reader(self, tell: Tell) -> OpenAIReader:
        """See `HttpBackend`."""
        return OpenAIReader(tell)

    def key_headers(self, key: str) -> dict[str, str]:
        """See `HttpBackend`."""
        return {"Authorization": f"Bearer {key}"}

    def models_in(self, body: Any) -> list[str]:
        """See `HttpBackend`."""
        return [str(item["id"]) for item in body["data"]]

    def embed_call(self, model: str, texts: Sequence[str], settings: Mapping[str, Any]) -> Outgoing:
        """See `HttpBackend`."""
        body = {"encoding_format": "float", **settings, "model": model, "input": list(texts)}
        return Outgoing("/embeddings", body)

    def embedded_in(self, body: Any) -> Embeddings:
        """See `HttpBackend`; some servers answer out of order."""
        items = sorted(body["data"], key=lambda item: int(item["index"]))
        tokens = (body.get("usage") or {}).get("prompt_tokens")
        vectors = [numbers_of(item["embedding"]) for item in items]
        return Embeddings(str(body.get("model") or ""), vectors, None if tokens is None else int(tokens))


# --- the call --------------------------------------------------------------------------------------------------------


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
    messages = [_without_foreign(message) for message in params.messages]
    body.update(model=params.model, messages=messages, stream=True, stream_options={"include_usage": True})
    if params.tools:
        body["tools"] = params.tools
        if params.tool_choice is not None:
            body["tool_choice"] = params.tool_choice
    return body


def _without_foreign(message: Json) -> Json:
    """Leave out what other adapters keep in a conversation for their own provider: strict servers refuse it."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    kept = {key: value for key, value in message.items() if key not in FOREIGN}
    calls = kept.get("tool_calls")
    if isinstance(calls, list):
        kept["tool_calls"] = [
            {key: value for key, value in call.items() if key not in FOREIGN} if isinstance(call, dict) else call
            for call in calls
        ]
    return kept


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


# --- the reply -------------------------------------------------------------------------------------------------------


class _Function(BaseModel):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolCall(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Message(BaseModel):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None


class _Chunk(BaseModel):
    """A completion or one chunk of it; a whole completion has `message` where a chunk has `delta`."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class OpenAIReader:
    """Reads a completion, streamed or whole; choices other than the first are left out. See `ReplyReader`."""

    def __init__(self, tell: Tell) -> None:
        self.parts = ReplyParts(tell)
        self._is_done = False

    @property
    def is_whole(self) -> bool:
        """See `ReplyReader`."""
        return self._is_done or bool(self.parts.finish_reason)

    def take(self, data: bytes) -> None:
        """See `ReplyReader`."""
        if data == DONE:
            self._is_done = True
            return
        chunk = _read_chunk(data)
        if chunk.error:
            raise ErrorInReply(chunk.error)
        parts = self.parts
        parts.id = parts.id or chunk.id or ""
        parts.model = parts.model or chunk.model or ""
        parts.created = parts.created or int(chunk.created or 0)
        if chunk.usage is not None:
            parts.usage = _counted(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            parts.started = True
            parts.finish_reason = choice.finish_reason or parts.finish_reason
            if isinstance(choice.logprobs, dict):
                parts.logprobs += logprobs_in(choice.logprobs.get("content"))
            message = choice.delta or choice.message
            if message is not None:
                self._take_message(message)

    def _take_message(self, message: _Message) -> None:
        # servers name it in either way
        self.parts.add_reasoning(_text_of(message.reasoning_content) or _text_of(message.reasoning))
        self.parts.add_text(_text_of(message.content))
        if message.refusal:
            self.parts.add_refusal(message.refusal)
        for position, call in enumerate(message.tool_calls or ()):
            self._take_call(call, position)

    def _take_call(self, call: _ToolCall, position: int) -> None:
        index, parts = call.index, self.parts
        if index is None:
            # servers that number nothing send either whole calls, or parts of the last one without an id
            index = parts.calls if call.id or not parts.calls or position else parts.last_call
        function = call.function or _Function()
        given = function.arguments
        arguments = json.dumps(given) if isinstance(given, dict) else given or ""
        parts.add_call(index, call_id=call.id or "", name=function.name or "", arguments=arguments)


def _counted(usage: _Usage) -> Usage:
    told = usage.model_dump()
    prompt, answer = told["prompt_tokens_details"], told["completion_tokens_details"]
    # servers name what came from the cache in three ways, some in several at once
    cached = (count_in(prompt, "cached_tokens"), *(count_in(told, name) for name in _CACHED))
    reasoning = count_in(answer, "reasoning_tokens")
    sums, total = usage.prompt_tokens + usage.completion_tokens, usage.total_tokens
    # some count thoughts beside the reply and not as a part of it, which only the total shows
    beside = reasoning if reasoning > 0 and total == sums + reasoning else 0
    return usage_of(
        usage.prompt_tokens,
        usage.completion_tokens + beside,
        total=total,
        cached=max(cached),
        cache_write=count_in(prompt, "cache_write_tokens"),
        reasoning=reasoning,
    )


def _read_chunk(data: bytes) -> _Chunk:
    try:
        return _Chunk.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{place + ': ' if place else ''}{first['msg']}") from None


def _text_of(content: Any) -> str:
    """Return the text of a content that is text, a list of parts, or absent."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
