"""How an error of an activity is written into Temporal's failure details and read back. Workflow-safe.

An activity raises `ApplicationError(message, body, type=code, non_retryable=True)` where body is the object below;
texts are never parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.core.errors import EngineError, RunError, run_error_from_json

OUTCOME_UNKNOWN = "effect.outcome_unknown"
"""The worker was lost while a call ran that must not be repeated blindly."""
CANCELLED = "effect.cancelled"
"""The engine itself cancelled the call."""

MAX_DETAIL_CHARS = 2_000


def failure_body(error: EngineError, *, retry_after_s: float | None = None) -> dict[str, Any]:
    """Return {code, message, hint?, details?, retryable, retry_after_s?} for an error."""
    body = error.to_json()
    body["retryable"] = error.retryable
    if retry_after_s is not None:
        body["retry_after_s"] = retry_after_s
    return body


def run_error_of(body: Mapping[str, Any]) -> RunError:
    """Rebuild the run error of a failure body; `retry_after_s` lands in the error's details."""
    error = run_error_from_json(body, retryable=bool(body.get("retryable", False)))
    after = body.get("retry_after_s")
    if isinstance(after, (int, float)):
        error.details["retry_after_s"] = float(after)
    return error


def clip(text: str, limit: int = MAX_DETAIL_CHARS) -> str:
    """Bound a foreign text that goes into details."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
