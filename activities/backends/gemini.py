"""Adapter for Google Gemini's own API, streamGenerateContent; streams, so that a cancel reaches the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from activities.backends.base import Embeddings, Tell
from activities.backends.gemini_call import call_path, request_body
from activities.backends.gemini_contents import NoWord, signed
from activities.backends.reply import ErrorInReply, ReplyError, ReplyParts, usage_of
from activities.backends.transport import HttpBackend, Outgoing
from activities.backends.vectors import numbers_of
from engine.core.contracts.activities import ChatParams, ChatResult, Usage
from engine.core.contracts.failures import clip
from engine.core.errors import BackendError
from engine.core.values import compact_json

FINISHED = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
"""Our words for why a reply ended. After any other reason it is not what the model meant to say."""

GENERATES = "generateContent"


class GeminiBackend(HttpBackend):
    """Google's Gemini API; the base URL ends in the version, `/v1beta`."""

    chat_path: ClassVar[str] = "/models/MODEL:streamGenerateContent"
    models_path: ClassVar[str] = "/models?pageSize=1000"
    embed_texts: ClassVar[int] = 100

    def outgoing(self, params: ChatParams) -> Outgoing:
        """See `HttpBackend`."""
        try:
            return Outgoing(call_path(params.model), request_body(params))
        except NoWord as error:
            raise self._no_word(error) from None

    def reader(self, tell: Tell) -> GeminiReader:
        """See `HttpBackend`."""
        return GeminiReader(tell, self.name)

    def key_headers(self, key: str) -> dict[str, str]:
        """See `HttpBackend`."""
        return {"x-goog-api-key": key}

    def models_in(self, body: Any) -> list[str]:
        """See `HttpBackend`; models that only embed or draw are left out, as the first one is the default."""
        return [
            str(item["name"]).removeprefix("models/")
            for item in body["models"]
            if GENERATES in item.get("supportedGenerationMethods", [GENERATES])
        ]

    def model_in(self, body: Any) -> str:
        """See `HttpBackend`."""
        return str(body["name"]).removeprefix("models/")

    def embed_call(self, model: str, texts: Sequence[str], settings: Mapping[str, Any]) -> Outgoing:
        """See `HttpBackend`; settings stand in each request, `dimensions` has another name there."""
        beside = {"outputDimensionality" if name == "dimensions" else name: value for name, value in settings.items()}
        try:
            path = call_path(model).partition(":")[0]
        except NoWord as error:
            raise self._no_word(error) from None
        name = unquote(path.removeprefix("/"))
        requests = [{**beside, "model": name, "content": {"parts": [{"text": text}]}} for text in texts]
        return Outgoing(f"{path}:batchEmbedContents", {"requests": requests})

    def embedded_in(self, body: Any) -> Embeddings:
        """See `HttpBackend`; not all models tell of tokens."""
        tokens = (body.get("usageMetadata") or {}).get("promptTokenCount")
        vectors = [numbers_of(item["values"]) for item in body["embeddings"]]
        return Embeddings("", vectors, None if tokens is None else int(tokens))

    def _no_word(self, error: NoWord) -> BackendError:
        return BackendError(
            f"backend '{self.name}' {error}", code="backend.refused", hint=error.hint, details={"backend": self.name}
        )


# --- the reply -------------------------------------------------------------------------------------------------------


