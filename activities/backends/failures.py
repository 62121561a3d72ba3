"""Tells from an HTTP status and body of an OpenAI-compatible server which backend error it is."""

from __future__ import annotations

import json
from typing import Any

from activities.backends.google_details import BAD_KEY, USED_UP, google_details
from engine.core.contracts.failures import clip
from engine.core.errors import BackendError

_CONTEXT_WORDS = (
    "context length",
    "context_length",
    "context size",
    "context limit",
    "context_size",
    "context window",
    "maximum context",
    "too many tokens",
    "prompt is too long",
    "prompt too long",
    "input token count",
)
_NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", USED_UP}
_OVERLOADED = {409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}


def error_of_status(
    status: int,
    body: bytes,
    *,
    backend: str,
    base_url: str,
    model: str,
    path: str,
    what: str = "chat completions",
    retry_after_s: float | None = None,
) -> BackendError:
    """Classify an answer that is not a success.

    Args:
        status: HTTP status, or the one that an error inside a stream names.
        body: The answer's body, perhaps cut short.
        backend: Name of the backend.
        base_url: Its address.
        model: The model that was asked for.
        path: What the address of the call ends in.
        what: What was asked for.
        retry_after_s: What the server asked for.

    Returns:
        The error; the server's own words stand in its details only.
    """
    reason, marks, wait_s = _read_error(body)
    retry_after_s = wait_s if retry_after_s is None else retry_after_s
    words = f"{reason} {' '.join(marks)}".lower()
    details: dict[str, Any] = {"backend": backend, "status": status, "reason": clip(reason)}
    if retry_after_s is not None:
        details["retry_after_s"] = retry_after_s

    def error(text: str, kind: str, *, hint: str = "", retryable: bool = False) -> BackendError:
        return BackendError(
            f"backend '{backend}' {text} (HTTP {status})",
            code=f"backend.{kind}",
            hint=hint,
            retryable=retryable,
            details=details,
        )

    if status == 402 or (status == 429 and marks & _NO_MONEY):
        return error("refuses the call because its quota is used up", "refused", hint="see the account's billing page")
    if status == 429:
        return error("limits the rate of calls", "rate_limited", retryable=True)
    if status == 408:
        return error("took too long", "timeout", retryable=True)
    if _is_too_long(status, words):
        return error(f"says that the prompt is too long for the model '{model}'", "context_too_long")
    if status in _OVERLOADED and not (status == 500 and "does not support" in words):  # Ollama: beyond the model
        return error("cannot serve the call now", "overloaded", retryable=True)
    if status in (401, 403) or BAD_KEY in marks:
        return error("does not accept the key", "auth", hint="set the key in the variable that api_key_env names")
    if status == 404 and "model" in words and not reason.lstrip().startswith("<"):  # a page repeats the address
        return error(f"does not know the model '{model}'", "unknown_model")
    if status in (404, 405) or 300 <= status < 400:
        return error(
            f"has no {what} under {base_url}",
            "not_found",
            hint=f"base_url in everstep.toml is the address up to and without {path}",
        )
    return error("refuses the request", "refused", hint="details.reason holds the server's own words")


def _is_too_long(status: int, words: str) -> bool:
    if status == 500 and not ("exceed" in words or "too long" in words):  # a server out of memory names contexts, too
        return False
    return status in (400, 413, 422, 500) and any(word in words for word in _CONTEXT_WORDS)


def error_in_reply(
    problem: Any, *, backend: str, base_url: str, model: str, path: str, retry_after_s: float | None = None
) -> BackendError:
    """Classify an `error` object that stands in a stream or in an answer with status 200.

    A server that breaks off without a usable status had trouble of its own, so that counts as overload.
    """
    named = [problem.get("status"), problem.get("code")] if isinstance(problem, dict) else []
    status = next((number for number in named if isinstance(number, int) and 400 <= number <= 599), 500)
    body = json.dumps({"error": problem}).encode()
    return error_of_status(
        status, body, backend=backend, base_url=base_url, model=model, path=path, retry_after_s=retry_after_s
    )


def _read_error(body: bytes) -> tuple[str, set[str], float | None]:
    """Return the server's message, the short codes beside it, and the seconds that it asks to wait."""
    text = body.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        return text, set(), None
    if isinstance(parsed, list) and len(parsed) == 1:  # Google, where it was asked for a list of chunks
        parsed = parsed[0]
    problem = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    if not isinstance(problem, dict):
        return str(problem), set(), None
    marks, wait_s = google_details(problem)
    marks |= {value for key in ("code", "type") if isinstance(value := problem.get(key), str)}
    message = problem.get("message", problem.get("detail", ""))
    return message if isinstance(message, str) and message else text, marks, wait_s
