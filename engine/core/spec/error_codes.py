"""The error codes that a `retry` may name, and what an unknown one was probably meant to be. Workflow-safe."""

from __future__ import annotations

import difflib
from typing import Final

FAMILIES: Final = frozenset(
    {
        "authority",
        "backend",
        "budget",
        "check",
        "effect",
        "expression",
        "host",
        "loop",
        "race",
        "secret",
        "step",
        "task",
        "tool",
        "wait",
    }
)
CODES: Final = frozenset(
    {
        "authority.denied",
        "backend.auth",
        "backend.bad_reply",
        "backend.cut_off",
        "backend.failed",
        "backend.no_candidate",
        "backend.none_configured",
        "backend.overloaded",
        "backend.rate_limited",
        "backend.timeout",
        "backend.tool_calls",
        "backend.unknown_model",
        "backend.unpriced",
        "backend.unreachable",
        "budget.exhausted",
        "check.failed",
        "effect.outcome_unknown",
        "expression.secret",
        "expression.type",
        "expression.value",
        "loop.too_many_rounds",
        "race.failed",
        "secret.missing",
        "secret.unknown_key",
        "secret.unreadable",
        "step.failed",
        "step.timeout",
        "step.total_timeout",
        "task.error",
        "task.failed",
        "tool.address_refused",
        "tool.bad_arguments",
        "tool.bad_result",
        "tool.crashed",
        "tool.credentials",
        "tool.denied",
        "tool.failed",
        "tool.http_status",
        "tool.interrupted",
        "tool.service_moved",
        "tool.timeout",
        "tool.too_large",
        "wait.expired",
    }
)
"""Codes that the engine itself gives; tools may give others."""
_NEAR: Final = 0.85


def meant_code(code: str) -> str:
    """Return the known code or family that an unknown one nearly is, or an empty text."""
    if code in CODES or code in FAMILIES or len(code) > 100:
        return ""
    family, dot, _ = code.partition(".")
    known = CODES if dot else FAMILIES
    nearest = difflib.get_close_matches(code, sorted(known), n=1, cutoff=_NEAR)
    if nearest or not dot or family in FAMILIES:
        return nearest[0] if nearest else ""
    heads = difflib.get_close_matches(family, sorted(FAMILIES), n=1, cutoff=_NEAR)
    return f"{heads[0]}{code[len(family) :]}" if heads else ""
