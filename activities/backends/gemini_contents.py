"""Says a conversation in Google Gemini's words: turns of parts, tool calls and results, images and other media."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from engine.core.values import Json

UNSIGNED = "skip_thought_signature_validator"
"""Google's own word for a call that Gemini 3 and later did not sign: another model made it, or an author wrote it."""


class NoWord(Exception):
    """A call says what Gemini has no word for, and to leave it out would change what the call means.

    Attributes:
        hint: What its author can do.
    """

    def __init__(self, text: str, *, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def generation_of(model: str) -> int:
    """Return the major number of a model, 0 = its name does not say; what Google calls the latest is 3 at least."""
    found = re.search(r"gemini-(?:(\d+)|[a-z-]+-latest$)", model)
    return int(found.group(1) or 3) if found else 0


def conversation(messages: list[dict[str, Any]], model: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what the system says and the turns of a conversation.

    Args:
        messages: OpenAI-shaped messages.
        model: The model that is asked.

    Returns:
        Parts of the system instruction, and contents.

    Raises:
        NoWord: A message says what Gemini has no word for.
    """
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    called: dict[str, str] = {}
    for number, message in enumerate(messages):
        role = message.get("role")
        if role in ("system", "developer"):
            system += _instruction(message, number)
        elif role == "user":
            _add_turn(contents, "user", _parts(message.get("content"), number))
        elif role == "assistant":
            _add_turn(contents, "model", _said(message, number, called, model))
        elif role == "tool":
            _add_turn(contents, "user", [_result(message, number, called)])
        else:
            raise NoWord(
                f"has no place for message {number}, whose role is '{role}'",
                hint="the roles are system, user, assistant and tool",
            )
    if not contents:
        # a call needs a turn to answer, and a lone system message is one that waits for an answer
        return [], [{"role": "user", "parts": system or [{"text": ""}]}]
    return system, contents


def _instruction(message: dict[str, Any], number: int) -> list[dict[str, Any]]:
    parts = _parts(message.get("content"), number)
    if any("text" not in part for part in parts):
        raise NoWord(
            f"takes nothing but text from the system, and message {number} holds more",
            hint="put images into a user message",
        )
    return parts


def _add_turn(contents: list[dict[str, Any]], role: str, parts: list[dict[str, Any]]) -> None:
    """Add to the last turn if it is of the same kind: turns alternate, and all results of a turn stand in one."""
    if not parts:
        return  # the server takes no turn without parts, and nothing was said
    last = contents[-1] if contents else None
    if last is not None and last["role"] == role and _has_results(last["parts"]) == _has_results(parts):
        last["parts"] += parts
    else:
        contents.append({"role": role, "parts": parts})


def _has_results(parts: list[dict[str, Any]]) -> bool:
    return any("functionResponse" in part for part in parts)


# --- tool calls and results ------------------------------------------------------------------------------------------


def _said(message: dict[str, Any], number: int, called: dict[str, str], model: str) -> list[dict[str, Any]]:
    """Return the parts of what the model said; `called` learns the tools that it called."""
    parts = _parts(message.get("content"), number)
    calls = [_call(call, number, called) for call in message.get("tool_calls") or ()]
    if calls and generation_of(model) >= 3 and not any("thoughtSignature" in call for call in calls):
        calls[0]["thoughtSignature"] = UNSIGNED
    return parts + calls


def _call(call: dict[str, Any], number: int, called: dict[str, str]) -> dict[str, Any]:
    function = call.get("function") or {}
    name, call_id = str(function.get("name") or ""), str(call.get("id") or "")
    made: dict[str, Any] = {"name": name, "args": _arguments(function.get("arguments"), number, name)}
    if call_id:
        called[call_id] = name
        made["id"] = call_id
    signature = signature_of(call)
    return {"functionCall": made, "thoughtSignature": signature} if signature else {"functionCall": made}


def signed(call: dict[str, Any], signature: str) -> dict[str, Any]:
    """Return a tool call with the signature that Gemini wants back with it; in the place of Google's OpenAI dialect."""
    return {**call, "extra_content": {"google": {"thought_signature": signature}}}


def signature_of(call: dict[str, Any]) -> str:
    """Return the signature of a tool call, or an empty text."""
    found: Any = call
    for name in ("extra_content", "google", "thought_signature"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _arguments(given: Any, number: int, name: str) -> dict[str, Any]:
    arguments = _object_in(given or "{}")
    if arguments is None:
        raise NoWord(
            f"takes no call of '{name}' whose arguments are no JSON object, as in message {number}",
            hint="the arguments of a tool call are the JSON text of an object",
        )
    return arguments


def _result(message: dict[str, Any], number: int, called: dict[str, str]) -> dict[str, Any]:
    call_id = str(message.get("tool_call_id") or "")
    name = called.get(call_id) or message.get("name")
    if not name:
        raise NoWord(
            f"must know which tool message {number} comes from, and no message before it calls '{call_id}'",
            hint="keep the assistant's message with the tool call before the result, or give the result a `name`",
        )
    parts = _parts(message.get("content"), number)
    text = "".join(part["text"] for part in parts if "text" in part)
    told = _object_in(text)
    answer: dict[str, Any] = {"name": name, "response": {"output": text} if told is None else told}
    if call_id:
        answer["id"] = call_id
    media = [part for part in parts if "text" not in part]
    if media:
        answer["parts"] = media
    return {"functionResponse": answer}


def _object_in(given: Any) -> dict[str, Any] | None:
    """Return a JSON object or the one in a text; None = it is none."""
    if isinstance(given, str):
        try:
            given = json.loads(given, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return None
    return given if isinstance(given, dict) else None


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON value")


# --- texts and media -------------------------------------------------------------------------------------------------


def _parts(content: Any, number: int) -> list[dict[str, Any]]:
    """Return the parts of a content; empty texts are left out, as the server takes none."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}] if content else []
    if not isinstance(content, list):
        raise NoWord(
            f"takes no content that is neither text nor a list of parts, as in message {number}",
            hint="turn the value into text",
        )
    made = [_part(part, number) for part in content]
    return [part for part in made if part.get("text") != ""]


def _part(part: Any, number: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    kind = part.get("type") if isinstance(part, dict) else None
    held = part.get(kind) if isinstance(part, dict) else None
    if kind in ("text", "refusal") and isinstance(held, str):
        return {"text": held}
    if kind == "image_url":
        url = held.get("url") if isinstance(held, dict) else held
        return _media(str(url or ""), number)
    if kind == "input_audio" and isinstance(held, dict):
        return {"inlineData": {"mimeType": f"audio/{held.get('format') or 'wav'}", "data": str(held.get("data") or "")}}
    if kind == "file" and isinstance(held, dict) and isinstance(held.get("file_data"), str):
        return _media(held["file_data"], number)
    raise NoWord(
        f"has no word for a part of the kind '{kind}', as in message {number}",
        hint="there are text, image_url, input_audio, and file with file_data",
    )


def _media(url: str, number: int) -> dict[str, Any]:
    scheme, _, rest = url.partition(":")
    if scheme in ("https", "gs"):
        file = {"fileUri": url}
        kind, _ = mimetypes.guess_type(urlsplit(url).path)
        return {"fileData": {**file, "mimeType": kind} if kind else file}
    head, comma, data = rest.partition(",")
    if scheme != "data" or not comma:
        raise NoWord(
            f"takes no media from an address that begins with '{url[:16]}', as in message {number}",
            hint="give a data: URL, or an https: address that everybody may read",
        )
    kind, *marks = head.split(";")
    if "base64" not in marks:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return {"inlineData": {"mimeType": kind or "text/plain", "data": data}}
