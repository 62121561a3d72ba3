"""What an execution used: calls, tokens and money, summed over its events. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from engine.core.kinds import EventType, StepKind
from engine.core.values import Json

_NANO = Decimal(1_000_000_000)
_MOST_NANO = (1 << 63) - 1
"""What a column of the store can hold."""
PARTS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
"""Counts of tokens that others hold: what of a request came from the provider's cache and went there, and thoughts."""
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", *PARTS)
"""All counts of tokens of a reply's `usage`."""


MODEL_KINDS = (StepKind.PROMPT, StepKind.EMBED)
"""Kinds of steps whose calls are calls of a model."""
TOOL_KINDS = (StepKind.TOOL_CALL, StepKind.SEARCH)
"""Kinds whose calls count as calls of a tool; a search may ask a model for a vector, whose tokens and price count."""


def cost_to_nano(cost: Json) -> int | None:
    """Return dollars as text in thousand-millionths, halves rounded up; None if the text is no price."""
    if not isinstance(cost, str):
        return None
    try:
        nano = int((Decimal(cost) * _NANO).to_integral_value(ROUND_HALF_UP))
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return nano if 0 <= nano <= _MOST_NANO else None


def nano_to_cost(nano: int | None) -> str | None:
    """Return thousand-millionths of a dollar as decimal text, such as `0.000123`; None stays None (unknown)."""
    if nano is None:
        return None
    text = f"{Decimal(nano) / _NANO:.9f}".rstrip("0")
    return text.rstrip(".")


def tokens_of(usage: Json | Mapping[str, Any], name: str) -> int | None:
    """Return one of the counts of a reply's `usage`, or None if the backend told none."""
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def parts_text(usage: Json | Mapping[str, Any]) -> str:
    """Return `800 cached, 40 reasoning` for a `usage` or a sum of them; empty if it has none of these parts."""
    words = zip(PARTS, ("cached", "written to the cache", "reasoning"), strict=True)
    return ", ".join(f"{count:,} {word}" for name, word in words if (count := tokens_of(usage, name)))


def is_reply(kind: str, body: Mapping[str, Any]) -> bool:
    """Whether an event tells of a model's reply, which has tokens and a price."""
    if kind != EventType.EFFECT_FINISHED or body.get("outcome") != "ok":
        return False
    # what is searched for by words alone asks no model
    return body.get("kind") in MODEL_KINDS or (body.get("kind") == StepKind.SEARCH and bool(body.get("model")))


@dataclass(slots=True)
class UsageSums:
    """What the events of an execution say that it used.

    Attributes:
        llm_calls: Model calls that were started, repair rounds included.
        tool_calls: Tool calls that were started.
        failed_attempts: Attempts at calls, waits and blocks that failed.
        prompt_tokens: Tokens of the requests, as far as backends told.
        completion_tokens: Tokens of the replies.
        total_tokens: Both.
        cached_tokens: Tokens of requests that came from the providers' caches, as far as backends told.
        cache_write_tokens: Tokens of requests that went into those caches.
        reasoning_tokens: Tokens of replies that models thought with.
        cost_nano: Thousand-millionths of a dollar over the replies whose price is known; None = there is none.
        unpriced_calls: Replies whose price is not known.
    """

    llm_calls: int = 0
    tool_calls: int = 0
    failed_attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int | None = None
    unpriced_calls: int = 0

    def apply(self, kind: str, body: Mapping[str, Any]) -> None:
        """Take one more event of a call."""
        if kind == EventType.EFFECT_STARTED:
            self.llm_calls += body.get("kind") in MODEL_KINDS
            self.tool_calls += body.get("kind") in TOOL_KINDS
        elif kind == EventType.ATTEMPT_FAILED:
            self.failed_attempts += 1
        elif is_reply(kind, body):
            usage = body.get("usage")
            self.add_reply([tokens_of(usage, name) for name in TOKENS], cost_to_nano(body.get("cost")))

    def add_reply(self, counts: Sequence[int | None], cost_nano: int | None) -> None:
        """Take one more reply of a model, with its counts in the order of `TOKENS`; what is not known is None."""
        for name, count in zip(TOKENS, counts, strict=True):
            if count:
                setattr(self, name, getattr(self, name) + count)
        if cost_nano is None:
            self.unpriced_calls += 1
        else:
            self.cost_nano = cost_nano + (self.cost_nano or 0)

    def to_json(self) -> dict[str, Any]:
        """Return {llm_calls, tool_calls, the counts of `TOKENS`, cost, unpriced_calls}."""
        return {
            "llm_calls": self.llm_calls,
            "tool_calls": self.tool_calls,
            **{name: getattr(self, name) for name in TOKENS},
            "cost": nano_to_cost(self.cost_nano),
            "unpriced_calls": self.unpriced_calls,
        }
