"""What the mock server serves of Ollama beside chats: /api/show, /api/pull, /api/delete and /api/embed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.core.values import Json
from engine.edge.mockllm.dialects import Told
from engine.edge.mockllm.ollama import DETAILS, EPOCH, plain_name
from engine.edge.mockllm.script import MockScript
from engine.edge.mockllm.vectors import CONTEXT_TOKENS, vector_of

_PART = "sha256:" + "0" * 64
_PART_BYTES = 1000


class OllamaRoutes:
    """See `Routes`; a fetched model is one of the script's models from then on, and a deleted one is none."""

    def told(self, method: str, path: str, body: Any, script: MockScript) -> Told | None:
        """See `Routes`."""
        answer = _ROUTES.get((method, path))
        if answer is None:
            return None
        fields = body if isinstance(body, dict) else {}
        name = fields.get("model") or fields.get("name")
        if not isinstance(name, str) or not name:
            return Told(400, {"error": "model is required"})
        return answer(name, fields, script)


def _show(name: str, fields: dict[str, Any], script: MockScript) -> Told:
    del fields
    if not _has(name, script):
        return _missing(name)
    info: dict[str, Json] = {"general.architecture": "mock", "mock.context_length": CONTEXT_TOKENS}
    return Told(
        200,
        {
            "modelfile": f"FROM {name}",
            "parameters": "",
            "template": "{{ .Prompt }}",
            "details": DETAILS,
            "model_info": info,
            "capabilities": ["completion", "tools", "vision", "thinking", "embedding"],
            "modified_at": EPOCH,
        },
    )


def _pull(name: str, fields: dict[str, Any], script: MockScript) -> Told:
    if not _has(name, script):
        script.models.append(plain_name(name))
    if fields.get("stream") is False:
        return Told(200, {"status": "success"})
    part: dict[str, Json] = {"status": f"pulling {'0' * 12}", "digest": _PART, "total": _PART_BYTES}
    return Told(
        200,
        lines=(
            {"status": "pulling manifest"},
            part,
            part | {"completed": _PART_BYTES // 2},
            part | {"completed": _PART_BYTES},
            {"status": "verifying sha256 digest"},
            {"status": "writing manifest"},
            {"status": "success"},
        ),
    )


def _delete(name: str, fields: dict[str, Any], script: MockScript) -> Told:
    del fields
    if script.models == [plain_name(name)] or not script.models:
        # a script without models has any
        return Told(400, {"error": "the scripted server deletes only models that are not the last ones of its script"})
    if not _has(name, script):
        return _missing(name)
    script.models.remove(plain_name(name))
    return Told(200)


def _embed(name: str, fields: dict[str, Any], script: MockScript) -> Told:
    if not _has(name, script):
        return _missing(name)
    given = fields.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return Told(400, {"error": "invalid input type"})
    tokens = [len(text.split()) for text in texts]
    if fields.get("truncate") is False and max(tokens, default=0) > CONTEXT_TOKENS:
        return Told(400, {"error": "the input length exceeds the context length"})
    vectors: list[Json] = [vector_of(text) for text in texts]
    return Told(200, {"model": name, "embeddings": vectors, "prompt_eval_count": sum(tokens)})


def _has(name: str, script: MockScript) -> bool:
    return not script.models or plain_name(name) in script.models


def _missing(name: str) -> Told:
    return Told(404, {"error": f"model '{name}' not found"})


_ROUTES: dict[tuple[str, str], Callable[[str, dict[str, Any], MockScript], Told]] = {
    ("POST", "/api/show"): _show,
    ("POST", "/api/pull"): _pull,
    ("DELETE", "/api/delete"): _delete,
    ("POST", "/api/embed"): _embed,
}
