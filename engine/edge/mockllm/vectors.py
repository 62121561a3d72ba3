"""What the mock server answers to calls for vectors: the same text has the same one, in each dialect."""

from __future__ import annotations

import hashlib
import math
from typing import Any
from urllib.parse import unquote

from engine.core.values import Json
from engine.edge.mockllm.dialects import Told
from engine.edge.mockllm.script import MockScript

DIMENSIONS = 8
CONTEXT_TOKENS = 4096

OPENAI = "/v1/embeddings"
GEMINI = ":batchEmbedContents"


def vector_of(text: str) -> list[Json]:
    """Return a vector of length one that is the same for the same text only."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    values = [byte - 127.5 for byte in digest[:DIMENSIONS]]
    length = math.hypot(*values)
    return [value / length for value in values]


def tokens_of(texts: list[str]) -> int:
    """Return how many tokens texts have: their words."""
    return sum(len(text.split()) for text in texts)


class VectorRoutes:
    """See `Routes`: /v1/embeddings of OpenAI's dialect and batchEmbedContents of Gemini's."""

    def told(self, method: str, path: str, body: Any, script: MockScript) -> Told | None:
        """See `Routes`."""
        fields = body if isinstance(body, dict) else {}
        if (method, path) == ("POST", OPENAI):
            return _openai(fields, script)
        if method == "POST" and path.endswith(GEMINI):
            return _gemini(unquote(path.rpartition("/")[2]).removesuffix(GEMINI), fields, script)
        return None


def _openai(fields: dict[str, Any], script: MockScript) -> Told:
    given, model = fields.get("input"), str(fields.get("model") or "")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return _refused(400, "'input' must be a text or a list of texts", "invalid_request_error")
    if script.models and model not in script.models:
        return _refused(404, f"the model '{model}' does not exist", "model_not_found")
    if any(tokens_of([text]) > CONTEXT_TOKENS for text in texts):
        return _refused(400, f"this model's maximum context length is {CONTEXT_TOKENS} tokens", "invalid_request_error")
    count = tokens_of(texts)
    data: list[Json] = [
        {"object": "embedding", "index": index, "embedding": vector_of(text)} for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return Told(200, {"object": "list", "data": data, "model": model, "usage": usage})


def _gemini(model: str, fields: dict[str, Any], script: MockScript) -> Told:
    if script.models and model not in script.models:
        return Told(404, {"error": {"code": 404, "message": f"model {model} is not found", "status": "NOT_FOUND"}})
    texts = [_text_of(item) for item in fields.get("requests") or ()]
    if not texts or any(tokens_of([text]) > CONTEXT_TOKENS for text in texts):
        reason = "the input token count exceeds the maximum" if texts else "requests must not be empty"
        return Told(400, {"error": {"code": 400, "message": reason, "status": "INVALID_ARGUMENT"}})
    found: list[Json] = [{"values": vector_of(text)} for text in texts]
    return Told(200, {"embeddings": found, "usageMetadata": {"promptTokenCount": tokens_of(texts)}})


def _text_of(request: Any) -> str:
    parts = ((request if isinstance(request, dict) else {}).get("content") or {}).get("parts") or ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def _refused(status: int, message: str, code: str) -> Told:
    return Told(status, {"error": {"message": message, "type": "invalid_request_error", "code": code}})
