"""Writes the mock server's replies: whole completions, event streams, refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.core.values import Json, compact_json
from engine.edge.mockllm.script import MockRule, fill

DONE = b"data: [DONE]\n\n"

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What one call is answered.

    Attributes:
        id: Id of the completion.
        model: The model that was asked for.
        text: The text; None if there are only tool calls.
        tool_calls: OpenAI-shaped tool calls.
        finish_reason: Why the reply ended.
        usage: {prompt_tokens, completion_tokens, total_tokens}.
        chunk_chars: Most characters of a streamed chunk; None = all in one.
        created: Unix time in seconds.
    """

    id: str
    model: str
    text: str | None
    tool_calls: list[dict[str, Any]]
    finish_reason: str
    usage: dict[str, int]
    chunk_chars: int | None
    created: int


def make_reply(rule: MockRule, *, model: str, messages: list[Any], last: str, n: int) -> Reply:
    """Make the reply of a rule to a call.

    Args:
        rule: The rule.
        model: The model that was asked for.
        messages: The conversation.
        last: Text of its last user message.
        n: Number of the call, from 1.
    """
    calls = [
        {
            "id": call.id or f"call_{n}_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": compact_json(fill(call.arguments, last=last, n=n))},
        }
        for index, call in enumerate(rule.tool_calls)
    ]
    text: str | None
    if "json_reply" in rule.model_fields_set:
        text = compact_json(fill(rule.json_reply, last=last, n=n))
    elif rule.reply is not None:
        text = str(fill(rule.reply, last=last, n=n))
    else:
        text = None if calls else last
    return Reply(
        id=f"chatcmpl-mock-{n}",
        model=model,
        text=text,
        tool_calls=calls,
        finish_reason=rule.finish_reason or ("tool_calls" if calls else "stop"),
        usage=_usage(rule, messages, text),
        chunk_chars=rule.stream.chunk_chars if rule.stream else None,
        created=int(time.time()),
    )


def completion(reply: Reply) -> bytes:
    """Return the body of a completion that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = reply.tool_calls
    return _bytes(
        {
            "id": reply.id,
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
            "usage": reply.usage,
        }
    )


def chunks(reply: Reply) -> Iterator[bytes]:
    """Yield the events of a streamed reply that carry text or tool calls, one per chunk."""
    role: dict[str, Any] = {"role": "assistant"}
    for piece in _pieces(reply.text or "", reply.chunk_chars):
        yield _event(reply, {**role, "content": piece})
        role = {}
    for index, call in enumerate(reply.tool_calls):
        function = call["function"]
        head = {"index": index, "id": call["id"], "type": "function"}
        for piece in _pieces(function["arguments"], reply.chunk_chars):
            part: dict[str, Any] = {"arguments": piece}
            if head.keys() > {"index"}:
                part["name"] = function["name"]
            yield _event(reply, {**role, "tool_calls": [{**head, "function": part}]})
            head, role = {"index": index}, {}


def ending(reply: Reply, *, with_usage: bool) -> bytes:
    """Return the last events of a streamed reply: finish reason, usage if asked for, [DONE]."""
    finish = _event(reply, {}, finish_reason=reply.finish_reason)
    if not with_usage:
        return finish + DONE
    body = _head(reply)
    body.update(choices=[], usage=reply.usage)
    return finish + b"data: " + _bytes(body) + b"\n\n" + DONE


def refusal(rule: MockRule) -> bytes:
    """Return the body of a refusal."""
    if rule.error is not None:
        return _bytes(rule.error)
    status = rule.status or 500
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return _bytes({"error": {"message": f"scripted status {status}", "type": kind, "code": None}})


def _event(reply: Reply, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
    body = _head(reply)
    body["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return b"data: " + _bytes(body) + b"\n\n"


def _head(reply: Reply) -> dict[str, Any]:
    return {"id": reply.id, "object": "chat.completion.chunk", "created": reply.created, "model": reply.model}


def _pieces(text: str, size: int | None) -> list[str]:
    if size is None or not text:
        return [text]
    return [text[start : start + size] for start in range(0, len(text), size)]


def _usage(rule: MockRule, messages: list[Any], text: str | None) -> dict[str, int]:
    if rule.usage is not None:
        prompt, answer = rule.usage.prompt_tokens, rule.usage.completion_tokens
    else:
        prompt = sum(len(text_of(message).split()) for message in messages)
        answer = max(1, len((text or "").split()))
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def text_of(message: Any) -> str:
    """Return the text of a message whose content is text or a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _bytes(value: Json) -> bytes:
    return compact_json(value).encode("utf-8", "surrogatepass")
