"""The mock server as an OpenAI-compatible one: /v1/chat/completions and /v1/models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.core.values import Json
from engine.edge.mockllm.dialects import Asked, NotAskedRight
from engine.edge.mockllm.replies import Reply, json_bytes, pieces_of
from engine.edge.mockllm.script import MockRule, MockScript

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
DONE = b"data: [DONE]\n\n"
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class OpenAIDialect:
    """See `Dialect`."""

    stream_type = "text/event-stream; charset=utf-8"

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
        return Asked(str(body.get("model") or ""), messages, bool(body.get("stream")), rest)

    def whole(self, reply: Reply) -> bytes:
        """See `Dialect`."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.tool_calls:
            message["tool_calls"] = reply.tool_calls
        return json_bytes(
            {
                "id": reply.id,
                "object": "chat.completion",
                "created": reply.created,
                "model": reply.model,
                "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
                "usage": _usage(reply),
            }
        )

    def chunks(self, reply: Reply) -> Iterator[bytes]:
        """See `Dialect`."""
        role: dict[str, Any] = {"role": "assistant"}
        if reply.reasoning:
            yield _event(reply, {**role, "reasoning_content": reply.reasoning})
            role = {}
        for piece in pieces_of(reply.text or "", reply.chunk_chars):
            yield _event(reply, {**role, "content": piece}, logprobs=reply.likely(piece))
            role = {}
        for index, call in enumerate(reply.tool_calls):
            function = call["function"]
            head = {"index": index, "id": call["id"], "type": "function"}
            for piece in pieces_of(function["arguments"], reply.chunk_chars):
                part: dict[str, Any] = {"arguments": piece}
                if head.keys() > {"index"}:
                    part["name"] = function["name"]
                yield _event(reply, {**role, "tool_calls": [{**head, "function": part}]})
                head, role = {"index": index}, {}

    def ending(self, reply: Reply, asked: Asked) -> bytes:
        """See `Dialect`."""
        finish = _event(reply, {}, finish_reason=reply.finish_reason)
        options = asked.rest.get("stream_options")
        if not (isinstance(options, dict) and options.get("include_usage")):
            return finish + DONE
        body = _head(reply) | {"choices": [], "usage": _usage(reply)}
        return finish + b"data: " + json_bytes(body) + b"\n\n" + DONE

    def broken(self) -> bytes:
        """See `Dialect`."""
        return b'data: {"choices": [{"index": 0, "delta": {"content": "bro\n\n'

    def refusal(self, rule: MockRule) -> bytes:
        """See `Dialect`."""
        status = rule.status or 500
        kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        return json_bytes({"error": {"message": f"scripted status {status}", "type": kind, "code": None}})

    def listing(self, method: str, path: str, script: MockScript) -> Json:
        """See `Dialect`."""
        if (method, path) == ("GET", MODELS):
            return {"object": "list", "data": [_model(name) for name in script.listed()]}
        if method == "GET" and path.startswith(f"{MODELS}/"):
            name = path.removeprefix(f"{MODELS}/")
            if script.models and name not in script.models:
                raise KeyError(name)
            return _model(name)
        return None


def _event(
    reply: Reply, delta: dict[str, Any], *, finish_reason: str | None = None, logprobs: list[Any] | None = None
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = _head(reply) | {"choices": [choice | ({"logprobs": {"content": logprobs}} if logprobs else {})]}
    return b"data: " + json_bytes(body) + b"\n\n"


def _head(reply: Reply) -> dict[str, Any]:
    return {"id": reply.id, "object": "chat.completion.chunk", "created": reply.created, "model": reply.model}


def _usage(reply: Reply) -> dict[str, Any]:
    told = reply.usage
    parts: dict[str, Any] = {}
    if told["cached_tokens"]:
        parts["prompt_tokens_details"] = {"cached_tokens": told["cached_tokens"]}
    if told["reasoning_tokens"]:
        parts["completion_tokens_details"] = {"reasoning_tokens": told["reasoning_tokens"]}
    return {name: told[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")} | parts


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "mock"}
