"""What the effect activities tell while they run: spans by the GenAI conventions, metrics, and fields for log lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from engine.core.contracts.activities import CallContext, ChatParams, ChatResult, ToolParams
from engine.core.errors import EngineError
from engine.core.run.tracing import read_traceparent
from engine.core.values import Json, compact_json
from engine.obs.metrics import CHAT_SECONDS, EFFECT_FAILURES, EFFECT_SECONDS, TOKENS
from engine.obs.telemetry import Span, Telemetry

PROVIDERS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
"""Names that the conventions have for hosts; other backends go by their name in everstep.toml."""

_REQUEST = {
    "temperature": ("temperature", (int, float)),
    "top_p": ("top_p", (int, float)),
    "top_k": ("top_k", (int, float)),
    "max_tokens": ("max_tokens", (int,)),
    "max_completion_tokens": ("max_tokens", (int,)),
    "frequency_penalty": ("frequency_penalty", (int, float)),
    "presence_penalty": ("presence_penalty", (int, float)),
    "seed": ("seed", (int,)),
    "n": ("choice.count", (int,)),
}
"""Settings of a prompt by the names of their attributes, with the types that these may have."""

_PARTS = {
    "cache_read.input_tokens": "cached_tokens",
    "cache_creation.input_tokens": "cache_write_tokens",
    "reasoning.output_tokens": "reasoning_tokens",
}
"""What the conventions call parts of input and output tokens; they are told only of calls that have some."""


@contextmanager
def effect_span(telemetry: Telemetry, kind: str, context: CallContext) -> Iterator[None]:
    """Run an activity as a span below that of its step; its log lines say where they come from.

    Args:
        telemetry: Where spans and metrics go.
        kind: Type of the activity.
        context: Who calls.
    """
    place = read_traceparent(context.trace)
    fields: dict[str, Any] = {"execution": context.execution_id, "step": context.path, "attempt": context.attempt}
    if place is not None:
        fields |= {"trace_id": place.trace_id, "span_id": place.span_id}
    with structlog.contextvars.bound_contextvars(**fields):
        if not telemetry.traces and not telemetry.metrics:
            yield
            return
        began, outcome = time.monotonic(), "cancelled"
        try:
            with telemetry.span(f"activity {kind}", parent=context.trace, attributes=_place(context)) as span:
                inner = read_traceparent(span.traceparent)
                with structlog.contextvars.bound_contextvars(**({"span_id": inner.span_id} if inner else {})):
                    yield
            outcome = "ok"
        except (ApplicationError, EngineError) as error:
            outcome = "failed"
            code = error.type if isinstance(error, ApplicationError) else error.code
            telemetry.count(EFFECT_FAILURES, 1, {"everstep.effect.kind": kind, "error.type": code or "error"})
            raise
        finally:
            took_s = time.monotonic() - began
            telemetry.record(EFFECT_SECONDS, took_s, {"everstep.effect.kind": kind, "everstep.outcome": outcome})


def _place(context: CallContext) -> dict[str, Any]:
    place: dict[str, Any] = {
        "everstep.execution.id": context.execution_id,
        "everstep.step.path": context.path,
        "everstep.attempt": context.attempt,
        "everstep.tenant": context.tenant,
    }
    if activity.in_activity():
        info = activity.info()
        place |= {"everstep.delivery": info.attempt, "temporal.workflow.run_id": info.workflow_run_id}
    return place


# --- models --------------------------------------------------------------------------------------------------------


class ChatSpan:
    """The span of one model call.

    Args:
        telemetry: Where spans and metrics go.
        span: The span.
        labels: Attributes of its metrics.
    """

    def __init__(self, telemetry: Telemetry, span: Span, labels: dict[str, str]) -> None:
        self._telemetry = telemetry
        self._span = span
        self.labels = labels

    def done(self, result: ChatResult) -> None:
        """Take the reply."""
        self.labels["gen_ai.response.model"] = result.model
        usage = result.usage
        attributes: dict[str, Any] = {
            "gen_ai.response.model": result.model,
            "gen_ai.response.id": result.id or None,
            "gen_ai.response.finish_reasons": [result.finish_reason],
        }
        if usage is not None:
            attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
            parts = {name: getattr(usage, member) for name, member in _PARTS.items()}
            attributes |= {f"gen_ai.usage.{name}": tokens for name, tokens in parts.items() if tokens}
            for kind, tokens in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
                self._telemetry.record(TOKENS, tokens, {**self.labels, "gen_ai.token.type": kind})
        if self._telemetry.content:
            reply = {**_message(result.message), "finish_reason": result.finish_reason}
            attributes["gen_ai.output.messages"] = compact_json([reply])
        self._span.set(attributes)


@contextmanager
def chat_span(telemetry: Telemetry, *, backend: str, base_url: str, params: ChatParams) -> Iterator[ChatSpan]:
    """Run a model call as a CLIENT span.

    Args:
        telemetry: Where spans and metrics go.
        backend: Name of the backend.
        base_url: Its address.
        params: The call; its model is known.
    """
    labels = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_of(base_url, backend),
        "gen_ai.request.model": params.model,
    }
    if not telemetry.traces and not telemetry.metrics:
        yield ChatSpan(telemetry, Span(), labels)
        return
    attributes = {**labels, **_request(params, base_url)} if telemetry.traces else {}
    if telemetry.content:
        attributes["gen_ai.input.messages"] = compact_json([_message(message) for message in params.messages])
        if params.tools:
            attributes["gen_ai.tool.definitions"] = compact_json([tool.get("function") for tool in params.tools])
    began = time.monotonic()
    chat: ChatSpan | None = None
    failed: dict[str, str] = {}
    try:
        with telemetry.span(f"chat {params.model}", kind="client", attributes=attributes) as span:
            chat = ChatSpan(telemetry, span, labels)
            yield chat
    except Exception as error:
        failed = {"error.type": error.code if isinstance(error, EngineError) else type(error).__name__}
        raise
    finally:
        telemetry.record(CHAT_SECONDS, time.monotonic() - began, {**labels, **failed})


def provider_of(base_url: str, backend: str) -> str:
    """Return what the conventions call the provider behind an address, else the backend's name."""
    host = urlsplit(base_url).hostname or ""
    return "azure.ai.openai" if host.endswith(".openai.azure.com") else PROVIDERS.get(host, backend)


