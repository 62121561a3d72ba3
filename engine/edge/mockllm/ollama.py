"""The mock server as an Ollama one: /api/chat, /api/tags and /api/version; `ollama_routes` has what stands beside."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from engine.core.values import Json, compact_json
from engine.edge.mockllm.dialects import Asked, NotAskedRight
from engine.edge.mockllm.replies import Reply, json_bytes, pieces_of
from engine.edge.mockllm.script import MockRule, MockScript

CHAT = "/api/chat"
VERSION = "0.13.0"
"""A version that has all members which this dialect knows."""

IMAGE_TYPES = {"/9j/": "image/jpeg", "R0lG": "image/gif", "UklG": "image/webp"}
"""By how the base64 text of an image begins; all others count as PNG."""

DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "mock",
    "families": ["mock"],
    "parameter_size": "0B",
    "quantization_level": "F16",
}
EPOCH = "1970-01-01T00:00:00Z"


class OllamaDialect:
    """See `Dialect`."""

    stream_type = "application/x-ndjson"

    def is_chat(self, method: str, path: str) -> bool:
        """See `Dialect`."""
        return (method, path) == ("POST", CHAT)

    def asked(self, path: str, body: Any) -> Asked:
        """See `Dialect`."""
        del path
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list):
            raise NotAskedRight("the body must be JSON with a list 'messages'")
        rest = {name: value for name, value in body.items() if name not in ("messages", "model", "stream")}
        neutral = [_neutral(message) for message in messages]
        return Asked(plain_name(str(body.get("model") or "")), neutral, body.get("stream") is not False, rest)

    def whole(self, reply: Reply) -> bytes:
        """See `Dialect`."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or ""}
        if reply.tool_calls:
            message["tool_calls"] = [_call(index, call) for index, call in enumerate(reply.tool_calls)]
        return json_bytes(_end(reply, message))

    def chunks(self, reply: Reply) -> Iterator[bytes]:
        """See `Dialect`; a tool call comes whole, as Ollama has no words for a part of one."""
        if reply.reasoning:
            thought = {"role": "assistant", "content": "", "thinking": reply.reasoning}
            yield _line(_head(reply) | {"message": thought, "done": False})
        for piece in pieces_of(reply.text or "", reply.chunk_chars):
            if piece:
                told = {"logprobs": reply.likely(piece)} if reply.logprob is not None else {}
                yield _line(_head(reply) | {"message": {"role": "assistant", "content": piece}, "done": False} | told)
        for index, call in enumerate(reply.tool_calls):
            message = {"role": "assistant", "content": "", "tool_calls": [_call(index, call)]}
            yield _line(_head(reply) | {"message": message, "done": False})

    def ending(self, reply: Reply, asked: Asked) -> bytes:
        """See `Dialect`."""
        del asked
        return _line(_end(reply, {"role": "assistant", "content": ""}))

    def broken(self) -> bytes:
        """See `Dialect`."""
        return b'{"model": "m", "message": {"role": "assistant", "content": "bro\n'

    def refusal(self, rule: MockRule) -> bytes:
        """See `Dialect`."""
        return json_bytes({"error": f"scripted status {rule.status or 500}"})

    def listing(self, method: str, path: str, script: MockScript) -> Json:
        """See `Dialect`."""
        if (method, path) == ("GET", "/api/tags"):
            return {"models": [_model(name) for name in script.listed()]}
        if (method, path) == ("GET", "/api/version"):
            return {"version": VERSION}
        return None


# --- the call --------------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """Return the name of a model without the tag that it has anyway."""
    return name.removesuffix(":latest")


def _neutral(message: Any) -> Any:
    """Return a message OpenAI-shaped."""
    if not isinstance(message, dict):
        return message
    told = {name: value for name, value in message.items() if name not in ("images", "tool_calls", "tool_name")}
    if images := message.get("images"):
        text = [{"type": "text", "text": message.get("content")}] if message.get("content") else []
        told["content"] = [*text, *({"type": "image_url", "image_url": {"url": _url(image)}} for image in images)]
    if calls := message.get("tool_calls"):
        told["tool_calls"] = [_neutral_call(call) for call in calls]
    if "tool_name" in message:
        told["name"] = message["tool_name"]
    return told


def _neutral_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
        raise NotAskedRight("the arguments of a tool call must be an object")
    given = {"name": function.get("name"), "arguments": compact_json(function["arguments"])}
    return {"id": call.get("id", ""), "type": "function", "function": given}


def _url(image: Any) -> str:
    if not isinstance(image, str) or ":" in image:
        raise NotAskedRight("an image must be base64 text")
    return f"data:{IMAGE_TYPES.get(image[:4], 'image/png')};base64,{image}"


# --- the reply -------------------------------------------------------------------------------------------------------


def _head(reply: Reply) -> dict[str, Any]:
    created = dt.datetime.fromtimestamp(reply.created, dt.UTC)
    return {"model": reply.model, "created_at": f"{created:%Y-%m-%dT%H:%M:%S}.000000000Z"}


def _end(reply: Reply, message: dict[str, Any]) -> dict[str, Any]:
    # Ollama ends a reply with tool calls as any other one
    reason = "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
    return _head(reply) | {
        "message": message,
        "done": True,
        "done_reason": reason,
        "total_duration": 3_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": reply.usage["prompt_tokens"],
        "prompt_eval_duration": 1_000_000,
        "eval_count": reply.usage["completion_tokens"],
        "eval_duration": 1_000_000,
    }


def _call(index: int, call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    given = {"index": index, "name": function["name"], "arguments": json.loads(function["arguments"])}
    return {"id": call["id"], "function": given}


def _line(value: dict[str, Any]) -> bytes:
    return json_bytes(value) + b"\n"


def _model(name: str) -> dict[str, Any]:
    tagged = name if ":" in name else f"{name}:latest"
    return {"name": tagged, "model": tagged, "modified_at": EPOCH, "size": 0, "digest": "0" * 64, "details": DETAILS}
