"""Made-up replies: of models, of tools they ask for, values that fit a schema, and failures."""

from __future__ import annotations

from typing import Any

from engine.core.contracts.activities import ChatResult, Usage
from engine.core.errors import run_error_from_json
from engine.core.run.effects import Failed
from engine.core.values import Json, compact_json
from engine.dryrun.effects import START_US


def chat_reply(text: str, *, model: str = "dry-run", tokens: int = 0) -> dict[str, Json]:
    """Return a ChatResult as JSON whose message is a text."""
    usage = Usage(prompt_tokens=0, completion_tokens=tokens, total_tokens=tokens)
    result = ChatResult(
        id="dry-run",
        model=model,
        backend="dry-run",
        created=START_US // 1_000_000,
        message={"role": "assistant", "content": text},
        finish_reason="stop",
        usage=usage,
    )
    return result.to_json()


def with_calls(reply: dict[str, Json], calls: Json) -> dict[str, Json]:
    """Return a reply that asks for tool calls: a list of {TOOL: ARGUMENTS}."""
    named = [(name, given) for call in calls for name, given in dict(call).items()]
    bodies = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": compact_json(given or {})}}
        for number, (name, given) in enumerate(named)
    ]
    message = {**reply["message"], "tool_calls": bodies}
    return {**reply, "message": message, "finish_reason": "tool_calls"}


def example_of(schema: Any) -> Json:
    """Return a small value that fits a plain JSON Schema."""
    if not isinstance(schema, dict):
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return example_of(schema[key][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    return _example_of_type(kind, schema)


def _example_of_type(kind: Any, schema: dict[str, Any]) -> Json:
    if kind == "object" or "properties" in schema:
        return {name: example_of(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(schema.get("items"))] * max(int(schema.get("minItems", 1)), 1)
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    return "text".ljust(int(schema.get("minLength", 0)), ".") if kind == "string" else None


def failed(code: str, message: str = "made up", *, retryable: bool = True) -> Failed:
    """Return a failed outcome with a code, for scripts and tests."""
    return Failed(run_error_from_json({"code": code, "message": message}, retryable=retryable))