def _request(params: ChatParams, base_url: str) -> dict[str, Any]:
    address = urlsplit(base_url)
    found: dict[str, Any] = {
        "server.address": address.hostname,
        "server.port": address.port or (443 if address.scheme == "https" else 80),
        "gen_ai.output.type": "text" if params.output_schema is None else "json",
        "gen_ai.request.stream": True,
    }
    for name, (attribute, types) in _REQUEST.items():
        value = params.settings.get(name)
        if isinstance(value, types) and not isinstance(value, bool):
            found[f"gen_ai.request.{attribute}"] = value
    stop = params.settings.get("stop")
    if isinstance(stop, (str, list)):
        found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [str(item) for item in stop]
    return found


def _message(message: Mapping[str, Any]) -> dict[str, Json]:
    """Turn an OpenAI message into the shape of the conventions: a role and parts."""
    role, content = str(message.get("role") or "assistant"), message.get("content")
    if role == "tool":
        answer: dict[str, Json] = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return {"role": role, "parts": [answer]}
    parts: list[Json] = []
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, Sequence):
        parts += [_part(part) for part in content]
    for call in message.get("tool_calls") or []:
        function = call.get("function") or {}
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": _parsed(function.get("arguments")),
            }
        )
    return {"role": role, "parts": parts}


def _part(part: Any) -> Json:
    if isinstance(part, dict) and part.get("type") == "text":
        return {"type": "text", "content": part.get("text")}
    return dict(part) if isinstance(part, dict) else {"type": "text", "content": str(part)}


def _parsed(arguments: Any) -> Json:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return str(arguments)


# --- tools ---------------------------------------------------------------------------------------------------------


class ToolSpan:
    """The span of one tool call.

    Args:
        telemetry: Where spans go.
        span: The span.
    """

    def __init__(self, telemetry: Telemetry, span: Span) -> None:
        self._telemetry = telemetry
        self._span = span

    def done(self, output: Json) -> None:
        """Take what the tool returned."""
        if self._telemetry.content:
            self._span.set({"gen_ai.tool.call.result": compact_json(output)})


@contextmanager
def tool_span(telemetry: Telemetry, params: ToolParams) -> Iterator[ToolSpan]:
    """Run a tool call as a span.

    Args:
        telemetry: Where spans go.
        params: The call.
    """
    if not telemetry.traces:
        yield ToolSpan(telemetry, Span())
        return
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": params.tool.name,
        # `extension` is the conventions' word for calling a service, `function` for running something here
        "gen_ai.tool.type": "function" if params.tool.type == "python" else "extension",
        "gen_ai.tool.call.id": f"{params.context.path}#{params.context.attempt}",
        "everstep.execution.id": params.context.execution_id,
    }
    if telemetry.content:
        attributes["gen_ai.tool.call.arguments"] = compact_json(params.arguments)
    with telemetry.span(f"execute_tool {params.tool.name}", attributes=attributes) as span:
        yield ToolSpan(telemetry, span)
