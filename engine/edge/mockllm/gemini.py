"""The mock server as Google's Gemini API: /v1beta/models, and generateContent and streamGenerateContent below it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from engine.core.values import Json, compact_json
from engine.edge.mockllm.dialects import Asked, NotAskedRight
from engine.edge.mockllm.replies import Reply, json_bytes, pieces_of
from engine.edge.mockllm.script import MockRule, MockScript

MODELS = "/v1beta/models"
CALL = re.compile(r"/v1beta/(?:models/)?(?P<model>.+):(?P<method>generateContent|streamGenerateContent)")
FINISHED = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GeminiDialect:
    """See `Dialect`; a stream is always one of server-sent events, as `alt=sse` asks for."""

    stream_type = "text/event-stream"

    def is_chat(self, method: str, path: str) -> bool:
        """See `Dialect`."""
        return method == "POST" and CALL.fullmatch(path) is not None

    def asked(self, path: str, body: Any) -> Asked:
        """See `Dialect`."""
        named = CALL.fullmatch(path)
        contents = body.get("contents") if isinstance(body, dict) else None
        if named is None or not isinstance(contents, list) or not contents:
            raise NotAskedRight("the body must be JSON with a list 'contents' that holds something")
        messages = _read_system(body.get("systemInstruction"))
        for number, content in enumerate(contents):
            messages += _read_content(content, number)
        rest = {name: value for name, value in body.items() if name not in ("contents", "systemInstruction")}
        return Asked(named["model"], messages, named["method"] == "streamGenerateContent", rest)

    def whole(self, reply: Reply) -> bytes:
        """See `Dialect`."""
        parts: list[Json] = [{"text": reply.text}] if reply.text is not None else []
        return json_bytes(_end(reply, [*parts, *(_call(call) for call in reply.tool_calls)]))

    def chunks(self, reply: Reply) -> Iterator[bytes]:
        """See `Dialect`; a tool call comes whole, as the real server sends it."""
        if reply.reasoning:
            yield _event(_chunk(reply, [{"text": reply.reasoning, "thought": True}]))
        if reply.text is not None:
            for piece in pieces_of(reply.text, reply.chunk_chars):
                yield _event(_chunk(reply, [{"text": piece}], likely=piece))
        for call in reply.tool_calls:
            yield _event(_chunk(reply, [_call(call)]))

    def ending(self, reply: Reply, asked: Asked) -> bytes:
        """See `Dialect`."""
        del asked
        return _event(_end(reply, [{"text": ""}]))

    def broken(self) -> bytes:
        """See `Dialect`."""
        return b'data: {"candidates": [{"content": {"parts": [{"text": "bro\n\n'

    def refusal(self, rule: MockRule) -> bytes:
        """See `Dialect`."""
        status = rule.status or 500
        problem: dict[str, Any] = {
            "code": status,
            "message": f"scripted status {status}",
            "status": STATUSES.get(status, "UNKNOWN" if status >= 500 else "FAILED_PRECONDITION"),
        }
        if rule.retry_after_s is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            problem["details"] = [{"@type": kind, "retryDelay": f"{rule.retry_after_s:g}s"}]
        return json_bytes({"error": problem})

    def listing(self, method: str, path: str, script: MockScript) -> Json:
        """See `Dialect`."""
        if (method, path) == ("GET", MODELS):
            return {"models": [_model(name) for name in script.listed()]}
        if method == "GET" and path.startswith(f"{MODELS}/"):
            name = path.removeprefix(f"{MODELS}/")
            if script.models and name not in script.models:
                raise KeyError(name)
            return _model(name)
        return None


# --- what is asked ---------------------------------------------------------------------------------------------------


def _read_system(instruction: Any) -> list[Any]:
    parts = instruction.get("parts") if isinstance(instruction, dict) else None
    return [{"role": "system", "content": part.get("text", "")} for part in _objects(parts, "systemInstruction")]


def _read_content(content: Any, number: int) -> list[Any]:
    """Return the messages of a turn: each result of a tool is one of its own."""
    where = f"contents[{number}]"
    role = content.get("role", "user") if isinstance(content, dict) else None
    if role not in ("user", "model"):
        raise NotAskedRight(f"{where} must be an object whose role is user or model")
    parts = _objects(content.get("parts"), where)
    if not parts:
        raise NotAskedRight(f"{where} must have parts")
    results = [_read_result(part["functionResponse"]) for part in parts if "functionResponse" in part]
    calls = [_read_call(part["functionCall"]) for part in parts if "functionCall" in part]
    said = [part for part in parts if "functionResponse" not in part and "functionCall" not in part]
    if role == "model":
        message: dict[str, Any] = {"role": "assistant", "content": _read_parts(said) if said else None}
        return [message | {"tool_calls": calls} if calls else message]
    return [*results, {"role": "user", "content": _read_parts(said)}] if said else results


def _objects(parts: Any, where: str) -> list[dict[str, Any]]:
    found = parts if isinstance(parts, list) else []
    if any(not isinstance(part, dict) for part in found):
        raise NotAskedRight(f"the parts of {where} must be objects")
    return found


def _read_call(call: Any) -> dict[str, Any]:
    held = call if isinstance(call, dict) else {}
    function = {"name": str(held.get("name") or ""), "arguments": compact_json(held.get("args") or {})}
    return {"id": str(held.get("id") or ""), "type": "function", "function": function}


def _read_result(result: Any) -> dict[str, Any]:
    held = result if isinstance(result, dict) else {}
    told = held.get("response")
    text = told["output"] if isinstance(told, dict) and told.keys() == {"output"} else None
    content = text if isinstance(text, str) else compact_json(told)
    return {"role": "tool", "tool_call_id": str(held.get("id") or ""), "name": held.get("name"), "content": content}


def _read_parts(parts: list[dict[str, Any]]) -> Any:
    """Return one text, or a list of parts if there are several or any is no text."""
    made = [_read_part(part) for part in parts]
    return made[0]["text"] if len(made) == 1 and made[0]["type"] == "text" else made


def _read_part(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(inline := part.get("inlineData"), dict):
        return _image(f"data:{inline.get('mimeType')};base64,{inline.get('data')}")
    if isinstance(file := part.get("fileData"), dict):
        return _image(str(file.get("fileUri")))
    return {"type": "text", "text": str(part.get("text", ""))}


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


# --- what is answered ------------------------------------------------------------------------------------------------


def _chunk(reply: Reply, parts: list[Json], *, likely: str = "") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if likely and reply.logprob is not None:
        candidate["logprobsResult"] = {"chosenCandidates": [{"token": likely, "logProbability": reply.logprob}]}
    return {"candidates": [candidate], "modelVersion": reply.model, "responseId": reply.id}


def _end(reply: Reply, parts: list[Json]) -> dict[str, Any]:
    made = _chunk(reply, parts)
    made["candidates"][0]["finishReason"] = FINISHED.get(reply.finish_reason, reply.finish_reason)
    cached, thoughts = reply.usage["cached_tokens"], reply.usage["reasoning_tokens"]
    made["usageMetadata"] = {
        "promptTokenCount": reply.usage["prompt_tokens"],
        # thoughts stand beside the reply's tokens here, what is cached is a part of the prompt's
        "candidatesTokenCount": reply.usage["completion_tokens"] - thoughts,
        "totalTokenCount": reply.usage["total_tokens"],
        **({"cachedContentTokenCount": cached} if cached else {}),
        **({"thoughtsTokenCount": thoughts} if thoughts else {}),
    }
    return made


def _call(call: dict[str, Any]) -> Json:
    function = call["function"]
    return {"functionCall": {"id": call["id"], "name": function["name"], "args": json.loads(function["arguments"])}}


def _event(body: Json) -> bytes:
    return b"data: " + json_bytes(body) + b"\r\n\r\n"


def _model(name: str) -> dict[str, Any]:
    return {
        "name": name if name.startswith("tunedModels/") else f"models/{name}",
        "version": "mock",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
