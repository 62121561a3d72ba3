"""The mock server as Anthropic's Messages API: /v1/messages and /v1/models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from engine.core.values import Json, compact_json
from engine.edge.mockllm.dialects import Asked, NotAskedRight
from engine.edge.mockllm.replies import Reply, json_bytes, pieces_of
from engine.edge.mockllm.script import MockRule, MockScript

CHAT = "/v1/messages"
MODELS = "/v1/models"
FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicDialect:
    """See `Dialect`."""

    stream_type = "text/event-stream; charset=utf-8"

    def is_chat(self, method: str, path: str) -> bool:
        """See `Dialect`."""
        return (method, path) == ("POST", CHAT)

    def asked(self, path: str, body: Any) -> Asked:
        """See `Dialect`."""
        del path
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
            raise NotAskedRight("the body must be JSON with a list 'messages' of objects")
        if not isinstance(body.get("max_tokens"), int):
            raise NotAskedRight("max_tokens: Field required")
        read = [message for turn in messages for message in _messages(turn)]
        if body.get("system"):
            read.insert(0, {"role": "system", "content": _content(_blocks(body["system"]))})
        rest = {name: value for name, value in body.items() if name not in ("messages", "model", "stream", "system")}
        return Asked(str(body.get("model") or ""), read, bool(body.get("stream")), rest)

    def whole(self, reply: Reply) -> bytes:
        """See `Dialect`."""
        blocks: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text is not None else []
        blocks += [_call_head(call) | {"input": json.loads(call["function"]["arguments"])} for call in reply.tool_calls]
        return json_bytes(
            {
                **_head(reply),
                "content": blocks,
                "stop_reason": FINISH.get(reply.finish_reason, reply.finish_reason),
                "usage": _input_usage(reply) | _output_usage(reply),
            }
        )

    def chunks(self, reply: Reply) -> Iterator[bytes]:
        """See `Dialect`."""
        start = _head(reply) | {"content": [], "usage": _input_usage(reply) | {"output_tokens": 1}}
        lead = _event("message_start", message=start) + _event("ping")
        index = 0
        if reply.reasoning:
            thought = {"type": "thinking", "thinking": "", "signature": ""}
            said = [
                {"type": "thinking_delta", "thinking": reply.reasoning},
                {"type": "signature_delta", "signature": "signed"},
            ]
            for part in _block_events(index, thought, said):
                yield lead + part
                lead = b""
            index += 1
        if reply.text is not None:
            text_block = {"type": "text", "text": ""}
            pieces = pieces_of(reply.text, reply.chunk_chars)
            for part in _block_events(index, text_block, [{"type": "text_delta", "text": piece} for piece in pieces]):
                yield lead + part
                lead = b""
            index += 1
        for call in reply.tool_calls:
            pieces = pieces_of(call["function"]["arguments"], reply.chunk_chars)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            for part in _block_events(index, _call_head(call) | {"input": {}}, deltas):
                yield lead + part
                lead = b""
            index += 1

    def ending(self, reply: Reply, asked: Asked) -> bytes:
        """See `Dialect`."""
        del asked
        delta = {"stop_reason": FINISH.get(reply.finish_reason, reply.finish_reason), "stop_sequence": None}
        return _event("message_delta", delta=delta, usage=_output_usage(reply)) + _event("message_stop")

    def broken(self) -> bytes:
        """See `Dialect`."""
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": {"text": "bro\n\n'

    def refusal(self, rule: MockRule) -> bytes:
        """See `Dialect`."""
        status = rule.status or 500
        kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return json_bytes({"type": "error", "error": {"type": kind, "message": f"scripted status {status}"}})

    def listing(self, method: str, path: str, script: MockScript) -> Json:
        """See `Dialect`."""
        if (method, path) == ("GET", MODELS):
            names = script.listed()
            data = [_model(name) for name in names]
            return {"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]}
        if method == "GET" and path.startswith(f"{MODELS}/"):
            name = path.removeprefix(f"{MODELS}/")
            if script.models and name not in script.models:
                raise KeyError(name)
            return _model(name)
        return None


# --- what is asked ---------------------------------------------------------------------------------------------------


def _blocks(content: Any) -> list[dict[str, Any]]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise NotAskedRight("content must be text or a list of blocks")
    return blocks


def _messages(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the OpenAI-shaped messages that a turn stands for; the results of tools are messages of their own."""
    role, blocks = turn.get("role"), _blocks(turn.get("content"))
    if role == "assistant":
        said: dict[str, Any] = {"role": role, "content": _content(_of_type(blocks, "text")) or None}
        calls = [_call(block) for block in _of_type(blocks, "tool_use")]
        return [said | {"tool_calls": calls}] if calls else [said]
    if role != "user":
        raise NotAskedRight(f"messages: Unexpected role {compact_json(role)}")
    results = [
        {
            "role": "tool",
            "tool_call_id": block.get("tool_use_id"),
            "content": _content(_blocks(block.get("content", ""))),
        }
        for block in _of_type(blocks, "tool_result")
    ]
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    return [*results, {"role": "user", "content": _content(rest)}] if rest else results


def _of_type(blocks: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [block for block in blocks if block.get("type") == kind]


def _content(blocks: list[dict[str, Any]]) -> Any:
    """Return blocks as OpenAI-shaped content: text if there is nothing else, else a list of parts."""
    if all(block.get("type") == "text" for block in blocks):
        return "\n".join(str(block.get("text", "")) for block in blocks)
    return [_part(block) for block in blocks]


def _part(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    if block.get("type") != "image" or not isinstance(source, dict):
        return {"type": "text", "text": block["text"]} if block.get("type") == "text" else block
    inline = f"data:{source.get('media_type')};base64,{source.get('data')}"
    return {"type": "image_url", "image_url": {"url": source.get("url") or inline}}


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block.get("name"), "arguments": compact_json(block.get("input"))}
    return {"id": block.get("id"), "type": "function", "function": function}


# --- what is answered ------------------------------------------------------------------------------------------------


def _event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + json_bytes({"type": kind, **members}) + b"\n\n"


def _block_events(index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the events of a block: its start stands before its first part, its end behind its last."""
    for number, delta in enumerate(deltas, start=1):
        start = _event("content_block_start", index=index, content_block=block) if number == 1 else b""
        end = _event("content_block_stop", index=index) if number == len(deltas) else b""
        yield start + _event("content_block_delta", index=index, delta=delta) + end


def _head(reply: Reply) -> dict[str, Any]:
    return {
        "id": reply.id.replace("chatcmpl-", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _input_usage(reply: Reply) -> dict[str, Any]:
    read, written = reply.usage["cached_tokens"], reply.usage["cache_write_tokens"]
    return {
        # what was read from the cache, or written to it, is not among the input tokens
        "input_tokens": reply.usage["prompt_tokens"] - written - read,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }


def _output_usage(reply: Reply) -> dict[str, Any]:
    thoughts = reply.usage["reasoning_tokens"]
    details = {"output_tokens_details": {"thinking_tokens": thoughts}} if thoughts else {}
    return {"output_tokens": reply.usage["completion_tokens"], **details}


def _call_head(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]}


def _model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