class _Word(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _FunctionCall(_Word):
    id: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None
    partial_args: Any = None


class _Part(_Word):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None
    inline_data: Any = None


class _Content(_Word):
    parts: list[_Part] | None = None


class _Candidate(_Word):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | None = None
    logprobs_result: Any = None


class _Feedback(_Word):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Usage(_Word):
    prompt_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0


class _Chunk(_Word):
    """A reply or one chunk of it; both have the same shape."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


_CHUNKS = TypeAdapter(list[_Chunk])


class GeminiParts(ReplyParts):
    """The reply so far, with the signatures of its tool calls.

    Attributes:
        signatures: By number of the call.
    """

    def __init__(self, tell: Tell) -> None:
        super().__init__(tell)
        self.signatures: dict[int, str] = {}

    def result(self, *, backend: str, model: str, now_s: int) -> ChatResult:
        """See `ReplyParts`."""
        made = super().result(backend=backend, model=model, now_s=now_s)
        calls = made.message.get("tool_calls", [])
        for index, signature in self.signatures.items():
            calls[index] = signed(calls[index], signature)
        return made


class GeminiReader:
    """Reads a reply, streamed or whole; candidates other than the first are left out. See `ReplyReader`."""

    def __init__(self, tell: Tell, backend: str) -> None:
        self._parts = GeminiParts(tell)
        self.parts: ReplyParts = self._parts
        self._backend = backend

    @property
    def is_whole(self) -> bool:
        """See `ReplyReader`."""
        return bool(self.parts.finish_reason)

    def take(self, data: bytes) -> None:
        """See `ReplyReader`.

        Raises:
            BackendError: `backend.refused` if the prompt was blocked.
        """
        for chunk in _read_chunks(data):
            self._take_chunk(chunk)

    def _take_chunk(self, chunk: _Chunk) -> None:
        if chunk.error:
            raise ErrorInReply(chunk.error)
        parts = self.parts
        parts.id = parts.id or chunk.response_id or ""
        parts.model = parts.model or (chunk.model_version or "").removeprefix("models/")
        if chunk.usage_metadata is not None:
            parts.usage = _counted(chunk.usage_metadata)
        for candidate in chunk.candidates or ():
            if candidate.index == 0:
                parts.started = True
                self._take_candidate(candidate)
        if chunk.prompt_feedback is not None:
            self._check_prompt(chunk.prompt_feedback)

    def _take_candidate(self, candidate: _Candidate) -> None:
        for part in (candidate.content.parts if candidate.content else None) or ():
            self._take_part(part)
        self.parts.logprobs += _logprobs(candidate.logprobs_result)
        reason = candidate.finish_reason
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            if reason not in FINISHED:
                raise ReplyError(f"it ended with {clip(reason, 80)}")
            self.parts.finish_reason = FINISHED[reason]
        if self.parts.finish_reason == "stop" and self.parts.calls:
            self.parts.finish_reason = "tool_calls"

    def _take_part(self, part: _Part) -> None:
        if part.text and part.thought:
            self.parts.add_reasoning(part.text)
        elif part.text:
            self.parts.add_text(part.text)
        if part.function_call is not None:
            self._take_call(part.function_call, part.thought_signature or "")
        if part.inline_data is not None and not part.thought:
            raise ReplyError("it holds media, and a message can hold text only")

    def _take_call(self, call: _FunctionCall, signature: str) -> None:
        if call.partial_args is not None:
            raise ReplyError("it holds a tool call in pieces, which was not asked for")
        parts, index = self._parts, self._parts.calls
        if signature:
            parts.signatures[index] = signature
        # most models name no ids; with the reply's own id they differ from those of the turns before
        made = f"call_{parts.id[-24:]}_{index}" if parts.id else ""
        parts.add_call(index, call_id=call.id or made, name=call.name or "", arguments=compact_json(call.args or {}))

    def _check_prompt(self, feedback: _Feedback) -> None:
        reason = feedback.block_reason
        if reason and reason != "BLOCK_REASON_UNSPECIFIED":
            raise BackendError(
                f"backend '{self._backend}' blocks the prompt",
                code="backend.refused",
                hint="details.reason says why; change the prompt, or loosen safetySettings in the settings of the step",
                details={"backend": self._backend, "reason": clip(f"{reason} {feedback.block_reason_message or ''}")},
            )


def _logprobs(told: Any) -> list[dict[str, Any]]:
    """Return how likely the tokens of a candidate were, in OpenAI's words."""
    held = told if isinstance(told, dict) else {}
    chosen, tops = held.get("chosenCandidates"), held.get("topCandidates")
    others = tops if isinstance(tops, list) else []
    made: list[dict[str, Any]] = []
    for number, item in enumerate(chosen if isinstance(chosen, list) else ()):
        top = others[number].get("candidates") if number < len(others) and isinstance(others[number], dict) else None
        more = [_logprob(other) for other in top if isinstance(other, dict)] if isinstance(top, list) else []
        if isinstance(item, dict):
            made.append({**_logprob(item), **({"top_logprobs": more} if more else {})})
    return made


def _logprob(item: dict[str, Any]) -> dict[str, Any]:
    return {"token": item.get("token", ""), "logprob": item.get("logProbability", 0.0)}


def _counted(usage: _Usage) -> Usage:
    # what is cached is a part of the prompt, what a tool of the server's own put in is counted beside it
    prompt = usage.prompt_token_count + usage.tool_use_prompt_token_count
    completion = usage.candidates_token_count + usage.thoughts_token_count
    return usage_of(prompt, completion, cached=usage.cached_content_token_count, reasoning=usage.thoughts_token_count)


def _read_chunks(data: bytes) -> list[_Chunk]:
    """Read one chunk, or the list of them that servers send which know no server-sent events."""
    try:
        return _CHUNKS.validate_json(data) if data.lstrip()[:1] == b"[" else [_Chunk.model_validate_json(data)]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReplyError(f"{place + ': ' if place else ''}{first['msg']}") from None
