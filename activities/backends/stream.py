"""Reads an OpenAI-shaped chat completion, streamed or whole, into one ChatResult."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, ValidationError

from activities.backends.base import Tell, tell_nobody
from engine.core.contracts.activities import ChatResult, Usage

DONE = b"[DONE]"


class ReplyError(Exception):
    """The reply of a server has not the agreed shape; the text says what is wrong."""


class TooLarge(ReplyError):
    """The reply is larger than we take."""


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


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Chunk(BaseModel):
    """A completion or one chunk of it; a whole completion has `message` where a chunk has `delta`."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


def read_chunk(data: bytes) -> Chunk:
    """Parse the JSON of a completion or a chunk.

    Raises:
        ReplyError: If it is no JSON, or not of the agreed shape.
    """
    try:
        return Chunk.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{place + ': ' if place else ''}{first['msg']}") from None


async def read_events(parts: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[bytes]:
    """Cut a server-sent event stream into the data of its events.

    Lines are cut at CR and LF bytes only: httpx's own line reader also cuts at U+2028 and the like, which stand
    unescaped in the JSON of several servers.

    Args:
        parts: The body as it arrives.
        max_bytes: Most bytes of the body.

    Yields:
        The data of each event that has any.

    Raises:
        TooLarge: If the body passes `max_bytes`.
    """
    buffer, data, total = b"", [], 0
    async for part in parts:
        total += len(part)
        if total > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
        buffer += part
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
    last = buffer.removesuffix(b"\r")
    if last.startswith(b"data:"):
        data.append(last[5:].removeprefix(b" "))
    if data:
        yield b"\n".join(data)


class Assembler:
    """Puts the chunks of one completion together; choices other than the first are left out.

    Attributes:
        finish_reason: The server's, or empty as long as it named none.
        started: Whether a choice has come.

    Args:
        tell: Takes what the model writes, as it comes.
    """

    def __init__(self, tell: Tell = tell_nobody) -> None:
        self._tell = tell
        self.finish_reason = ""
        self.started = False
        self._id = ""
        self._model = ""
        self._created = 0
        self._usage: Usage | None = None
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk, or the whole completion as one."""
        self._id = self._id or chunk.id or ""
        self._model = self._model or chunk.model or ""
        self._created = self._created or int(chunk.created or 0)
        if chunk.usage is not None:
            usage = chunk.usage
            total = usage.total_tokens or usage.prompt_tokens + usage.completion_tokens
            self._usage = Usage(
                prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=total
            )
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            self.started = True
            self.finish_reason = choice.finish_reason or self.finish_reason
            message = choice.delta or choice.message
            if message is not None:
                self._add_message(message)

    def _add_message(self, message: _Message) -> None:
        # servers name it in either way; it is shown while it comes and is no part of the reply
        self._tell("reasoning", _text_of(message.reasoning_content) or _text_of(message.reasoning), 0, "")
        text = _text_of(message.content)
        self._text.append(text)
        self._tell("content", text, 0, "")
        if message.refusal:
            self._refusal.append(message.refusal)
        for position, call in enumerate(message.tool_calls or ()):
            self._add_call(call, position)

    def _add_call(self, call: _ToolCall, position: int) -> None:
        index = call.index
        if index is None:
            # servers that number nothing send either whole calls, or parts of the last one without an id
            index = len(self._calls) if call.id or not self._calls or position else max(self._calls)
        into = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        into["id"] = into["id"] or call.id or ""
        if call.function is not None:
            name, given = call.function.name or "", call.function.arguments
            arguments = json.dumps(given) if isinstance(given, dict) else given or ""
            into["name"] += name
            into["arguments"] += arguments
            self._tell("tool_call", name, index, "name")
            self._tell("tool_call", arguments, index, "arguments")

    def result(self, *, backend: str, model: str, now_s: int) -> ChatResult:
        """Return the completion.

        Args:
            backend: Name of the backend.
            model: The model that was asked for; used if the server names none.
            now_s: Unix time in seconds; used if the server names none.
        """
        text = "".join(self._text)
        calls = [self._call(index) for index in sorted(self._calls)]
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
        if self._refusal:
            message["refusal"] = "".join(self._refusal)
        if calls:
            message["tool_calls"] = calls
        return ChatResult(
            id=self._id,
            model=self._model or model,
            backend=backend,
            created=self._created or now_s,
            message=message,
            finish_reason=self.finish_reason or ("tool_calls" if calls else "stop"),
            usage=self._usage,
        )

    def _call(self, index: int) -> dict[str, Any]:
        call = self._calls[index]
        return {
            "id": call["id"] or f"call_{index}",
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"] or "{}"},
        }


def _text_of(content: Any) -> str:
    """Return the text of a content that is text, a list of parts, or absent."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
