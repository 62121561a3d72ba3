"""What lists of models tell of each model beyond its name: how long a context is, and what it can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from activities.backends.ollama_models import ModelFacts

_CONTEXTS = (
    "max_model_len",  # vLLM
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # Mistral, LM Studio
    "max_input_tokens",  # Anthropic
    "inputTokenLimit",  # Gemini
)
_META_CONTEXTS = ("n_ctx", "n_ctx_train")
"""In `meta` of llama.cpp's server: what it serves, else what the model was made for."""
_MISTRAL = {"completion_chat": "chat", "function_calling": "tools", "vision": "vision"}
_PARAMETERS = {"tools": "tools", "structured_outputs": "json_schema"}
"""Of `supported_parameters` (OpenRouter), which are whole where they stand."""
_OLLAMA = {"completion": "chat", "tools": "tools", "vision": "vision", "embedding": "embed"}


def facts_in(body: Any) -> dict[str, dict[str, Any]]:
    """Return what a list of models tells, by name of the model: {capabilities?}. It never fails.

    Args:
        body: The list as the server sent it, in the shape of any provider.
    """
    items = (body.get("data") or body.get("models") or []) if isinstance(body, Mapping) else []
    facts: dict[str, dict[str, Any]] = {}
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, Mapping):
            continue
        name = item.get("id") or item.get("name")
        known = _capabilities_in(item)
        if isinstance(name, str) and known:
            facts[name.removeprefix("models/")] = {"capabilities": known}
    return facts


def _capabilities_in(item: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    context = _first_count(item, _CONTEXTS) or _first_count(item.get("meta"), _META_CONTEXTS)
    if context:
        known["context"] = context
    methods = item.get("supportedGenerationMethods")
    if isinstance(methods, list):
        known |= {"chat": "generateContent" in methods, "embed": "embedContent" in methods}
    told = item.get("capabilities")
    if isinstance(told, Mapping):
        known |= {ours: told[theirs] for theirs, ours in _MISTRAL.items() if isinstance(told.get(theirs), bool)}
    supported = item.get("supported_parameters")
    if isinstance(supported, list):
        known |= {ours: theirs in supported for theirs, ours in _PARAMETERS.items()}
    shape = item.get("architecture")
    modalities = shape.get("input_modalities") if isinstance(shape, Mapping) else None
    if isinstance(modalities, list):
        known["vision"] = "image" in modalities
    return known


def _first_count(item: Any, names: tuple[str, ...]) -> int | None:
    if not isinstance(item, Mapping):
        return None
    counts = (item.get(name) for name in names)
    return next((n for n in counts if isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**31), None)


def facts_of_ollama(told: ModelFacts) -> dict[str, Any]:
    """Return what an Ollama server tells of a model: {capabilities, parameter_size?, quantization?}."""
    known: dict[str, Any] = {}
    if told.capabilities:
        # older servers tell nothing of what models can do
        known = {ours: theirs in told.capabilities for theirs, ours in _OLLAMA.items()}
    if told.context_tokens and 0 < told.context_tokens < 2**31:
        known["context"] = told.context_tokens
    more = {"parameter_size": told.parameter_size, "quantization": told.quantization}
    return {"capabilities": known, **{name: value for name, value in more.items() if value}}
