"""The mock server as OpenAI's Responses API: /v1/responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.core.values import Json
from engine.edge.mockllm.dialects import Asked, NotAskedRight
from engine.edge.mockllm.openai import OpenAIDialect
from engine.edge.mockllm.replies import Reply, json_bytes, pieces_of
from engine.edge.mockllm.script import MockRule, MockScript

RESPONSES = "/v1/responses"
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_REFUSALS = OpenAIDialect()
_STREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "message": ("response.output_text", {"content": []}),
    "function_call": ("response.function_call_arguments", {"arguments": ""}),
    "reasoning": ("response.reasoning_summary_text", {"summary": []}),
}
"""What the pieces of an item are called, and what it has when it begins."""


class ResponsesDialect:
    """See `Dialect`."""

    stream_type = "text/event-stream; charset=utf-8"

    def is_chat(self, method: str, path: str) -> bool:
        """See `Dialect`."""
        return (method, path) == ("POST", RESPONSES)

    def asked(self, path: str, body: Any) -> Asked:
        """See `Dialect`."""
        del path
        given = body.get("input") if isinstance(body, dict) else None
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise NotAskedRight("the body must be JSON with 'input', a text or a list of items")
        read = _messages(items)
        if body.get("instructions"):
            read.insert(0, {"role": "system", "content": body["instructions"]})
        rest = {name: value for name, value in body.items() if name not in ("input", "model", "stream", "instructions")}
        return Asked(str(body.get("model") or ""), read, bool(body.get("stream")), rest)

    def whole(self, reply: Reply) -> bytes:
        """See `Dialect`."""
        return json_bytes(_response(reply, output=[item for _, item in _items(reply)]))

    def chunks(self, reply: Reply) -> Iterator[bytes]:
        """See `Dialect`."""
        lead = _event("response.created", response=_response(reply, status="in_progress"))
        for index, (part, item) in enumerate(_items(reply)):
            name, empty = _STREAMED[item["type"]]
            begun = item | empty
            lead += _event("response.output_item.added", output_index=index, item=begun)
            pieces = pieces_of(part, reply.chunk_chars)
            for number, piece in enumerate(pieces, start=1):
                about = {"logprobs": reply.likely(piece)} if item["type"] == "message" else {}
                told = _event(f"{name}.delta", output_index=index, item_id=item["id"], delta=piece, **about)
                end = b""
                if number == len(pieces):
                    end = _event(f"{name}.done", output_index=index, item_id=item["id"])
                    end += _event("response.output_item.done", output_index=index, item=item)
                yield lead + told + end
                lead = b""

    def ending(self, reply: Reply, asked: Asked) -> bytes:
        """See `Dialect`."""
        del asked
        response = _response(reply, output=[item for _, item in _items(reply)])
        return _event(f"response.{response['status']}", response=response)

    def broken(self) -> bytes:
        """See `Dialect`."""
        return b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "bro\n\n'

    def refusal(self, rule: MockRule) -> bytes:
        """See `Dialect`."""
        return _REFUSALS.refusal(rule)

    def listing(self, method: str, path: str, script: MockScript) -> Json:
        """See `Dialect`; models are listed where chat completions are."""
        del method, path, script
        return None


# --- what is asked ---------------------------------------------------------------------------------------------------


def _messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the OpenAI-shaped messages that items stand for; calls belong to the message before them."""
    read: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            read.append({"role": item.get("role"), "content": _content(item.get("content"))})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if not read or read[-1]["role"] != "assistant":
                read.append({"role": "assistant", "content": None})
            read[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            output = _content(item.get("output"))
            read.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
        elif kind != "reasoning":
            raise NotAskedRight(f"there is no input item of the type {kind!r}")
    return read


def _content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content if isinstance(part, dict)]
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") in ("input_text", "output_text"):
        return {"type": "text", "text": part.get("text")}
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return part


# --- what is answered ------------------------------------------------------------------------------------------------


def _event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + json_bytes({"type": kind, **members}) + b"\n\n"


def _items(reply: Reply) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the items of the output, each with the text that is streamed of it."""
    if reply.reasoning:
        thought = {"type": "reasoning", "id": f"rs_{reply.id}"}
        yield reply.reasoning, {**thought, "summary": [{"type": "summary_text", "text": reply.reasoning}]}
    if reply.text is not None:
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        message = {"type": "message", "id": f"msg_{reply.id}", "role": "assistant", "status": "completed"}
        yield reply.text, {**message, "content": [part]}
    for call in reply.tool_calls:
        made = {"type": "function_call", "id": f"fc_{call['id']}", "call_id": call["id"], "status": "completed"}
        yield call["function"]["arguments"], {**made, **call["function"]}


def _response(reply: Reply, *, status: str = "", output: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    reason = INCOMPLETE.get(reply.finish_reason)
    body: dict[str, Any] = {
        "id": reply.id.replace("chatcmpl-", "resp_"),
        "object": "response",
        "created_at": reply.created,
        "model": reply.model,
        "status": status or ("incomplete" if reason else "completed"),
        "error": None,
        "incomplete_details": {"reason": reason} if reason and not status else None,
        "output": output or [],
    }
    return body if status else body | {"usage": _usage(reply)}


def _usage(reply: Reply) -> dict[str, Any]:
    told = reply.usage
    return {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": told["cached_tokens"]},
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": told["reasoning_tokens"]},
        "total_tokens": told["total_tokens"],
    }
