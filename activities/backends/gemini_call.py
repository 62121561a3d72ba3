"""Says a chat call in Google Gemini's words: the address, the settings, the tools and the schema of the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from activities.backends.gemini_contents import NoWord, conversation, generation_of
from engine.core.contracts.activities import ChatParams
from engine.core.values import Json, compact_json

WORDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
"""Members of the generation config that have other names elsewhere."""

BESIDE = {
    "safetySettings",
    "safety_settings",
    "cachedContent",
    "cached_content",
    "serviceTier",
    "service_tier",
    "labels",
    "store",
}
"""Settings that stand beside the generation config; all that nobody here knows go into it."""

NOT_SENT = {
    "model",
    "messages",
    "contents",
    "systemInstruction",
    "system_instruction",
    "tool_choice",
    "stream",
    "stream_options",
    "user",
    "metadata",
}
"""What the engine decides, and marks for the books of other providers."""

SCHEMA_WORDS = ("responseSchema", "response_schema", "response_json_schema", "response_mime_type")
"""Other words for what `output_schema` says; the server refuses two of them at once."""

CHOICES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""What Google's own OpenAI dialect makes of an effort for models that count their thoughts in tokens."""

RESOURCES = ("models/", "tunedModels/", "publishers/", "projects/")


def call_path(model: str) -> str:
    """Return where a model is asked, below the base URL.

    Raises:
        NoWord: No address can hold the name.
    """
    pieces = (model if model.startswith(RESOURCES) else f"models/{model}").split("/")
    if any(piece in ("", ".", "..") for piece in pieces):
        raise NoWord(f"has no model whose name is '{model}'", hint="a name is like gemini-2.5-flash")
    return f"/{'/'.join(quote(piece, safe='') for piece in pieces)}:streamGenerateContent?alt=sse"


def request_body(params: ChatParams) -> dict[str, Any]:
    """Return the JSON body of a call.

    Settings come first, so that none of them can replace what the engine decides.

    Raises:
        NoWord: The call says what Gemini has no word for.
    """
    beside = {name: value for name, value in params.settings.items() if name in BESIDE}
    body: dict[str, Any] = {name: value for name, value in beside.items() if value is not None}
    config = _generation_config(params)
    system, contents = conversation(params.messages, params.model)
    if params.output_schema is not None:
        if params.tools:
            # most models refuse a schema beside tools; the engine checks the reply and asks again
            system = [*system, {"text": _instruction(params.output_schema)}]
        else:
            for name in SCHEMA_WORDS:
                config.pop(name, None)
            config.update(responseMimeType="application/json", responseJsonSchema=params.output_schema)
    if config:
        body["generationConfig"] = config
    if system:
        body["systemInstruction"] = {"parts": system}
    body["contents"] = contents
    return {**body, **_tools(params)}


def _instruction(schema: Json) -> str:
    return (
        "Whenever you answer without calling a tool, answer with one JSON value and nothing else, no code fence. "
        f"It must fit this JSON Schema: {compact_json(schema)}"
    )


# --- tools -----------------------------------------------------------------------------------------------------------


def _tools(params: ChatParams) -> dict[str, Any]:
    """Return the tools and how they may be called; tools in the settings are Google's own, such as its search."""
    settings = params.settings
    own = settings.get("tools")
    tools = list(own) if isinstance(own, list) else []
    told = settings.get("toolConfig", settings.get("tool_config"))
    config = dict(told) if isinstance(told, dict) else {}
    for name in ("functionCallingConfig", "function_calling_config"):
        config.pop(name, None)
    if params.tools:
        tools.append({"functionDeclarations": [_declaration(tool["function"]) for tool in params.tools]})
        if params.tool_choice is not None:
            config["functionCallingConfig"] = _choice(params.tool_choice)
    return {name: value for name, value in (("tools", tools), ("toolConfig", config)) if value}


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    said = {
        "name": function["name"],
        "description": function.get("description"),
        "parametersJsonSchema": function.get("parameters"),
    }
    return {name: value for name, value in said.items() if value}


def _choice(choice: Json) -> dict[str, Any]:
    if isinstance(choice, str) and choice in CHOICES:
        return {"mode": CHOICES[choice]}
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return {"mode": "ANY", "allowedFunctionNames": [function["name"]]}
    raise NoWord(
        f"has no word for the tool_choice {compact_json(choice)}",
        hint="there are auto, none, required and {type: function, function: {name: …}}",
    )


# --- settings --------------------------------------------------------------------------------------------------------


def _generation_config(params: ChatParams) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, value in params.settings.items():
        if value is None or name in NOT_SENT | BESIDE or name in ("tools", "toolConfig", "tool_config"):
            continue
        if name == "stop":
            config[WORDS[name]] = [value] if isinstance(value, str) else value
        elif name in WORDS:
            config[WORDS[name]] = value
        elif name in ("generationConfig", "generation_config") and isinstance(value, dict):
            config.update(value)
        elif name == "response_format":
            config.update(_format(value))
        elif name == "reasoning_effort":
            thinking = config.get("thinkingConfig", {})
            config["thinkingConfig"] = {**thinking, **_thinking(value, params.model)}
        elif name == "parallel_tool_calls" and value is True:
            continue  # it calls as many at a time as it likes, so that only the wish for one cannot be told
        elif name in ("parallel_tool_calls", "logit_bias"):
            raise NoWord(f"has no word for the setting '{name}'", hint="leave it out of the settings of the step")
        else:
            config[name] = value
    _check_modalities(config)
    return config


def _thinking(effort: Any, model: str) -> dict[str, Any]:
    if generation_of(model) >= 3 and effort != "none":
        return {"thinkingLevel": effort}
    if effort not in BUDGETS:
        raise NoWord(
            f"has no word for the reasoning_effort '{effort}'",
            hint=f"there are {', '.join(BUDGETS)}, or say it in `thinkingConfig`",
        )
    return {"thinkingBudget": BUDGETS[effort]}


def _format(wanted: Any) -> dict[str, Any]:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind == "json_schema" and isinstance(held := wanted.get("json_schema"), dict) and "schema" in held:
        return {"responseMimeType": "application/json", "responseJsonSchema": held["schema"]}
    raise NoWord(f"has no word for the response_format of the type '{kind}'", hint="say it as `output_schema`")


def _check_modalities(config: dict[str, Any]) -> None:
    wanted = config.get("responseModalities", config.get("response_modalities"))
    kinds = wanted if isinstance(wanted, list) else []
    if any(str(kind).upper() != "TEXT" for kind in kinds):
        raise NoWord("may answer with nothing but text here", hint="leave responseModalities out of the settings")
